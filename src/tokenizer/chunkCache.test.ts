import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { Tokenizer as NativeTokenizer } from "tokenizers";
import { describe, expect, it } from "vitest";
import { cachedEncoder, isChunkable } from "./chunkCache.ts";
import { trainTokenizer } from "./io.ts";

const released = new URL("../../../shared/data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json", import.meta.url);
const trained = trainTokenizer([readFileSync(new URL("./chunkCache.ts", import.meta.url), "utf8")], { vocabSize: 400 });

/** The trained tokenizer with tokens as OLMoE's has them: runs of spaces, masks, and the end of a text. */
const withSpaces = JSON.parse(trained.toJson());
const added = ["  ", "   ", "    ", "|||EMAIL_ADDRESS|||", "\n\n"].map((content, index) => {
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: true, special: false };
  return { ...plain, id: 400 + index, content };
});
withSpaces.added_tokens.push(...added);

const texts = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        ..." \n\t\r.,;:!?)\"'(_-<|",
        "  ",
        "\u00a0",
        "\u0085",
        "\u3000",
        "\u2028",
        "\ufeff",
        "\u200b",
        "\x1f",
      ),
      fc.constantFrom(
        "word",
        "it's",
        "don't",
        "<|endoftext|>",
        "|||EMAIL_ADDRESS|||",
        "e\u0301",
        "\u0301",
        "12",
        "\u4f60\u597d",
      ),
      fc.string({ unit: "grapheme", maxLength: 4 }),
      fc.constant("x".repeat(30)),
    ),
    { maxLength: 40 },
  )
  .map((parts) => parts.join(""));

function encoders(json: string) {
  const native = NativeTokenizer.fromString(json);
  const whole = async (given: readonly string[]) => {
    const encodings = await native.encodeBatch([...given], { addSpecialTokens: false });
    return encodings.map((encoding) => encoding.getIds());
  };
  return { whole, cached: cachedEncoder(whole) };
}

async function expectSameIds(json: string): Promise<void> {
  expect(isChunkable(JSON.parse(json))).toBe(true);
  const { whole, cached } = encoders(json);
  await fc.assert(
    fc.asyncProperty(fc.array(texts, { maxLength: 4 }), async (given) => {
      expect((await cached(given)).map((ids) => Array.from(ids))).toEqual(await whole(given));
    }),
    { numRuns: 1000 },
  );
}

describe("encoding in chunks", () => {
  it("gives the ids of the whole text, whatever the text", async () => {
    await expectSameIds(JSON.stringify(withSpaces));
  });

  it.skipIf(!existsSync(released))("does so with the released tokenizer (skipped where it is absent)", async () => {
    await expectSameIds(readFileSync(released, "utf8"));
  });

  it("encodes a word once, and does so again where the first try failed", async () => {
    const asked: string[][] = [];
    const encode = cachedEncoder(async (given) => {
      asked.push([...given]);
      if (asked.length === 1) throw new Error("no");
      return given.map((text) => [text.length]);
    });
    await expect(encode(["one two"])).rejects.toThrow("no");
    expect(await Promise.all([encode(["one two, two"]), encode(["one two"])])).toEqual([
      [Int32Array.of(3, 4, 1, 4)],
      [Int32Array.of(3, 4)],
    ]);
    expect(await encode(["one, two"])).toEqual([Int32Array.of(3, 1, 4)]);
    expect(asked).toEqual([
      ["one", " two"],
      ["one", " two", ","],
      ["one", " two"],
    ]);
  });

  it("keeps as many words as it has room for, and forgets the older ones", async () => {
    let asked = 0;
    const encode = cachedEncoder(async (given) => {
      asked += given.length;
      return given.map(() => [1]);
    });
    for (let first = 0; first < 300_000; first += 10_000) {
      await encode([Array.from({ length: 10_000 }, (_, index) => ` ${first + index}`).join("")]);
    }
    expect(asked).toBe(300_000);
    await encode([" 299999 0"]);
    expect(asked).toBe(300_001);
  });

  it("is not for tokenizers whose words reach over white space", () => {
    const changed = (change: object) => isChunkable({ ...withSpaces, ...change });
    const { pre_tokenizer: words, model } = withSpaces;
    const token = (change: object) => changed({ added_tokens: [{ ...added[0], ...change }] });
    expect({
      split: changed({ pre_tokenizer: { type: "Split" } }),
      prefixed: changed({ pre_tokenizer: { ...words, add_prefix_space: true } }),
      whole: changed({ pre_tokenizer: { ...words, use_regex: false } }),
      normalizer: changed({ normalizer: { type: "NFKC" } }),
      dropout: changed({ model: { ...model, dropout: 0.1 } }),
      words: token({ content: "two words" }),
      mark: token({ content: "a.b" }),
      rstrip: token({ rstrip: true }),
      nothing: isChunkable(null),
    }).toEqual({
      split: false,
      prefixed: false,
      whole: false,
      normalizer: false,
      dropout: false,
      words: false,
      mark: false,
      rstrip: false,
      nothing: false,
    });
  });
});
