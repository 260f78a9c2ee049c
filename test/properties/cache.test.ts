/**
 * Laws of the paged cache: what a sequence's tokens give follows from the sequence alone, however it was cut into passes,
 * whatever else was in them, wherever its pages lie, and whether it was forked or cut and read again.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backend/backend.ts";
import { type CacheType, PagePool, type SequenceCache } from "../../src/model/cache.ts";
import type { Decoder } from "../../src/model/decoder.ts";
import { Draw } from "../conformance/harness.ts";
import { allBackends, createDecoder, logitsOf, smallConfig } from "../models.ts";

const VOCABULARY = 50;
const PAGES = 40;
const MOST = 150;

/** What is done next: a pass of some sequences, a fork, or a cut. Numbers are taken modulo what there is. */
const anyStep = fc.oneof(
  { weight: 5, arbitrary: fc.record({ pass: fc.array(fc.nat(60), { minLength: 1, maxLength: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ fork: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ cut: fc.nat(3), to: fc.nat(MOST) }) },
);
type Step = typeof anyStep extends fc.Arbitrary<infer T> ? T : never;

interface Sequence {
  cache: SequenceCache;
  /** What it has read, and the logits [V] of each. */
  ids: number[];
  logits: Float32Array[];
}

const rowsOf = (logits: Float32Array) =>
  Array.from({ length: logits.length / VOCABULARY }, (_, row) =>
    logits.slice(row * VOCABULARY, (row + 1) * VOCABULARY),
  );

/** One pass that gives each of the first sequences as many new tokens as is asked, up to the context. */
function pass(backend: Backend, decoder: Decoder, sequences: Sequence[], counts: readonly number[], draw: Draw) {
  const parts = sequences.slice(0, counts.length).map((sequence, index) => {
    const tokens = Math.min(counts[index] as number, MOST - sequence.ids.length);
    return { sequence, ids: [...draw.ints(tokens, 0, VOCABULARY - 1)] };
  });
  const ids = parts.flatMap((part) => part.ids);
  const options = { sequences: parts.map((part) => ({ tokens: part.ids.length, cache: part.sequence.cache })) };
  const rows = rowsOf(logitsOf(backend, decoder, ids, options));
  for (const { sequence, ids: added } of parts) {
    sequence.ids.push(...added);
    sequence.logits.push(...rows.splice(0, added.length));
  }
}

/** Follows the steps with four sequences over one pool, whose pages a stranger has mixed up before. */
function follow(backend: Backend, decoder: Decoder, pool: PagePool, steps: readonly Step[], seed: number): Sequence[] {
  const draw = new Draw(seed);
  const strangers = Array.from({ length: PAGES }, () => pool.take());
  while (strangers.length > 0) pool.release(strangers.splice(draw.int(0, strangers.length - 1), 1)[0] as number);
  const sequences = Array.from({ length: 4 }, (): Sequence => ({ cache: pool.sequence(), ids: [], logits: [] }));
  for (const step of steps) {
    if ("pass" in step) pass(backend, decoder, sequences, step.pass, draw);
    else if ("fork" in step) {
      const source = sequences[step.fork] as Sequence;
      // The copy takes the place of the oldest sequence, so that both are in later passes.
      sequences.shift()?.cache.release();
      if (sequences.includes(source)) {
        sequences.push({ cache: source.cache.fork(), ids: [...source.ids], logits: [...source.logits] });
      } else sequences.push({ cache: pool.sequence(), ids: [], logits: [] });
    } else {
      const sequence = sequences[step.cut] as Sequence;
      sequence.cache.truncate(step.to);
      sequence.ids.length = sequence.logits.length = sequence.cache.length;
    }
  }
  return sequences;
}

describe.each(allBackends)("the cache on %s", (_, backend) => {
  const decoder = createDecoder(backend, smallConfig({ numHiddenLayers: 2 }));

  it.each<CacheType>(["f32", "f16", "q8_0"])("of %s gives each sequence the bits that it has alone", (type) => {
    const property = fc.property(fc.array(anyStep, { minLength: 1, maxLength: 8 }), fc.nat(), (steps, seed) => {
      const pool = new PagePool(backend, decoder.config, { pages: PAGES, type });
      try {
        for (const { cache, ids, logits } of follow(backend, decoder, pool, steps, seed)) {
          cache.release();
          if (ids.length === 0) continue;
          const alone = pool.sequence();
          const whole = logitsOf(backend, decoder, ids, { sequences: [{ tokens: ids.length, cache: alone }] });
          alone.release();
          expect(logits).toEqual(rowsOf(whole));
          // Nothing is rounded in f32: the pass of training has the same bits.
          if (type === "f32") expect(logitsOf(backend, decoder, ids)).toEqual(whole);
        }
        expect(pool.freePages).toBe(PAGES);
      } finally {
        pool.dispose();
      }
    });
    fc.assert(property, { seed: 5, numRuns: backend.name === "reference" ? 4 : 12 });
  });
});
