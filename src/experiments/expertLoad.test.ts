import { describe, expect, it } from "vitest";
import type { SourceEvaluation } from "../train/evaluate.ts";
import { describeLoads, expertLoads } from "./expertLoad.ts";

/** A source whose layers' experts received these slots. */
function source(name: string, ...layers: number[][]): SourceEvaluation {
  const expertCounts = layers.map((counts) => Float64Array.from(counts));
  return { source: name, tokens: 8, natsPerToken: 1, textBytes: 8, bitsPerByte: 1, expertCounts };
}

describe("expertLoads", () => {
  it("divides by the even share and orders experts by the kind that uses them most", () => {
    // 16 slots over four experts: an even share is 4. 32 slots: 8.
    const loads = expertLoads([source("a", [2, 8, 2, 4]), source("b", [8, 0, 16, 8])]);
    // Expert 1 is used most by a (2 over 0); 2 most by b (2), 0 and 3 by both alike, which counts for the first: a.
    expect(loads).toEqual([
      {
        layer: 0,
        experts: [1, 3, 2, 0],
        relative: [
          [2, 1, 0.5, 0.5],
          [0, 1, 2, 1],
        ],
      },
    ]);
  });

  it("gives 1 everywhere for an even load, in the order of the ids", () => {
    const [first, second] = expertLoads([source("a", [3, 3, 3], [1, 1, 1]), source("b", [7, 7, 7], [2, 2, 2])]);
    expect(first).toEqual({
      layer: 0,
      experts: [0, 1, 2],
      relative: [
        [1, 1, 1],
        [1, 1, 1],
      ],
    });
    expect(second?.layer).toBe(1);
  });

  it("has no layers for a dense model, and takes a source without a token for no load", () => {
    expect(expertLoads([source("a"), source("b")])).toEqual([]);
    expect(expertLoads([])).toEqual([]);
    expect(expertLoads([source("a", [0, 0])])).toEqual([{ layer: 0, experts: [0, 1], relative: [[0, 0]] }]);
  });
});

describe("layers without experts", () => {
  it("are not counted: the others keep their numbers", () => {
    const sources = [source("a", [3, 1], [1, 1])];
    expect(expertLoads(sources, [1, 3]).map(({ layer }) => layer)).toEqual([1, 3]);
    expect(describeLoads(sources, [1, 3])[0]).toBe("layer 1: a goes to expert 0 1.5 times as often as an even share");
  });
});

describe("describeLoads", () => {
  it("names the most one-sided expert of each layer by its id", () => {
    const sources = [source("prose", [2, 8, 2, 4], [1, 1, 1, 1]), source("code", [0, 0, 16, 0], [0, 3, 1, 0])];
    expect(describeLoads(sources)).toEqual([
      "layer 0: code goes to expert 2 4.0 times as often as an even share",
      "layer 1: code goes to expert 1 3.0 times as often as an even share",
    ]);
    expect(describeLoads([source("a")])).toEqual([]);
  });
});
