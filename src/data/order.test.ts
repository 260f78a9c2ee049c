import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { numpyShuffledOrder } from "../util/numpyRandom.ts";
import { mixOf } from "./mix.ts";
import { MixedOrder, OlmoOrder, type SequenceOrder, type SourceSize } from "./order.ts";

const size = (name: string, chunks: number, weight = 1, repeat = 1): SourceSize => ({ name, chunks, weight, repeat });

/** The first sequences as "source:chunk". */
function first(order: SequenceOrder, count: number, sources: number): string[] {
  const taken = new Array<number>(sources).fill(0);
  return Array.from({ length: count }, () => {
    const { source, chunk } = order.at(taken);
    taken[source]! += 1;
    return `${source}:${chunk}`;
  });
}

describe("MixedOrder", () => {
  it("takes from each source by its weight, and each sequence once before any again", () => {
    const order = new MixedOrder([size("a", 3, 3), size("b", 8, 1)], 5);
    const places = first(order, 12, 2);
    expect(places.map((place) => place[0]).join("")).toBe("001000100010");
    const ofA = places.filter((place) => place.startsWith("0"));
    for (const pass of [0, 1, 2]) expect(ofA.slice(3 * pass, 3 * pass + 3).sort()).toEqual(["0:0", "0:1", "0:2"]);
  });

  it("gives a place from the counts alone", () => {
    const sources = [size("a", 3, 3), size("b", 8, 1), size("c", 5, 0)];
    fc.assert(
      fc.property(fc.nat(40), fc.nat(1000), (count, seed) => {
        const places = first(new MixedOrder(sources, seed), count + 1, 3);
        const taken = [0, 1, 2].map(
          (source) => places.slice(0, count).filter((place) => place.startsWith(`${source}:`)).length,
        );
        const { source, chunk } = new MixedOrder(sources, seed).at(taken);
        expect(`${source}:${chunk}`).toBe(places[count]);
        expect(taken[2]).toBe(0);
      }),
    );
  });
});

describe("OlmoOrder", () => {
  it("is numpy's shuffle of all sequences, anew in each pass", () => {
    const places = first(new OlmoOrder([size("a", 3), size("b", 4)], 6198), 14, 2);
    const named = (index: number) => (index < 3 ? `0:${index}` : `1:${index - 3}`);
    const expected = [6198, 6199].flatMap((seed) => Array.from(numpyShuffledOrder(7, seed), named));
    expect(places).toEqual(expected);
  });

  it("repeats a source as often as its portion says, a fraction by a draw", () => {
    const places = first(new OlmoOrder([size("a", 4, 1, 2.5), size("b", 3, 1, 1 / 3)], 1), 11, 2);
    const counts = ["0:0", "0:1", "0:2", "0:3"].map((name) => places.filter((place) => place === name).length);
    expect(counts.toSorted()).toEqual([2, 2, 3, 3]);
    expect(places.filter((place) => place.startsWith("1:")).length).toBe(1);
  });
});

describe("mixOf", () => {
  const sources = [
    { name: "web", weight: 2, tokens: 1000 },
    { name: "code", weight: 1, tokens: 100 },
  ];
  const mix = (order: "mixed" | "olmo", portions: Record<string, object>) =>
    mixOf(sources, { stages: { one: { order, sources: portions } } }, "one");

  it("takes weights, of the stage or the sources' own", () => {
    expect(mixOf(sources, { stages: {} })).toEqual([
      { weight: 2, repeat: 1 },
      { weight: 1, repeat: 1 },
    ]);
    expect(mix("mixed", { code: { weight: 0 } })).toEqual([
      { weight: 2, repeat: 1 },
      { weight: 0, repeat: 1 },
    ]);
  });

  it("takes tokens and repetitions, and once what is not named", () => {
    expect(mix("mixed", { code: { tokens: 250 } })).toEqual([
      { weight: 1000, repeat: 1 },
      { weight: 250, repeat: 2.5 },
    ]);
    expect(mix("olmo", { web: { repeat: 0.5 } })).toEqual([
      { weight: 500, repeat: 0.5 },
      { weight: 100, repeat: 1 },
    ]);
  });
});
