import { describe, expect, it } from "vitest";
import { randomWords } from "../../../test/dedupeCorpus.ts";
import { createRandom } from "../../util/random.ts";
import { bandKeys, bandsFor, comparedProbability } from "./bands.ts";
import { agreeingBins, minhash, SIGNATURE_BYTES } from "./minhash.ts";
import { createShingler } from "./shingles.ts";

const shingle = createShingler();
const hashesOf = (text: string) => Array.from(shingle(text));

describe("shingles", () => {
  it("are as many as words next to each other in fives", () => {
    expect(
      ["", "one two three four", "one two three four five", "a b c d e f g"].map((text) => hashesOf(text).length),
    ).toEqual([0, 0, 1, 3]);
  });

  it("do not see case, white space and punctuation", () => {
    const plain = hashesOf("it was the best of times it was the worst of times");
    expect(hashesOf('  It was the BEST of times;\n\tit was -- the "worst" of times.')).toEqual(plain);
    expect(hashesOf("ÉTÉ ÜBER ΑΒΓ ДОМ İx")).toEqual(hashesOf("été über αβγ дом ix"));
  });

  it("see every word, its letters and the order", () => {
    const texts = [
      "a b c d e",
      "a b c d f",
      "b a c d e",
      "ab c d e f",
      "a b c d é",
      "a b c d 1",
      "e d c b a",
      "a a a a a",
    ];
    expect(new Set(texts.flatMap(hashesOf)).size).toBe(texts.length);
  });

  it("take each character of a script without spaces for a word", () => {
    expect(hashesOf("深度学习模型")).toEqual(hashesOf("深 度 学 习 模 型"));
    expect(hashesOf("ab深度学习cd")).toEqual(hashesOf("ab 深 度 学 习 cd"));
  });

  it("depend on their own words alone, wherever they stand", () => {
    const words = randomWords(createRandom(1, "shingles"), 3000);
    const all = hashesOf(words.join(" "));
    expect(all).toEqual(all.map((_, index) => hashesOf(words.slice(index, index + 5).join(" "))[0]));
  });
});

/** Signatures of two sets that share so many of their hashes. */
function signatures(shared: number, own: number, seed: number): [Uint32Array, Uint32Array] {
  const random = createRandom(seed, "sets");
  const all = Uint32Array.from({ length: shared + 2 * own }, () => random.next() >>> 0);
  const values = [new Uint32Array(SIGNATURE_BYTES), new Uint32Array(SIGNATURE_BYTES)] as [Uint32Array, Uint32Array];
  minhash(all.slice(0, shared + own), values[0]);
  minhash(Uint32Array.of(...all.slice(0, shared), ...all.slice(shared + own)), values[1]);
  return values;
}

describe("minhash", () => {
  it.each([
    [1, 0],
    [16, 4],
    [80, 20],
    [400, 600],
    [3000, 1000],
  ])("agrees in a bin as often as sets are alike that share %i hashes and have %i more each", (shared, own) => {
    const rounds = 200;
    let agreeing = 0;
    for (let seed = 0; seed < rounds; seed++) {
      const [a, b] = signatures(shared, own, seed);
      agreeing += a.filter((value, bin) => value === b[bin]).length / SIGNATURE_BYTES;
    }
    const similarity = shared / (shared + 2 * own);
    // Of small sets the bins are not independent: there are at most as many draws as hashes.
    const deviation = Math.sqrt((similarity * (1 - similarity)) / (Math.min(SIGNATURE_BYTES, shared + own) * rounds));
    expect(Math.abs(agreeing / rounds - similarity)).toBeLessThanOrEqual(4 * deviation);
  });

  it("does not see how often or in which order hashes come", () => {
    const [a, b, c] = [0, 1, 2].map(() => new Uint32Array(SIGNATURE_BYTES)) as [Uint32Array, Uint32Array, Uint32Array];
    minhash(Uint32Array.of(3, 1, 2), a);
    minhash(Uint32Array.of(1, 2, 3, 3, 3), b);
    minhash(
      Uint32Array.from({ length: 200_000 }, (_, index) => 1 + (index % 3)),
      c,
    );
    expect([b, c]).toEqual([a, a]);
  });
});

describe("bands", () => {
  it("are chosen so that documents at the threshold are compared in nine of ten cases", () => {
    expect([0.5, 0.7, 0.8, 0.9, 1].map(bandsFor)).toEqual([
      { bands: 42, rows: 3 },
      { bands: 21, rows: 6 },
      { bands: 16, rows: 8 },
      { bands: 9, rows: 14 },
      { bands: 4, rows: 32 },
    ]);
    const shares = [0.5, 0.6, 0.7, 0.8, 0.9].map((s) => comparedProbability(s, bandsFor(0.8)).toFixed(3));
    expect(shares).toEqual(["0.061", "0.237", "0.613", "0.947", "1.000"]);
  });

  it("have keys that differ where a row of the band does and from band to band", () => {
    const values = new Uint32Array(SIGNATURE_BYTES).fill(7);
    const keysOf = () => {
      const keys = new Uint32Array(32);
      bandKeys(values, bandsFor(0.8), keys);
      return Array.from({ length: 16 }, (_, band) => `${keys[2 * band]} ${keys[2 * band + 1]}`);
    };
    const before = keysOf();
    values[17] = 8;
    expect(new Set(before).size).toBe(16);
    expect(keysOf().flatMap((key, band) => (key === before[band] ? [] : [band]))).toEqual([2]);
  });

  it("need so many agreeing bins", () => {
    expect([0.5, 0.8, 1].map(agreeingBins)).toEqual([65, 103, 128]);
  });
});
