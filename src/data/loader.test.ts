import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DataError } from "../errors.ts";
import { type Batch, TokenLoader, type TokenSource } from "./loader.ts";

/** A source whose chunk k of length 4 is base + 10 k, + 1, + 2, + 3. */
function source(name: string, base: number, chunks: number, weight = 1): TokenSource {
  const tokens = Uint16Array.from(
    { length: chunks * 4 + 2 },
    (_, index) => base + 10 * Math.floor(index / 4) + (index % 4),
  );
  return { name, weight, files: [tokens] };
}

const options = { sequenceLength: 4, batchSize: 4, seed: 7, eosTokenId: 0 };
const four = [source("a", 1000, 3), source("b", 2000, 5), source("c", 3000, 7), source("d", 4000, 11)];

/** First id of each row. */
const rows = ({ ids, batchSize, sequenceLength }: Batch) =>
  Array.from({ length: batchSize }, (_, row) => ids[row * sequenceLength]!);

describe("TokenLoader", () => {
  it("gives ids, labels one place on, and document starts", () => {
    const tokens = Uint16Array.of(5, 0, 6, 7, 0, 0, 8, 9);
    const loader = new TokenLoader({
      ...options,
      sequenceLength: 8,
      batchSize: 1,
      sources: [{ name: "a", weight: 1, files: [tokens] }],
    });
    expect(loader.next()).toEqual({
      batchSize: 1,
      sequenceLength: 8,
      ids: Int32Array.of(5, 0, 6, 7, 0, 0, 8, 9),
      labels: Int32Array.of(0, 6, 7, 0, 0, 8, 9, -100),
      kvStart: Int32Array.of(0, 0, 2, 2, 2, 5, 6, 6),
      sources: Int32Array.of(0),
      masked: 0,
      epochs: [1],
    });
  });

  it("visits every chunk once in an epoch, in another order each time", () => {
    const loader = new TokenLoader({ ...options, batchSize: 11, sources: [four[3]!] });
    const [first, second] = [rows(loader.next()), rows(loader.next())];
    const all = Array.from({ length: 11 }, (_, chunk) => 4000 + 10 * chunk);
    expect([...first].sort()).toEqual(all);
    expect([...second].sort()).toEqual(all);
    expect(second).not.toEqual(first);
  });

  it("does not let a chunk cross from one file into the next", () => {
    const files = [Uint16Array.of(1, 2, 3, 4, 5), Uint16Array.of(6, 7, 8), Uint16Array.of(9, 10, 11, 12)];
    const loader = new TokenLoader({ ...options, batchSize: 2, sources: [{ name: "a", weight: 1, files }] });
    expect(rows(loader.next()).sort((a, b) => a - b)).toEqual([1, 9]);
  });

  it("takes four of each of four equal sources into a batch of sixteen", () => {
    const loader = new TokenLoader({ ...options, batchSize: 16, sources: four });
    for (let step = 0; step < 5; step++) {
      const { sources } = loader.next();
      expect([0, 1, 2, 3].map((index) => sources.filter((taken) => taken === index).length)).toEqual([4, 4, 4, 4]);
    }
  });

  it("keeps each source within one sequence of its share", () => {
    const weights = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(weights, fc.integer({ min: 1, max: 9 }), (list, batchSize) => {
        const sources = list.map((weight, index) => source(`s${index}`, 0, 3, weight));
        const loader = new TokenLoader({ ...options, batchSize, sources });
        const total = list.reduce((sum, weight) => sum + weight, 0);
        for (let step = 1; step <= 20; step++) {
          loader.next();
          for (const [index, { taken }] of loader.cursor().sources.entries()) {
            expect(Math.abs(taken - (list[index]! / total) * step * batchSize)).toBeLessThanOrEqual(1 + 1e-9);
          }
        }
      }),
      { seed: 5 },
    );
  });

  it("gives the same batches after a seek to a cursor, across epochs", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 12 }), (steps) => {
        const sources = [source("a", 1000, 3, 2), source("b", 2000, 5), source("c", 3000, 7, 3)];
        const loader = new TokenLoader({ ...options, sources });
        for (let step = 0; step < steps; step++) loader.next();
        const cursor = JSON.parse(JSON.stringify(loader.cursor()));
        const again = new TokenLoader({ ...options, sources });
        again.next();
        again.seek(cursor);
        for (let step = 0; step < 6; step++) expect(again.next()).toEqual(loader.next());
      }),
      { seed: 6 },
    );
  });

  it("gives one stream of sequences whatever the size of the batch", () => {
    const small = new TokenLoader({ ...options, batchSize: 2, sources: four });
    const large = new TokenLoader({ ...options, batchSize: 8, sources: four });
    for (let step = 0; step < 3; step++) {
      const parts = Array.from({ length: 4 }, () => rows(small.next()));
      expect(parts.flat()).toEqual(rows(large.next()));
    }
  });

  it("orders another way with another seed", () => {
    const first = (seed: number) =>
      rows(new TokenLoader({ ...options, seed, batchSize: 11, sources: [four[3]!] }).next());
    expect(first(8)).not.toEqual(first(7));
  });

  it("counts the epochs of each source", () => {
    const loader = new TokenLoader({ ...options, batchSize: 8, sources: [source("a", 0, 3), source("b", 0, 8)] });
    expect(loader.next().epochs).toEqual([4 / 3, 0.5]);
  });

  it("refuses a cursor of other data", () => {
    const loader = new TokenLoader({ ...options, sources: four.slice(0, 2) });
    const cursor = loader.cursor();
    expect(() => new TokenLoader({ ...options, sources: four.slice(0, 1) }).seek(cursor)).toThrow(
      new DataError(
        "loader: the cursor is of sequences of 4 from a (3), b (5), the data has sequences of 4 from a (3)",
        {
          hint: "resume with the recipe and data the run was started with",
        },
      ),
    );
    const broken = { ...cursor, sources: cursor.sources.map((entry) => ({ ...entry, taken: -1 })) };
    expect(() => loader.seek(broken)).toThrow(
      new DataError("loader: the cursor has taken -1 of a, expected a whole number from 0"),
    );
  });

  it("refuses a source shorter than one sequence", () => {
    expect(() => new TokenLoader({ ...options, sequenceLength: 256, sources: [four[0]!] })).toThrow(
      new DataError('source "a": 14 training tokens, one sequence needs 256', {
        hint: "add text or lower train.sequenceLength",
      }),
    );
  });
});
