import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Tokenizer as NativeTokenizer } from "tokenizers";
import { describe, expect, it } from "vitest";
import { TokenizerError } from "../errors.ts";
import { trainBpe } from "./bpeTrainer.ts";
import { trainTokenizer } from "./io.ts";

const source = ["./bpeTrainer.ts", "./gguf.ts", "./io.ts"]
  .map((file) => readFileSync(new URL(file, import.meta.url), "utf8"))
  .join("\n\n");
const specialTokens = ["<|endoftext|>", "<|padding|>"];

/** Merges that Hugging Face's own trainer learns from words, which stand between spaces. */
function nativeMerges(words: readonly string[]): [string, string][] {
  const folder = mkdtempSync(path.join(tmpdir(), "olmoe-bpe-"));
  try {
    writeFileSync(path.join(folder, "words.txt"), words.join(" "));
    const native = NativeTokenizer.fromString(
      JSON.stringify({
        version: "1.0",
        added_tokens: [],
        pre_tokenizer: { type: "WhitespaceSplit" },
        model: { type: "BPE", vocab: {}, merges: [] },
      }),
    );
    native.train([path.join(folder, "words.txt")]);
    native.save(path.join(folder, "out.json"));
    return JSON.parse(readFileSync(path.join(folder, "out.json"), "utf8")).model.merges;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("trainBpe", () => {
  it("merges the most frequent pair first, and on a tie the pair of lower ids", () => {
    const counts = new Map([
      ["abab", 2],
      ["cab", 3],
      ["xy", 1],
      ["xz", 1],
    ]);
    const { tokens, merges } = trainBpe(counts, { vocabSize: 263, specialTokens });
    // ab occurs 7 times; c+ab 3; ab+ab 2; then x+y and x+z tie at 1, and y has the lower id.
    expect(merges).toEqual([
      ["a", "b"],
      ["c", "ab"],
      ["ab", "ab"],
      ["x", "y"],
      ["x", "z"],
    ]);
    expect(tokens.slice(0, 3)).toEqual(["<|endoftext|>", "<|padding|>", "!"]);
    expect(tokens.slice(258)).toEqual(["ab", "cab", "abab", "xy", "xz"]);
  });

  it("learns the merges of Hugging Face's trainer", () => {
    const words = source.match(/[A-Za-z]+|[^A-Za-z\s]+/g)!.map((word) => word.replace(/[^\x21-\x7e]/g, ""));
    const counts = new Map<string, number>();
    for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
    const expected = nativeMerges(words);
    const { merges } = trainBpe(counts, { vocabSize: 258 + 600, specialTokens });
    expect(merges.length).toBeGreaterThanOrEqual(600);
    expect(merges).toEqual(expected.slice(0, merges.length));
  });
});

describe("trainTokenizer", () => {
  it("writes the same bytes for the same text, whatever the order of the documents", () => {
    const texts = source.split("\n\n");
    const json = trainTokenizer(texts, { vocabSize: 500 }).toJson();
    expect(trainTokenizer([...texts].reverse(), { vocabSize: 500 }).toJson()).toBe(json);
  });

  it("makes exactly vocabSize entries with the special tokens first", async () => {
    const tokenizer = trainTokenizer([source], { vocabSize: 400 });
    const { vocabSize, eosTokenId, padTokenId } = tokenizer;
    expect({ vocabSize, eosTokenId, padTokenId }).toEqual({ vocabSize: 400, eosTokenId: 0, padTokenId: 1 });
    expect(Object.keys(JSON.parse(tokenizer.toJson()).model.vocab).length).toBe(400);
    expect(await tokenizer.encode("<|padding|><|endoftext|>")).toEqual(Int32Array.of(1, 0));
  });

  it("learns indentation after a line end as one token", async () => {
    const tokenizer = trainTokenizer(["{\n    a();\n    b();\n    c();\n}\n"], { vocabSize: 265 });
    expect(Array.from(await tokenizer.encode("\n   "), (id) => tokenizer.tokenText(id))).toEqual(["\n   "]);
  });

  it("says how many entries a text is good for", () => {
    expect(() => trainTokenizer(["abc abc"], { vocabSize: 4096 })).toThrow(
      new TokenizerError("tokenizer: the text gives 261 entries, vocabSize is 4096", {
        hint: "lower tokenizer.vocabSize to at most 261, or add text",
      }),
    );
    expect(() => trainTokenizer(["abc abc"], { vocabSize: 257 })).toThrow(
      new TokenizerError("tokenizer: vocabSize is 257, the 256 bytes and 2 special tokens need 258"),
    );
  });

  it("stops when it is aborted", () => {
    expect(() => trainTokenizer(["abc"], { vocabSize: 300, signal: AbortSignal.abort() })).toThrow("aborted");
  });
});
