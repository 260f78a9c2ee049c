/** Tokenizers rebuilt from GGUF's metadata give the ids of the originals. Reference values: parity/gguf, parity/tokenizer. */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { GgufFile } from "../../src/formats/gguf.io.ts";
import { type TextFiles, textFromGguf, textToGguf } from "../../src/formats/ggufTokenizer.ts";
import { tokenizerFromJson } from "../../src/tokenizer/io.ts";
import { parityPath, parityPresent } from "./fixtures.ts";

const released = new URL("../../../shared/data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json", import.meta.url);
const readJson = (path: string) => JSON.parse(readFileSync(path, "utf8"));

// The reference values lie beside the repository and may be absent.
describe.skipIf(!parityPresent).each(["narrow/tiny-f32.gguf", "wide/tiny-Q4_0.gguf"])("the tokenizer in %s", (name) => {
  it("gives Hugging Face's ids on every string", async () => {
    const path = parityPath(`gguf/${name}`);
    const expected = readJson(parityPath(`gguf/${name.split("/")[0]}/expected.json`));
    const file = await GgufFile.open(path);
    await file.close();
    const text = textFromGguf(file.metadata, path) as TextFiles;
    const tokenizer = tokenizerFromJson(text.tokenizerJson);
    const cases: { text: string; hf: number[] }[] = expected.tokenisation;
    const ids = await tokenizer.encodeBatch(cases.map(({ text }) => text));
    expect(ids.map((list) => Array.from(list))).toEqual(cases.map(({ hf }) => hf));
    expect(cases.length).toBe(35);
    const { vocabSize, eosTokenId, padTokenId } = tokenizer;
    expect({ vocabSize, eosTokenId, padTokenId }).toEqual({ vocabSize: 504, eosTokenId: 503, padTokenId: 1 });
    expect(text).toMatchObject({ roles: { eos: 503, pad: 1 }, addBos: false, addEos: false });
  });

  it("is the original tokenizer.json, and gives the same metadata again", async () => {
    const path = parityPath(`gguf/${name}`);
    const file = await GgufFile.open(path);
    await file.close();
    const text = textFromGguf(file.metadata, path) as TextFiles;
    const original = parityPath(`gguf/${name.split("/")[0]}/hf/tokenizer.json`);
    const { ignore_merges: _, ...model } = readJson(original).model;
    expect(JSON.parse(text.tokenizerJson)).toEqual({ ...readJson(original), model });
    const own = [...file.metadata].filter(([key]) => key.startsWith("tokenizer."));
    expect(textToGguf(text, 512, path)).toEqual(own);
  });
});

describe.skipIf(!parityPresent || !existsSync(released))(
  "the released tokenizer, through GGUF's metadata and back",
  () => {
    it("is the same file, and gives the ids of all frozen texts", async () => {
      const original = readFileSync(released, "utf8");
      const roles = { eos: 50_279, pad: 1 };
      const metadata = new Map(
        textToGguf({ tokenizerJson: original, roles, addBos: false, addEos: false }, 50_304, "olmoe"),
      );
      expect(metadata.get("tokenizer.ggml.tokens")?.value).toHaveLength(50_304);
      const text = textFromGguf(metadata, "olmoe") as TextFiles;
      expect(JSON.parse(text.tokenizerJson)).toEqual(JSON.parse(original));
      const cases: { text: string; ids: number[] }[] = readJson(parityPath("tokenizer/texts.json"));
      const ids = await tokenizerFromJson(text.tokenizerJson).encodeBatch(cases.map(({ text }) => text));
      expect(ids.map((list) => Array.from(list))).toEqual(cases.map(({ ids }) => ids));
      expect(cases.length).toBe(214);
    });
  },
);
