import { describe, expect, it } from "vitest";
import { deduplicate, findDuplicates, NOTHING, randomWords, sketchTasks } from "../../../test/dedupeCorpus.ts";
import { createRandom, uniform } from "../../util/random.ts";
import { bandsFor } from "./bands.ts";
import { agreeingBins, SIGNATURE_BYTES } from "./minhash.ts";
import { MAX_LEADERS, nearPairs } from "./near.ts";

const NEAR = { near: { threshold: 0.8 } };
const OPTIONS = { ...NOTHING, ...NEAR };
const SHINGLE_WORDS = 5;

/** Two documents of different words with so many shingles each, of which they share the first ones. */
function pairOf(shingles: number, shared: number, seed: number): [string, string] {
  const random = createRandom(seed, `pair/${shared}`);
  const words = randomWords(random, shingles + SHINGLE_WORDS - 1);
  const head = words.slice(0, shared + SHINGLE_WORDS - 1);
  return [words.join(" "), [...head, ...randomWords(random, shingles - shared)].join(" ")];
}

/** Distribution of the number of successes in `draws`. */
function binomial(draws: number, probability: number): number[] {
  let masses = [1];
  for (let draw = 0; draw < draws; draw++) {
    masses = Array.from(
      { length: draw + 2 },
      (_, k) => (masses[k] ?? 0) * (1 - probability) + (masses[k - 1] ?? 0) * probability,
    );
  }
  return masses;
}

function convolve(a: readonly number[], b: readonly number[]): number[] {
  const sums = new Array<number>(a.length + b.length - 1).fill(0);
  for (const [i, x] of a.entries()) for (const [j, y] of b.entries()) sums[i + j]! += x * y;
  return sums;
}

/** Probability that a pair is found: a whole band agrees and enough bins do. Bins agree by chance once in 256 times. */
function foundProbability(similarity: number, threshold: number): number {
  const { bands, rows } = bandsFor(threshold);
  const agreeing = similarity + (1 - similarity) / 256;
  const broken = binomial(rows, agreeing);
  broken[rows]! -= similarity ** rows;
  let none = binomial(SIGNATURE_BYTES - bands * rows, agreeing);
  for (let band = 0; band < bands; band++) none = convolve(none, broken);
  const enough = (masses: readonly number[]) =>
    masses.slice(agreeingBins(threshold)).reduce((sum, mass) => sum + mass, 0);
  return enough(binomial(SIGNATURE_BYTES, agreeing)) - enough(none);
}

describe("near-duplicates", () => {
  it("follow an S-curve around the threshold", () => {
    const curve = [0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1].map((s) => foundProbability(s, 0.8).toFixed(4));
    expect(curve).toEqual(["0.0000", "0.0054", "0.0927", "0.5045", "0.9362", "0.9996", "1.0000", "1.0000"]);
  });

  it.each([0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])(
    "are found at similarity %d as often as the curve says",
    async (similarity) => {
      const shingles = 400;
      const shared = Math.round((2 * similarity * shingles) / (1 + similarity));
      const pairs = 250;
      const texts = Array.from({ length: pairs }, (_, seed) => pairOf(shingles, shared, seed)).flat();
      const { copies } = await deduplicate([texts], NEAR);
      const expected = foundProbability(shared / (2 * shingles - shared), 0.8);
      expect(copies.every((copy) => /^0\/(\d+) near 0\/(\d+)$/.test(copy))).toBe(true);
      expect(Math.abs(copies.length / pairs - expected)).toBeLessThanOrEqual(
        4 * Math.sqrt((expected * (1 - expected)) / pairs) + 1 / pairs,
      );
    },
  );

  it("agree with the true similarity of edited documents, away from the threshold", async () => {
    const random = createRandom(7, "edits");
    const texts = Array.from({ length: 150 }, () => randomWords(random, 300));
    // Between 0 and 30 of the 300 words change: each is in five shingles.
    const edited = texts.map((words, index) =>
      words.map((word) => (uniform(random) < (index % 16) / 150 ? `${word}x` : word)),
    );
    const sets = [texts, edited].map((list) =>
      list.map((words) => new Set(words.slice(4).map((_, index) => words.slice(index, index + 5).join(" ")))),
    ) as [Set<string>[], Set<string>[]];
    const similarity = (index: number) => {
      const [a, b] = [sets[0][index]!, sets[1][index]!];
      const shared = [...a].filter((item) => b.has(item)).length;
      return shared / (a.size + b.size - shared);
    };
    const { copies } = await deduplicate(
      [texts.map((words) => words.join(" ")), edited.map((words) => words.join(" "))],
      NEAR,
    );
    const found = new Set(copies.map((copy) => Number(/^1\/(\d+) near 0\/\1$/.exec(copy)?.[1])));
    const all = texts.map((_, index) => index);
    expect(all.filter((index) => similarity(index) > 0.93 && !found.has(index))).toEqual([]);
    expect(all.filter((index) => similarity(index) < 0.65 && found.has(index))).toEqual([]);
    expect(copies.length).toBe(found.size);
  });

  it("form clusters of what is connected, of which the first document stays", async () => {
    const words = randomWords(createRandom(1, "chain"), 480);
    const chain = [0, 20, 40, 60, 80].map((start) => words.slice(start, start + 400).join(" "));
    const other = randomWords(createRandom(2, "chain"), 400).join(" ");
    expect((await deduplicate([[chain[0]!, chain[4]!]], NEAR)).copies).toEqual([]);
    expect((await deduplicate([[chain[4]!], [other, chain[0]!], chain.slice(1, 4)], NEAR)).copies).toEqual([
      "1/1 near 0/0",
      "2/0 near 0/0",
      "2/1 near 0/0",
      "2/2 near 0/0",
    ]);
  });

  it("do not include documents with few words, which are only compared as a whole", async () => {
    const words = randomWords(createRandom(4, "short"), 30);
    const short = words.slice(0, 23).join(" ");
    const long = words.slice(0, 24).join(" ");
    const texts = [short, `${short}.`, short, long, `${long}!`];
    expect((await deduplicate([texts], { ...NEAR, exact: true })).copies).toEqual(["0/2 exact 0/0", "0/4 near 0/3"]);
  });

  it("are one document where all are equal", async () => {
    const text = randomWords(createRandom(5, "equal"), 100).join(" ");
    const { copies } = await deduplicate([Array(300).fill(text), Array(300).fill(text)], NEAR, 5);
    expect([copies.length, copies[0], copies.at(-1)]).toEqual([599, "0/1 near 0/0", "1/299 near 0/0"]);
  });

  it("are the same for any number of partitions", async () => {
    const random = createRandom(6, "partitions");
    const bases = Array.from({ length: 12 }, () => randomWords(random, 120));
    const tasks = Array.from({ length: 4 }, () =>
      Array.from({ length: 40 }, () => {
        const base = bases[Math.floor(uniform(random) * bases.length)]!;
        return base.map((word) => (uniform(random) < 0.02 ? `${word}x` : word)).join(" ");
      }),
    );
    const sketched = await sketchTasks(tasks, OPTIONS);
    const [one, ...others] = await Promise.all(
      [1, 2, 13, 200].map((count) => findDuplicates(sketched, OPTIONS, count)),
    );
    expect(one!.copies.length).toBeGreaterThan(50);
    expect(others).toEqual([one, one, one]);
  });

  it("are compared with a limited number of leaders for each band", async () => {
    // Documents with one band in common whose signatures have nothing else in common, then each of them once more.
    const documents = MAX_LEADERS + 10;
    const signature = (document: number) => new Uint8Array(SIGNATURE_BYTES).fill(document % documents);
    const source = {
      blocks: async function* () {
        const records = Array.from({ length: 2 * documents }, (_, document) => [1, 2, document]).flat();
        yield { task: 0, records: Uint32Array.from(records) };
      },
      records: 2 * documents,
      signatures: async (_: number, wanted: Uint32Array) =>
        Uint8Array.from([...wanted].flatMap((document) => [...signature(document)])),
    };
    const pairs: number[] = [];
    for await (const block of nearPairs(source, 0.8)) pairs.push(...block);
    expect(pairs).toEqual(
      Array.from({ length: MAX_LEADERS }, (_, document) => [0, documents + document, 0, document]).flat(),
    );
  });
});
