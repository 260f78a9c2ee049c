import { describe, expect, it } from "vitest";
import { layOutGguf, parseGguf } from "../src/formats/gguf.ts";
import { configFromGguf } from "../src/formats/ggufConfig.ts";
import { textFromGguf } from "../src/formats/ggufTokenizer.ts";
import { bf16ToF32, f16ToF32 } from "../src/formats/halves.ts";
import { STORAGE_TYPES } from "../src/tensor/stored.ts";
import { tokenizerFromJson } from "../src/tokenizer/io.ts";
import { RANDOM_TYPES, type RandomMatrix, type RandomType, randomMatrix } from "./randomBlocks.ts";
import { RANDOM_MODELS, randomMetadata, randomModelConfig, randomTensors, typeOf, vocabulary } from "./randomModel.ts";
import { textToWords, wordsToText } from "./randomVocabulary.ts";

const mixes = Object.keys(RANDOM_MODELS) as (keyof typeof RANDOM_MODELS)[];

function bytesOf(matrix: Omit<RandomMatrix, "name">, seed = 1, name = "test"): Buffer {
  return Buffer.concat([...randomMatrix({ name, ...matrix }, seed)]);
}

describe("the vocabulary", () => {
  it("fills the model's rows, each entry once", () => {
    expect(vocabulary.tokens).toHaveLength(50_304);
    expect(new Set(vocabulary.tokens).size).toBe(50_304);
    expect(vocabulary.kinds).toHaveLength(50_304);
    expect(vocabulary.merges).toHaveLength(50_279 - 258);
    expect(vocabulary.tokens[50_279]).toBe("<|endoftext|>");
    expect(vocabulary.tokens[50_303]).toBe("[PAD50303]");
  });

  it("has merges that make its entries in their order", () => {
    const made = vocabulary.merges.map((merge) => merge.replace(" ", ""));
    expect(made).toEqual(vocabulary.tokens.slice(258, 50_279));
    const known = new Set(vocabulary.tokens.slice(0, 258));
    const early = vocabulary.merges.filter((merge) => {
      const [left, right] = merge.split(" ") as [string, string];
      known.add(left + right);
      return !known.has(left) || !known.has(right);
    });
    expect(early).toEqual([]);
  });

  it("has words that are the same ids again when their text is read", () => {
    const { firstWord, endWord } = vocabulary;
    const ids = [firstWord, endWord - 1, 20_000, 20_000, firstWord + 11_024, firstWord + 11_025];
    expect(wordsToText(vocabulary, ids.slice(0, 1))).toBe(" baba");
    expect(textToWords(vocabulary, wordsToText(vocabulary, ids))).toEqual(ids);
    expect(textToWords(vocabulary, " baba zzz\n")).toEqual([firstWord, undefined]);
  });
});

describe("random blocks", () => {
  const [rows, columns, deviation] = [64, 1024, 0.02];

  it("have the length of their rows and follow from the seed and the name", () => {
    for (const type of RANDOM_TYPES) {
      const { blockValues, blockBytes } = STORAGE_TYPES[type];
      const matrix = { type, rows, columns, deviation };
      const bytes = bytesOf(matrix);
      expect(bytes.length).toBe(((rows * columns) / blockValues) * blockBytes);
      expect(bytesOf(matrix).equals(bytes)).toBe(true);
      expect(bytesOf(matrix, 2).equals(bytes)).toBe(false);
      expect(bytesOf(matrix, 1, "other").equals(bytes)).toBe(false);
    }
  });

  it("have zeros in the rows that are left empty", () => {
    for (const type of RANDOM_TYPES.filter((one) => one !== "F32")) {
      const matrix = { type, rows, columns, deviation };
      const [whole, part] = [bytesOf(matrix), bytesOf({ ...matrix, filled: [3, 60] })];
      const width = whole.length / rows;
      expect(part.subarray(0, 3 * width).every((byte) => byte === 0)).toBe(true);
      expect(part.subarray(60 * width).every((byte) => byte === 0)).toBe(true);
      expect(part.subarray(3 * width, 60 * width).equals(whole.subarray(3 * width, 60 * width))).toBe(true);
    }
  });

  it("have scales around the one that gives the wanted spread", () => {
    // Whole numbers from -7 to 7, zero twice, have a mean square of 280 / 16.
    const blocks = bytesOf({ type: "Q4_0", rows, columns, deviation });
    const halves = Uint16Array.from({ length: blocks.length / 18 }, (_, block) => {
      return (blocks[18 * block] as number) | ((blocks[18 * block + 1] as number) << 8);
    });
    const scales = new Float32Array(halves.length);
    f16ToF32(halves, scales);
    const squares = scales.reduce((sum, scale) => sum + scale * scale, 0) / scales.length;
    expect(Math.sqrt(squares * 17.5)).toBeGreaterThan(0.0195);
    expect(Math.sqrt(squares * 17.5)).toBeLessThan(0.0205);
  });

  it("have normal values in bf16", () => {
    const bytes = Uint8Array.from(bytesOf({ type: "BF16", rows, columns, deviation }));
    const halves = new Uint16Array(bytes.buffer);
    const values = new Float32Array(halves.length);
    bf16ToF32(halves, values);
    const squares = values.reduce((sum, value) => sum + value * value, 0) / values.length;
    expect(Math.sqrt(squares)).toBeGreaterThan(0.0195);
    expect(Math.sqrt(squares)).toBeLessThan(0.0205);
  });

  it("have no least values in Q8_0 and Q4_0, so that their mean is zero", () => {
    const blocks = (type: RandomType) => bytesOf({ type, rows, columns, deviation });
    expect(blocks("Q8_0").every((byte, index) => index % 34 < 2 || byte !== 0x80)).toBe(true);
    expect(blocks("Q4_0").every((byte, index) => index % 18 < 2 || ((byte & 0x0f) !== 0 && byte > 0x0f))).toBe(true);
  });
});

describe("the random model", () => {
  it("has the tensors of the released one", () => {
    const tensors = randomTensors("q4_0", randomModelConfig, vocabulary);
    expect(tensors).toHaveLength(195);
    expect(tensors.reduce((sum, { byteLength }) => sum + byteLength, 0)).toBe(3_926_255_616);
    const named = Object.fromEntries(tensors.map(({ name, type, shape }) => [name, { type, shape }]));
    expect(named["blk.15.ffn_down_exps.weight"]).toEqual({ type: "Q4_0", shape: [64, 2048, 1024] });
    expect(named["blk.15.ffn_gate_inp.weight"]).toEqual({ type: "F32", shape: [64, 2048] });
    expect(named["output.weight"]).toEqual({ type: "Q6_K", shape: [50_304, 2048] });
  });

  it("has llama.cpp's mixes of types", () => {
    const downs = (mix: (typeof mixes)[number]): RandomType[] =>
      Array.from({ length: 16 }, (_, layer) => typeOf(mix, "ffn_down_exps", layer, 16));
    const more = [0, 1, 4, 7, 10, 13, 14, 15];
    expect(downs("q4_k_m").flatMap((type, layer) => (type === "Q6_K" ? [layer] : []))).toEqual(more);
    expect(mixes.map((mix) => [mix, typeOf(mix, "attn_q", 0, 16), typeOf(mix, "output", 0, 16)])).toEqual([
      ["q4_0", "Q4_0", "Q6_K"],
      ["q8_0", "Q8_0", "Q8_0"],
      ["q4_k_m", "Q4_K", "Q6_K"],
      ["bf16", "BF16", "BF16"],
    ]);
  });

  it("has a header that is read as the released config, and a tokenizer that splits words into their ids", async () => {
    for (const mix of mixes) {
      const tensors = randomTensors(mix, randomModelConfig, vocabulary);
      const { prefix, fileBytes } = layOutGguf(randomMetadata(mix, randomModelConfig, vocabulary), tensors);
      const header = parseGguf(prefix, fileBytes, "random.gguf");
      if ("neededBytes" in header) throw new Error("the header is not whole");
      expect(configFromGguf(header.metadata, header.tensors, "random.gguf")).toEqual(randomModelConfig);
      expect(header.tensors.size).toBe(195);
      if (mix !== "q4_0") continue;
      const tokenizer = tokenizerFromJson(textFromGguf(header.metadata, "random.gguf")!.tokenizerJson);
      const ids = Array.from({ length: 200 }, (_, index) => vocabulary.firstWord + ((index * 7919) % 49_000));
      expect([...(await tokenizer.encode(wordsToText(vocabulary, ids)))]).toEqual(ids);
    }
  });
});
