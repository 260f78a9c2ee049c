import { describe, expect, it } from "vitest";
import { deduplicate, randomWords } from "../../../test/dedupeCorpus.ts";
import { createRandom, uniform } from "../../util/random.ts";
import { BucketFilters, filterBits, probesFor } from "./bloom.ts";
import { paragraphSpans } from "./paragraphs.ts";

const PARAGRAPHS = { paragraphs: { minLength: 4, errorRate: 1e-4 } };

describe("Bloom filters", () => {
  it("have 19.2 bits and 13 probes for each key at the default rate", () => {
    expect([probesFor(1e-4), filterBits(1000, 1e-4), filterBits(0, 1e-4), probesFor(0.1), probesFor(1e-9)]).toEqual([
      13, 19_173, 0, 3, 30,
    ]);
  });

  it.each([
    [0.05, 10, 2000],
    [0.01, 1000, 50],
    [1e-4, 50_000, 4],
  ])(
    "take new keys for known with probability %d, filled with %i keys in each of %i buckets",
    (rate, keys, buckets) => {
      const random = createRandom(11, `bloom/${rate}`);
      const filters = new BucketFilters(Array(buckets).fill(keys), rate);
      const word = () => random.next() >>> 0;
      for (let bucket = 0; bucket < buckets; bucket++) {
        for (let key = 0; key < keys; key++) filters.add(bucket, word(), word());
      }
      // Each new key goes into a bucket and makes it fuller, so there are few of them.
      const trials = Math.ceil(keys * 0.02) * buckets;
      let known = 0;
      for (let trial = 0; trial < trials; trial++) if (filters.add(trial % buckets, word(), word())) known++;
      const expected = rate * trials;
      expect(known).toBeLessThanOrEqual(1.1 * expected + 4 * Math.sqrt(expected));
      expect(known).toBeGreaterThanOrEqual(0.9 * expected - 4 * Math.sqrt(expected));
    },
  );

  it("know every key that was added", () => {
    const random = createRandom(12, "bloom");
    const keys = Array.from({ length: 5000 }, () => [random.next() >>> 0, random.next() >>> 0] as const);
    const filters = new BucketFilters([5000], 1e-4);
    for (const [high, low] of keys) filters.add(0, high, low);
    expect(keys.every(([high, low]) => filters.add(0, high, low))).toBe(true);
  });
});

describe("paragraph deduplication", () => {
  it("cuts later copies, in other documents and in the same one, and keeps short ones", async () => {
    const { cuts } = await deduplicate([["first\nsecond\nabc\nsecond"], ["abc\n\nfirst\n", "second"]], PARAGRAPHS);
    expect(cuts).toEqual(["0/0/3", "1/0/2", "1/1/0"]);
  });

  it("does not count paragraphs of documents that are dropped", async () => {
    const words = randomWords(createRandom(13, "dropped"), 200).join(" ");
    const options = { ...PARAGRAPHS, near: { threshold: 0.8 } };
    const tasks = [[words], [`${words}\nonly here`, "only here", "only here"]];
    expect(await deduplicate(tasks, options)).toEqual({ copies: ["1/0 near 0/0"], cuts: ["1/2/0"] });
  });

  it("finds nothing in an empty corpus and keeps one of many equal paragraphs", async () => {
    expect((await deduplicate([], PARAGRAPHS)).cuts).toEqual([]);
    const { cuts } = await deduplicate([[Array(200).fill("the same").join("\n")]], PARAGRAPHS, 3);
    expect([cuts.length, cuts[0], cuts.at(-1)]).toEqual([199, "0/0/1", "0/0/199"]);
  });

  it("is what a set finds but for false positives, and the same for any number of partitions", async () => {
    const random = createRandom(14, "paragraphs");
    const rate = 0.01;
    const tasks = Array.from({ length: 6 }, () =>
      Array.from({ length: 100 }, () =>
        Array.from({ length: 20 }, () => `paragraph ${Math.floor(uniform(random) * 30_000)}`).join("\n"),
      ),
    );
    const options = { paragraphs: { minLength: 4, errorRate: rate } };
    const outcomes = await Promise.all([1, 5, 100].map((partitions) => deduplicate(tasks, options, partitions)));
    expect(outcomes.slice(1)).toEqual([outcomes[0], outcomes[0]]);
    const cuts = new Set(outcomes[0]!.cuts);
    const seen = new Set<string>();
    let [missed, wrong, unique] = [0, 0, 0];
    for (const [task, texts] of tasks.entries()) {
      for (const [document, text] of texts.entries()) {
        for (const [paragraph, piece] of text.split("\n").entries()) {
          const cut = cuts.has(`${task}/${document}/${paragraph}`);
          if (seen.has(piece) && !cut) missed++;
          if (!seen.has(piece)) unique++;
          if (!seen.has(piece) && cut) wrong++;
          seen.add(piece);
        }
      }
    }
    // The rate is that of a full filter; buckets here have three paragraphs each, and filters start out empty.
    expect([missed, wrong < rate * unique + 4 * Math.sqrt(rate * unique), unique > 9000]).toEqual([0, true, true]);
  });

  it("gives the spans of paragraphs with their line feeds", () => {
    const text = "one\n\nthree\nfour";
    const spans = paragraphSpans(text, new Set([0, 2, 3, 9]));
    expect(spans).toEqual([
      [0, 4, 1],
      [5, 11, 1],
      [11, 15, 1],
    ]);
    expect(paragraphSpans("", new Set([0]))).toEqual([[0, 0, 1]]);
  });
});
