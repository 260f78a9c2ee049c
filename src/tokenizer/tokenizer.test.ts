import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { TokenizerError } from "../errors.ts";
import { loadTokenizer, tokenizerFromJson, trainTokenizer } from "./io.ts";
import type { Tokenizer } from "./tokenizer.ts";

const shared = new URL("../../../shared/", import.meta.url);
const olmoeFile = new URL("data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json", shared).pathname;
const parity = (name: string) =>
  JSON.parse(readFileSync(new URL(`reference/parity/tokenizer/${name}`, shared), "utf8"));

const sample = `${readFileSync(new URL("./tokenizer.ts", import.meta.url), "utf8")} \u{1F600} caf\u00e9 \u4f60\u597d`;
const small = trainTokenizer([sample], { vocabSize: 300 });

// Needs the released tokenizer and frozen values, which lie beside the repository.
describe.skipIf(!existsSync(olmoeFile))("the OLMoE tokenizer", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(olmoeFile);
  });

  it("has the released model's ids", () => {
    const { vocabSize, eosTokenId, padTokenId } = tokenizer;
    expect({ vocabSize, eosTokenId, padTokenId }).toEqual({ vocabSize: 50280, eosTokenId: 50279, padTokenId: 1 });
  });

  it("encodes and decodes every frozen text as Hugging Face does", async () => {
    const cases: { text: string; ids: number[]; decoded: string; decoded_without_special: string }[] =
      parity("texts.json");
    const encoded = await tokenizer.encodeBatch(cases.map(({ text }) => text));
    expect(
      cases.map(({ text, ids }, index) => ({
        text,
        ids: Array.from(encoded[index]!),
        decoded: tokenizer.decode(ids),
        decoded_without_special: tokenizer.decode(ids, { skipSpecialTokens: true }),
      })),
    ).toEqual(cases);
    expect(cases.length).toBe(214);
  });

  it("decodes cut characters and ids without a token as Hugging Face does", () => {
    const cases: { ids: number[]; text: string }[] = parity("decode.json");
    expect(cases.map(({ ids }) => ({ ids, text: tokenizer.decode(ids) }))).toEqual(cases);
  });

  it("shows the bytes of a token that is part of a character", () => {
    expect([14931, 235, 510, 50279, 50290].map((id) => tokenizer.tokenText(id))).toEqual([
      "<0xF0><0x9F>",
      "<0x98>",
      "The",
      "<|endoftext|>",
      "",
    ]);
  });
});

describe("a stream decoder", () => {
  it("gives pieces that join to the decoding of any ids", () => {
    const ids = fc.array(fc.integer({ min: 0, max: 310 }), { maxLength: 40 });
    fc.assert(
      fc.property(ids, fc.boolean(), (list, skipSpecialTokens) => {
        const stream = small.streamDecoder({ skipSpecialTokens });
        const joined = list.map((id) => stream.push(id)).join("") + stream.flush();
        expect(joined).toBe(small.decode(list, { skipSpecialTokens }));
      }),
      { seed: 1 },
    );
  });

  it("holds an incomplete character back until its last byte", async () => {
    const ids = await tokenizerFromJson(trainTokenizer(["a"], { vocabSize: 258 }).toJson()).encode("\u{1F600}!");
    const stream = trainTokenizer(["a"], { vocabSize: 258 }).streamDecoder();
    expect(Array.from(ids, (id) => stream.push(id))).toEqual(["", "", "", "\u{1F600}", "!"]);
    expect(stream.flush()).toBe("");
  });

  it("gives a replacement character for one that never completes", () => {
    const [first] = [...new TextEncoder().encode("\u{1F600}")];
    const bytes = trainTokenizer(["a"], { vocabSize: 258 });
    const id = Array.from({ length: 258 }, (_, index) => index).find(
      (index) => bytes.tokenText(index) === `<0x${first!.toString(16).toUpperCase()}>`,
    )!;
    const stream = bytes.streamDecoder();
    expect([stream.push(id), stream.flush()]).toEqual(["", "\ufffd"]);
  });
});

describe("any byte-level tokenizer", () => {
  it("gives back any text that is in NFC", async () => {
    const texts = fc.sample(fc.string({ unit: "grapheme", maxLength: 40 }), { numRuns: 200, seed: 2 });
    const normal = texts.map((text) => text.normalize("NFC").replaceAll("<|", "<"));
    const encoded = await small.encodeBatch(normal);
    expect(encoded.map((ids) => small.decode(ids))).toEqual(normal);
  });

  it("reads the same after it is written", async () => {
    const again = tokenizerFromJson(small.toJson());
    expect(await again.encode(sample)).toEqual(await small.encode(sample));
  });

  it("decodes nothing from no ids", async () => {
    expect(await small.encode("")).toEqual(new Int32Array(0));
    expect(small.decode([])).toBe("");
  });

  it("rejects ids that can not be ids", () => {
    for (const id of [-1, 1.5, Number.NaN, 2 ** 32]) {
      const error = new TokenizerError(`decode: id ${id}, expected a whole number from 0 to 299`);
      expect(() => small.decode([5, id])).toThrow(error);
      expect(() => small.tokenText(id)).toThrow(error);
    }
  });
});
