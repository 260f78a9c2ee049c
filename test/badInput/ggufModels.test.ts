/** Models in GGUF whose parts do not fit together, and files of one model that do not. */
import { copyFile, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { ResourceError } from "../../src/errors.ts";
import { GgufFile } from "../../src/formats/gguf.io.ts";
import type { GgufValue } from "../../src/formats/gguf.ts";
import { openStored } from "../../src/formats/stored.io.ts";
import { config, type Model, messageOf, wholeModel, writeModel } from "./ggufModel.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(joinPath(tmpdir(), "olmoe-bad-gguf-"));
});
afterAll(() => rm(root, { recursive: true }));

const u32Value = (value: number): GgufValue => ({ type: "UINT32", value });
const textValue = (value: string): GgufValue => ({ type: "STRING", value });
const texts = (...value: string[]): GgufValue => ({ type: "ARRAY", of: "STRING", value });
/** A tokenizer of four tokens, to be damaged. */
const tokenizer = (changes: Readonly<Record<string, GgufValue>>) => (model: Model) => {
  const entries = {
    model: textValue("gpt2"),
    pre: textValue("olmo"),
    tokens: texts("a", "b", "ab", "<|endoftext|>"),
    merges: texts("a b"),
    ...changes,
  };
  for (const [key, value] of Object.entries(entries)) model.metadata.set(`tokenizer.ggml.${key}`, value);
};
const key = (name: string, value: GgufValue) => (model: Model) => model.metadata.set(`olmoe.${name}`, value);

const models: [what: string, damage: (model: Model) => unknown, message: string][] = [
  [
    "without an architecture",
    ({ metadata }) => metadata.delete("general.architecture"),
    'm: no general.architecture, expected "olmoe"',
  ],
  [
    "of another architecture",
    ({ metadata }) => metadata.set("general.architecture", textValue("llama")),
    'm: architecture "llama", expected "olmoe"',
  ],
  [
    "without a number of layers",
    ({ metadata }) => metadata.delete("olmoe.block_count"),
    "m: metadata: olmoe.block_count: missing",
  ],
  [
    "whose width is text",
    key("embedding_length", textValue("32")),
    'm: metadata: olmoe.embedding_length: "32", expected a number',
  ],
  [
    "of 2^32 - 1 layers",
    key("block_count", u32Value(2 ** 32 - 1)),
    "m: metadata: olmoe.block_count: 4294967295, the file has 15 tensors in all",
  ],
  [
    "of 2^32 - 1 positions",
    key("context_length", u32Value(2 ** 32 - 1)),
    "m: metadata: olmoe.context_length: 4294967295, at most 1048576 are read",
  ],
  [
    "without heads",
    key("attention.head_count", u32Value(0)),
    "m: metadata: olmoe.attention.head_count: 0, expected a whole number from 1 on",
  ],
  [
    "with a number of heads for each layer",
    key("attention.head_count", { type: "ARRAY", of: "UINT32", value: [2] }),
    "m: metadata: olmoe.attention.head_count: an array, expected a number",
  ],
  [
    "with an epsilon that is not a number",
    key("attention.layer_norm_rms_epsilon", { type: "FLOAT32", value: Number.NaN }),
    "m: metadata: olmoe.attention.layer_norm_rms_epsilon: NaN, expected a number",
  ],
  [
    "with parts that the architecture does not have",
    (model) => {
      key("rope.scaling.type", textValue("yarn"))(model);
      key("expert_weights_norm", { type: "BOOL", value: true })(model);
      key("attention.key_length", u32Value(64))(model);
    },
    "m: metadata:\n  - olmoe.attention.key_length: 64, expected the width of a head (16)\n  - olmoe.rope.scaling.type: yarn, scaled rotary positions are not read\n  - olmoe.expert_weights_norm: true, router weights are not divided by their sum in this architecture",
  ],
  [
    "with more experts for a token than there are",
    key("expert_used_count", u32Value(3)),
    "m: numExpertsPerTok: 3, must be at most numExperts (2)",
  ],
  [
    "whose end of text is behind the vocabulary",
    ({ metadata }) => metadata.set("tokenizer.ggml.eos_token_id", u32Value(8)),
    "m: eosTokenId: 8, must be below vocabSize (8)",
  ],
  [
    "whose tensors have another width",
    key("embedding_length", u32Value(64)),
    "m: 15 tensors of another shape (output.weight [8, 32], expected [8, 64], token_embd.weight [8, 32], expected [8, 64], blk.0.attn_norm.weight [32], expected [64], blk.0.ffn_down_exps.weight [2, 32, 16], expected [2, 64, 16], blk.0.ffn_gate_exps.weight [2, 16, 32], expected [2, 16, 64], blk.0.ffn_up_exps.weight [2, 16, 32], expected [2, 16, 64], blk.0.ffn_gate_inp.weight [2, 32], expected [2, 64], blk.0.ffn_norm.weight [32], expected [64] and 7 more)",
  ],
  [
    "with other tensors and experts than it says",
    ({ metadata, tensors }) => {
      metadata.set("olmoe.expert_count", u32Value(4));
      tensors.delete("output_norm.weight");
      tensors.set("rope_freqs.weight", { shape: [8], type: "F32", fill: 0 });
    },
    "m: 1 tensor missing (output_norm.weight); 1 tensor not wanted (rope_freqs.weight); 4 tensors of another shape (blk.0.ffn_down_exps.weight [2, 32, 16], expected [4, 32, 16], blk.0.ffn_gate_exps.weight [2, 16, 32], expected [4, 16, 32], blk.0.ffn_up_exps.weight [2, 16, 32], expected [4, 16, 32], blk.0.ffn_gate_inp.weight [2, 32], expected [4, 32])",
  ],
  [
    "with a norm that is not a number",
    ({ tensors }) => tensors.set("output_norm.weight", { shape: [32], type: "F32", fill: 0xff }),
    "m: model.norm.weight: element 0 is NaN, expected finite weights",
  ],
  [
    "with a quantised norm",
    ({ tensors }) => tensors.set("output_norm.weight", { shape: [32], type: "Q8_0", fill: 0 }),
    "m: model.norm.weight is stored as Q8_0, expected F32, F16 or BF16",
  ],
  [
    "whose gate and up matrices have two types",
    ({ tensors }) => tensors.set("blk.0.ffn_up_exps.weight", { shape: [2, 16, 32], type: "F16", fill: 0 }),
    "m: model.layers.0.mlp.experts.gate_up_proj consists of F32 and F16, expected one type",
  ],
  [
    "with another tokenizer",
    tokenizer({ pre: textValue("llama-bpe") }),
    'm: tokenizer: model "gpt2" with pre "llama-bpe", expected "gpt2" with "olmo"',
  ],
  [
    "whose tokens are numbers",
    tokenizer({ tokens: { type: "ARRAY", of: "UINT32", value: [1] } }),
    'm: metadata "tokenizer.ggml.tokens": array of UINT32, expected an array of STRING',
  ],
  [
    "without merges",
    (model) => {
      tokenizer({})(model);
      model.metadata.delete("tokenizer.ggml.merges");
    },
    'm: metadata "tokenizer.ggml.merges": missing, expected an array of STRING',
  ],
  ["with a token twice", tokenizer({ tokens: texts("a", "b", "a") }), 'm: token "a" has the ids 0 and 2'],
  [
    "with too few token types",
    tokenizer({ token_type: { type: "ARRAY", of: "INT32", value: [1] } }),
    "m: 1 token types, expected one for each of 4 tokens",
  ],
  [
    "with a merge of three parts",
    tokenizer({ merges: texts("a b c") }),
    'm: merge "a b c", expected two parts and a space between them',
  ],
];

describe("a model in GGUF", () => {
  it.each(models)("%s is refused", async (_, damage, message) => {
    const model = wholeModel();
    damage(model);
    const path = joinPath(root, "model.gguf");
    await writeModel(path, model);
    const found = await messageOf(() => openStored(path, createReferenceBackend()));
    expect(found.replaceAll(path, "m")).toBe(message);
  });

  it("that is whole is opened", async () => {
    const path = joinPath(root, "whole.gguf");
    await writeModel(path, wholeModel());
    const model = await openStored(path, createReferenceBackend());
    expect(model.config).toEqual({ ...config, eosTokenId: null, padTokenId: null });
    model.dispose();
  });

  it("that does not fit the memory of a backend is refused with advice", async () => {
    const path = joinPath(root, "large.gguf");
    await writeModel(path, wholeModel());
    const backend = {
      ...createReferenceBackend(),
      allocate: () => {
        throw new ResourceError("no memory");
      },
    };
    await expect(openStored(path, backend)).rejects.toThrow(
      new ResourceError(`${path}: 32992 bytes do not fit the memory of the reference backend`, {
        hint: "use the native backend, which maps files, or a smaller model",
      }),
    );
  });
});

describe("a split model", () => {
  const part = (stem: string, number: number, count: number) =>
    joinPath(root, `${stem}-0000${number}-of-0000${count}.gguf`);
  const refused = async (path: string) => (await messageOf(() => GgufFile.open(path))).replaceAll(root, "R");

  it("is refused where a file is missing, has another name, is another one or belongs to another model", async () => {
    expect((await writeModel(joinPath(root, "s.gguf"), wholeModel(), 15_000)).length).toBe(3);
    await rename(part("s", 2, 3), joinPath(root, "second"));
    expect(await refused(part("s", 1, 3))).toBe("R/s-00002-of-00003.gguf: no such file");
    await copyFile(part("s", 3, 3), part("s", 2, 3));
    expect(await refused(part("s", 1, 3))).toBe(
      "R/s-00002-of-00003.gguf: says it is file 2 (from 0) of 3, expected 1 of 3",
    );
    await copyFile(part("s", 1, 3), joinPath(root, "first.gguf"));
    expect(await refused(joinPath(root, "first.gguf"))).toBe(
      "R/first.gguf: one of 3 files of a model, expected the name NAME-00001-of-00003.gguf",
    );
    await writeModel(part("s", 2, 3), wholeModel());
    expect(await refused(part("s", 1, 3))).toBe(
      "R/s-00002-of-00003.gguf: says it is file ? (from 0) of ?, expected 1 of 3",
    );
    const other = wholeModel();
    other.tensors.delete("output_norm.weight");
    await writeModel(joinPath(root, "t.gguf"), other, 15_000);
    await copyFile(joinPath(root, "second"), part("t", 2, 3));
    await copyFile(part("s", 3, 3), part("t", 3, 3));
    expect(await refused(part("t", 1, 3))).toBe(
      "R/t-00001-of-00003.gguf: states 14 tensors in all, its 3 files have 15",
    );
  });
});
