import { describe, expect, it } from "vitest";
import { chunkOf } from "../../test/routingTraces.ts";
import { type SampleShape, SequenceSampler } from "./sequenceSample.ts";

/** Two layers, of which the second is wanted; two slots. Sequence s has s % 3 + 1 tokens of id s. */
const shape = { numExperts: 200, slots: 2, layers: [0, 3] };
const runs = Array.from({ length: 12 }, (_, sequence) => ({
  sequence,
  tokens: Array.from({ length: (sequence % 3) + 1 }, () => ({
    id: sequence,
    experts: [
      [0, 0],
      [sequence, 150],
    ],
  })),
}));
const wanted = { places: [1], slots: 2, k: 2, numExperts: 200 };

function sampleOf(order: readonly number[], options: Partial<SampleShape> = {}) {
  const sampler = new SequenceSampler({ ...wanted, ...options });
  for (const sequence of order) {
    const chunk = chunkOf(0, [runs[sequence]!], shape);
    sampler.add(sequence, chunk.ids!, chunk, 0);
  }
  return sampler.result();
}

const forward = runs.map(({ sequence }) => sequence);
const idsOf = ({ sequences }: ReturnType<typeof sampleOf>) => sequences.map((pieces) => pieces[0]!.ids[0]!);

describe("a sample of sequences", () => {
  it("is all of them where there is room, in order, with the experts of the wanted layers and ranks", () => {
    const sample = sampleOf([4, 0]);
    const experts = Int16Array.of(4, 150, 4, 150);
    expect(sample).toEqual({
      complete: true,
      sequences: [[{ ids: Int32Array.of(0), experts: Int16Array.of(0, 150) }], [{ ids: Int32Array.of(4, 4), experts }]],
    });
    expect(sampleOf([4], { k: 1, numExperts: 127 }).sequences[0]![0]!.experts).toEqual(Int8Array.of(4, 4));
  });

  it("is the same in whatever order and pieces they come, in bounded memory", () => {
    const few = sampleOf(forward, { mostSequences: 5 });
    expect(few.complete).toBe(false);
    expect(few.sequences).toHaveLength(5);
    // A token has 4 bytes of its id and 4 of two experts.
    const small = sampleOf(forward, { mostBytes: 12 * 8 });
    expect(small.complete).toBe(false);
    const tokens = small.sequences.flat().reduce((sum, { ids }) => sum + ids.length, 0);
    expect(tokens).toBeLessThanOrEqual(12);
    expect(tokens).toBeGreaterThan(9);
    for (const order of [forward.toReversed(), [...forward.slice(5), ...forward.slice(0, 5)]]) {
      expect(sampleOf(order, { mostSequences: 5 })).toEqual(few);
      expect(sampleOf(order, { mostBytes: 12 * 8 })).toEqual(small);
    }
    const sampler = new SequenceSampler({ ...wanted, mostSequences: 5 });
    for (const { sequence, tokens } of runs) {
      for (const { id, experts } of tokens) sampler.addToken(sequence, id, Int16Array.from(experts[1]!));
    }
    expect(idsOf(sampler.result())).toEqual(idsOf(few));
  });

  it("is none of sequences that are too long", () => {
    expect(sampleOf(forward, { mostBytes: 7 })).toEqual({ complete: false, sequences: [] });
  });
});
