import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TokenizerError } from "../errors.ts";
import { tokenizerFromJson } from "./browser.ts";
import { trainTokenizer } from "./io.ts";

const shared = new URL("../../../shared/", import.meta.url);
const olmoeFile = new URL("data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json", shared);

describe("the tokenizer of pages", () => {
  // Needs the released tokenizer and frozen values, which lie beside the repository.
  it.skipIf(!existsSync(olmoeFile))("gives every frozen text the ids of Hugging Face's own", async () => {
    const tokenizer = tokenizerFromJson(readFileSync(olmoeFile, "utf8"));
    const file = new URL("reference/parity/tokenizer/texts.json", shared);
    const cases: { text: string; ids: number[] }[] = JSON.parse(readFileSync(file, "utf8"));
    const encoded = await tokenizer.encodeBatch(cases.map(({ text }) => text));
    expect(cases.map(({ text }, index) => ({ text, ids: [...encoded[index]!] }))).toEqual(
      cases.map(({ text, ids }) => ({ text, ids })),
    );
    expect(cases.length).toBe(214);
  });

  it("gives any text the ids of the native one", async () => {
    const native = trainTokenizer([readFileSync(new URL("./tokenizer.ts", import.meta.url), "utf8")], {
      vocabSize: 400,
    });
    const page = tokenizerFromJson(native.toJson());
    const texts = fc.sample(fc.string({ unit: "grapheme", maxLength: 60 }), { numRuns: 300, seed: 3 });
    texts.push("<|endoftext|> <|padding|>a", "don't  stop\n\n  now\t", "\u0085\ufeff\u00a0x", "e\u0301");
    expect(await page.encodeBatch(texts)).toEqual(await native.encodeBatch(texts));
  });

  it("refuses what is no tokenizer", () => {
    expect(() => tokenizerFromJson("{", "file")).toThrow(new TokenizerError("file: not JSON"));
    const json = JSON.stringify({
      model: { type: "BPE", vocab: { "<|endoftext|>": 0 } },
      decoder: { type: "ByteLevel" },
    });
    expect(() => tokenizerFromJson(json, "file")).toThrow(/^file: not a tokenizer.json, /);
  });
});
