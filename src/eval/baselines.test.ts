import { describe, expect, test } from "vitest";
import { brotliBitsPerByte } from "./baselines.io.ts";
import { bigramModel } from "./baselines.ts";

// Run one is 0 1 0 1 0 2, run two is 2 2. Tokens: 0 three times, 1 twice, 2 three times; 3 never.
// Pairs: 0 1 twice, 0 2 once, 1 0 twice, 2 2 once. No pair 2 2 across the runs: that one is inside run two.
const RUNS = [[0, 1, 0, 1, 0, 2], Uint16Array.of(2, 2), []];

// d = 0.75. Unigram: 3 distinct tokens of 8, so 0.75 * 3 / 4 = 0.5625 is spread evenly over the 4.
const P0 = (3 - 0.75 + 0.5625) / 8;
const P1 = (2 - 0.75 + 0.5625) / 8;
const P3 = 0.5625 / 8;

describe("bigramModel", () => {
  const model = bigramModel(RUNS, 4);

  test("discounts the unigram towards the uniform distribution", () => {
    expect([0, 1, 2, 3].map((token) => model.probability(undefined, token))).toBeAllClose([P0, P1, P0, P3], {
      atol: 1e-15,
    });
  });

  test("discounts the pairs towards the unigram", () => {
    // After 0: three pairs, two different tokens.
    expect([0, 1, 2, 3].map((token) => model.probability(0, token))).toBeAllClose(
      [(1.5 * P0) / 3, (1.25 + 1.5 * P1) / 3, (0.25 + 1.5 * P0) / 3, (1.5 * P3) / 3],
      { atol: 1e-15 },
    );
    // After 2: the one pair of run two.
    expect(model.probability(2, 2)).toBeCloseTo(0.25 + 0.75 * P0, 15);
  });

  test("falls back to the unigram after a token that no pair starts with", () => {
    expect(model.probability(3, 1)).toBe(model.probability(undefined, 1));
  });

  test("sums to 1 after every token", () => {
    const ids = Array.from({ length: 5000 }, (_, index) => (index * index * 7 + (index >> 3)) % 97);
    const larger = bigramModel([ids.slice(0, 1000), ids.slice(1000)], 120);
    for (let previous = -1; previous < 120; previous++) {
      let sum = 0;
      for (let token = 0; token < 120; token++) {
        sum += larger.probability(previous === -1 ? undefined : previous, token);
      }
      expect(sum).toBeCloseTo(1, 12);
    }
  });

  test("agrees with counting in a map", () => {
    const ids = Array.from({ length: 3000 }, (_, index) => (index * index * 11 + (index >> 2)) % 53);
    const counts = new Map<string, number>();
    for (let index = 1; index < ids.length; index++) {
      const key = `${ids[index - 1]} ${ids[index]}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const larger = bigramModel([ids], 53, { discount: 0.5 });
    const rowOf = (first: number) => [...counts].filter(([key]) => key.startsWith(`${first} `));
    for (const [key, count] of counts) {
      const [first, second] = key.split(" ").map(Number) as [number, number];
      const row = rowOf(first);
      const total = row.reduce((sum, [, inRow]) => sum + inRow, 0);
      const expected = (count - 0.5 + 0.5 * row.length * larger.probability(undefined, second)) / total;
      expect(larger.probability(first, second)).toBeCloseTo(expected, 12);
    }
  });

  test("scores a stream from an empty context", () => {
    const after1 = (2 - 0.75 + 0.75 * P0) / 2;
    expect(model.nats([1, 0, 3])).toBeCloseTo(-Math.log(P1) - Math.log(after1) - Math.log((1.5 * P3) / 3), 12);
    expect(model.nats([])).toBe(0);
  });

  test("is uniform without training tokens", () => {
    expect(bigramModel([], 8).probability(3, 5)).toBe(1 / 8);
  });

  test.each([[4], [-1], [1.5], [Number.NaN]])("refuses the token id %s", (id) => {
    expect(() => bigramModel([[0, id]], 4)).toThrow(
      `bigramModel: training tokens: token id ${id}, the vocabulary holds 0 to 3`,
    );
    expect(() => model.nats([id])).toThrow(`bigram: token id ${id}, the vocabulary holds 0 to 3`);
  });

  test("refuses impossible options", () => {
    expect(() => bigramModel([], 0)).toThrow("bigramModel: vocabSize is 0, must be a whole number from 1 to 16777216");
    expect(() => bigramModel([], 4, { discount: 1 })).toThrow(
      "bigramModel: discount is 1, must be greater than 0 and less than 1",
    );
  });
});

describe("brotliBitsPerByte", () => {
  test("is small for repeated text, and above 8 where the format outweighs the text", () => {
    expect(brotliBitsPerByte("the same words again. ".repeat(500))).toBeLessThan(0.05);
    expect(brotliBitsPerByte("x")).toBeGreaterThan(8);
  });

  test("counts bytes of UTF-8", () => {
    // Two bytes a letter: as many compressed bytes, twice as many bytes of text.
    expect(brotliBitsPerByte("\u00e9".repeat(1000))).toBeLessThan(0.2);
  });

  test("refuses an empty text", () => {
    expect(() => brotliBitsPerByte("")).toThrow("brotliBitsPerByte: the text is empty, needs at least 1 byte");
  });
});
