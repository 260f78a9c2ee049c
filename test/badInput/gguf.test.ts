/** Damaged and hostile GGUF files: each gives one clear error, and its whole message is stated here. */
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { resolveModel } from "../../src/config/presets.ts";
import { OlmoeError, ResourceError } from "../../src/errors.ts";
import { convertModel } from "../../src/formats/convert.io.ts";
import { GgufFile, writeGguf } from "../../src/formats/gguf.io.ts";
import { type GgufValue, parseGguf, storedBytes } from "../../src/formats/gguf.ts";
import { configToGguf } from "../../src/formats/ggufConfig.ts";
import { ggufLayout } from "../../src/formats/ggufNames.ts";
import { saveModel } from "../../src/formats/model.io.ts";
import { openStored } from "../../src/formats/stored.io.ts";
import { Parameters } from "../../src/model/parameters.ts";
import type { StorageType } from "../../src/tensor/stored.ts";
import { array, entry, type FileParts, ggufFile, join, TYPES, tensor, text, u8, u32, u64 } from "./ggufBytes.ts";

const F32 = 0;
const Q4_0 = 2;
const Q4_K = 12;
const name = (content: string) => entry(content, TYPES.u8, u8(1));
/** A file of one tensor "x" of 8 values. */
const one = (row: Uint8Array, values = 32) => ({ tensors: [row], values });
const nested = (depth: number): Uint8Array[] =>
  depth === 0 ? [u32(TYPES.u8), u64(0)] : [u32(TYPES.array), u64(1), ...nested(depth - 1)];

const headers: [what: string, file: FileParts | Uint8Array, message: string][] = [
  ["an empty file", new Uint8Array(0), "m: magic number: ends at byte 4, the file has 0"],
  ["three bytes", new Uint8Array(3), "m: magic number: ends at byte 4, the file has 3"],
  [
    "another format",
    new TextEncoder().encode("PK\x03\x04 and so on"),
    "m: magic number: 0x04034b50, expected 0x46554747: not a GGUF file",
  ],
  ["a magic number alone", new TextEncoder().encode("GGUF"), "m: version: ends at byte 8, the file has 4"],
  ["version 1", { version: 1 }, "m: version: 1, expected 2 or 3"],
  ["version 4", { version: 4 }, "m: version: 4, expected 2 or 3"],
  [
    "the other byte order",
    { version: 0x03000000 },
    "m: version: stored with its bytes the other way round (big-endian), which is not read",
  ],
  ["no counts", ggufFile({}).subarray(0, 12), "m: number of tensors: ends at byte 16, the file has 12"],
  [
    "2^64 - 1 tensors",
    { tensorCount: 2n ** 64n - 1n },
    "m: number of tensors: 18446744073709551615 tensors, the file has 8 bytes after their number",
  ],
  [
    "a tensor and no table",
    { tensorCount: 1 },
    "m: number of tensors: 1 tensors, the file has 8 bytes after their number",
  ],
  [
    "2^63 keys",
    { keyCount: 2n ** 63n },
    "m: number of metadata keys: 9223372036854775808 keys, the file has 0 bytes after their number",
  ],
  [
    "100,000 keys, of zeros",
    { keyCount: 100_000, values: 2_000_000 },
    "m: number of metadata keys: 100000 keys, at most 65536 are allowed",
  ],
  [
    "100,000 tensors, of zeros",
    { tensorCount: 100_000, values: 3_000_000 },
    "m: number of tensors: 100000 tensors, at most 65536 are allowed",
  ],
  ["a key without a name", { metadata: [name("")], values: 32 }, "m: metadata key 0: an empty name"],
  [
    "a key longer than the file",
    { metadata: [join(text("abcdef", 100))] },
    "m: metadata key 0: 100 bytes of text, the file has 6 bytes after their number",
  ],
  [
    "a key of 2^64 - 1 bytes",
    { metadata: [join(text("abcdef", 2n ** 64n - 1n))] },
    "m: metadata key 0: 18446744073709551615 bytes of text, the file has 6 bytes after their number",
  ],
  [
    "a key of 70,000 bytes",
    { metadata: [name("k".repeat(70_000))] },
    "m: metadata key 0: 70000 bytes of text, at most 65535 are allowed",
  ],
  [
    "a key that is not UTF-8",
    { metadata: [entry(Uint8Array.of(0xc3, 0x28), TYPES.u8, u8(1))] },
    "m: metadata key 0: not valid UTF-8",
  ],
  ["the same key twice", { metadata: [name("a"), name("a")] }, 'm: metadata "a": the key is used twice'],
  ["an unknown type", { metadata: [entry("a", 13, u64(0))] }, 'm: metadata "a": type 13, expected 0 to 12'],
  [
    "a value behind the end",
    { metadata: [entry("a", TYPES.u64, u32(1))] },
    'm: metadata "a": ends at byte 45, the file has 41',
  ],
  [
    "a boolean of 2",
    { metadata: [entry("a", TYPES.bool, u8(2), u64(0))] },
    'm: metadata "a": a boolean of 2, expected 0 or 1',
  ],
  [
    "text longer than the file",
    { metadata: [entry("a", TYPES.text, text("hello", 6))] },
    'm: metadata "a": 6 bytes of text, the file has 5 bytes after their number',
  ],
  [
    "text that is not UTF-8",
    { metadata: [entry("a", TYPES.text, text(Uint8Array.of(0xff, 0xfe)))] },
    'm: metadata "a": not valid UTF-8',
  ],
  [
    "an array of an unknown type",
    { metadata: [array("a", 99, 1, u64(0))] },
    'm: metadata "a": type 99, expected 0 to 12',
  ],
  [
    "an array longer than the file",
    { metadata: [array("a", TYPES.u32, 3, u32(1), u32(2))] },
    'm: metadata "a": 3 elements, the file has 8 bytes after their number',
  ],
  [
    "an array of 2^62 numbers",
    { metadata: [array("a", TYPES.u64, 2n ** 62n, u64(1))] },
    'm: metadata "a": 4611686018427387904 elements, the file has 8 bytes after their number',
  ],
  [
    "an array of 2^60 texts",
    { metadata: [array("a", TYPES.text, 2n ** 60n, text("x"))] },
    'm: metadata "a": 1152921504606846976 texts, the file has 9 bytes after their number',
  ],
  [
    "a text in an array that is longer than the file",
    { metadata: [array("a", TYPES.text, 2, text("x"), text("y", 2n ** 40n))] },
    'm: metadata "a": ends at byte 1099511627842, the file has 67',
  ],
  [
    "a text in an array that is not UTF-8",
    { metadata: [array("a", TYPES.text, 2, text("x"), text(Uint8Array.of(0x80)))] },
    'm: metadata "a"[1]: not valid UTF-8',
  ],
  [
    "a character that is cut between two texts",
    { metadata: [array("a", TYPES.text, 2, text(Uint8Array.of(0xc3)), text(Uint8Array.of(0xa9)))] },
    'm: metadata "a"[0]: not valid UTF-8',
  ],
  [
    "an array of booleans with a 7",
    { metadata: [array("a", TYPES.bool, 2, u8(1), u8(7))] },
    'm: metadata "a": a boolean of 7, expected 0 or 1',
  ],
  [
    "arrays five deep",
    { metadata: [entry("a", TYPES.array, ...nested(4))] },
    'm: metadata "a"[0][0][0]: arrays nested more than 4 deep',
  ],
  [
    "100,000 arrays in an array",
    { metadata: [array("a", TYPES.array, 100_000)], values: 1_300_000 },
    'm: metadata "a": 100000 arrays within arrays, at most 65536 are allowed in all',
  ],
  [
    "an alignment of 0",
    { metadata: [entry("general.alignment", TYPES.u32, u32(0))] },
    'm: metadata "general.alignment": 0, expected a power of two up to 1048576',
  ],
  [
    "an alignment of 48",
    { metadata: [entry("general.alignment", TYPES.u32, u32(48))] },
    'm: metadata "general.alignment": 48, expected a power of two up to 1048576',
  ],
  [
    "an alignment of 2^31",
    { metadata: [entry("general.alignment", TYPES.u32, u32(2 ** 31))] },
    'm: metadata "general.alignment": 2147483648, expected a power of two up to 1048576',
  ],
  [
    "an alignment that is text",
    { metadata: [entry("general.alignment", TYPES.text, text("32"))] },
    'm: metadata "general.alignment": type STRING, expected UINT32',
  ],
  ["a tensor without a name", one(tensor("", [8], F32, 0)), "m: name of tensor 0: an empty name"],
  ["five dimensions", one(tensor("x", [1, 1, 1, 1, 8], F32, 0)), 'm: tensor "x": 5 dimensions, at most 4 are allowed'],
  [
    "2^32 - 1 dimensions",
    one(join(text("x"), u32(2 ** 32 - 1), u64(0))),
    'm: tensor "x": 4294967295 dimensions, at most 4 are allowed',
  ],
  ["a dimension of 0", one(tensor("x", [8, 0], F32, 0)), 'm: tensor "x": shape [0, 8], has a dimension of 0'],
  [
    "a negative dimension",
    one(tensor("x", [-1, 8], F32, 0)),
    'm: tensor "x": shape [8, 18446744073709551615], has more than 2^53 values',
  ],
  [
    "dimensions whose product is 0 in 64 bits",
    one(tensor("x", [2n ** 32n, 2n ** 32n], F32, 0)),
    'm: tensor "x": shape [4294967296, 4294967296], has more than 2^53 values',
  ],
  ["an unknown type of tensor", one(tensor("x", [8], 77, 0)), 'm: tensor "x": type 77, which is not read'],
  ["a type that is gone", one(tensor("x", [32], 4, 0)), 'm: tensor "x": type 4, which is not read'],
  ["a type that is not read", one(tensor("x", [256], 21, 0)), 'm: tensor "x": type IQ3_S (21), which is not read'],
  [
    "a row that ends within a block",
    one(tensor("x", [40, 2], Q4_0, 0)),
    'm: tensor "x": shape [2, 40], rows of Q4_0 are multiples of 32 values',
  ],
  [
    "a row that ends within a larger block",
    one(tensor("x", [128, 2], Q4_K, 0)),
    'm: tensor "x": shape [2, 128], rows of Q4_K are multiples of 256 values',
  ],
  [
    "an offset that is not aligned",
    one(tensor("x", [8], F32, 4), 64),
    'm: tensor "x": begins at byte 4 of the values, expected a multiple of 32',
  ],
  ["values behind the end", one(tensor("x", [8], F32, 32)), 'm: tensor "x": ends at byte 128, the file has 96'],
  [
    "an offset of 2^64 - 32",
    one(tensor("x", [8], F32, 2n ** 64n - 32n)),
    'm: tensor "x": ends at byte 18446744073709551680, the file has 96',
  ],
  [
    "a tensor larger than the file",
    one(tensor("x", [2 ** 20, 2 ** 20], F32, 0)),
    'm: tensor "x": ends at byte 4398046511200, the file has 128',
  ],
  ["a file cut short", { ...one(tensor("x", [8], F32, 0)), cut: 1 }, 'm: tensor "x": ends at byte 96, the file has 95'],
  [
    "the same name twice",
    { tensors: [tensor("x", [8], F32, 0), tensor("x", [8], F32, 32)], values: 64 },
    'm: tensor "x": the name is used twice',
  ],
  [
    "two tensors in one place",
    { tensors: [tensor("x", [8], F32, 0), tensor("y", [8], F32, 0)], values: 64 },
    'm: tensor "y": overlaps "x", which ends behind its first byte',
  ],
  [
    "a tensor inside another",
    { tensors: [tensor("x", [8], F32, 32), tensor("y", [32], F32, 0)], values: 128 },
    'm: tensor "x": overlaps "y", which ends behind its first byte',
  ],
  [
    "a table cut short",
    { tensorCount: 2, tensors: [tensor("x", [8], F32, 0)], values: 32 },
    "m: name of tensor 1: an empty name",
  ],
];

const bytesOf = (file: FileParts | Uint8Array) => (file instanceof Uint8Array ? file : ggufFile(file));

/** The message of the deliberate error that an action ends with. */
async function messageOf(action: () => unknown): Promise<string> {
  try {
    await action();
  } catch (error) {
    if (error instanceof OlmoeError) return error.message;
    throw error;
  }
  return "nothing is wrong";
}

let root: string;
beforeAll(async () => {
  root = await mkdtemp(joinPath(tmpdir(), "olmoe-bad-gguf-"));
});
afterAll(() => rm(root, { recursive: true }));

describe("a GGUF header", () => {
  it.each(headers)("with %s is refused", async (_, file, message) => {
    const bytes = bytesOf(file);
    expect(await messageOf(() => parseGguf(bytes, bytes.byteLength, "m"))).toBe(message);
    const path = joinPath(root, "header.gguf");
    await writeFile(path, bytes);
    expect(await messageOf(() => GgufFile.open(path))).toBe(message.replace(/^m:/, `${path}:`));
  });

  it("that is no more than its own counts is read", () => {
    const bytes = ggufFile({});
    expect(parseGguf(bytes, bytes.byteLength, "m")).toEqual({
      version: 3,
      alignment: 32,
      metadata: new Map(),
      tensors: new Map(),
    });
  });

  it("of a large file asks for more bytes, and takes no more room than the file has", () => {
    const bytes = ggufFile({ metadata: [array("a", TYPES.text, 1000)], keyCount: 1 });
    expect(parseGguf(bytes, 5_000_000_000, "m")).toEqual({ neededBytes: bytes.byteLength + 8 });
    const lying = ggufFile({ metadata: [array("a", TYPES.text, 500_000_000)], keyCount: 1 });
    expect(() => parseGguf(lying, 5_000_000_000, "m")).toThrow(
      'm: metadata "a": 500000000 texts, a header has at most 100000000 bytes',
    );
  });
});

const config = resolveModel({ preset: "tiny", vocabSize: 8, numHiddenLayers: 1, numExperts: 2, numExpertsPerTok: 1 });

interface Model {
  readonly metadata: Map<string, GgufValue>;
  readonly tensors: Map<string, { shape: readonly number[]; type: StorageType; fill: number }>;
}

/** A whole model of zeros, to be damaged. */
function wholeModel(): Model {
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "STRING", value: "olmoe" }],
    ...configToGguf(config),
  ]);
  const entries = ggufLayout(config).map(
    ({ name, shape }) => [name, { shape, type: "F32" as const, fill: 0 }] as const,
  );
  return { metadata, tensors: new Map(entries) };
}

async function writeModel(path: string, { metadata, tensors }: Model, maxShardBytes?: number): Promise<string[]> {
  const list = Array.from(tensors, ([name, { shape, type, fill }]) => ({
    name,
    shape,
    type,
    data: () => [new Uint8Array(storedBytes(type, shape)).fill(fill)],
  }));
  return writeGguf(path, metadata, list, { maxShardBytes });
}

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

describe("olmoe convert", () => {
  it("refuses a full folder, itself as the target, and a name that is no GGUF file's", async () => {
    const folder = joinPath(root, "hf");
    const parameters = new Parameters(createReferenceBackend(), config, { trainable: false });
    await saveModel(folder, parameters);
    await mkdir(joinPath(root, "empty"));
    expect(await messageOf(() => convertModel(folder, folder))).toBe(`${folder}: input and output are the same`);
    expect(await messageOf(() => convertModel(joinPath(root, "whole.gguf"), folder))).toBe(
      `${folder}: the folder is not empty, expected a new one`,
    );
    expect(await messageOf(() => convertModel(folder, joinPath(root, "x.bin"), { to: "gguf" }))).toBe(
      `${joinPath(root, "x.bin")}: the name of a GGUF file, must end in ".gguf"`,
    );
    expect(await messageOf(() => convertModel(folder, joinPath(root, "x"), { to: "olmo", maxShardBytes: 1 }))).toBe(
      "maxShardBytes: OLMo's unsharded checkpoint is one file",
    );
    await convertModel(folder, joinPath(root, "empty"));
  });

  it("leaves nothing behind where it is stopped or a value does not fit", async () => {
    const folder = joinPath(root, "large");
    const parameters = new Parameters(createReferenceBackend(), config, { trainable: false });
    parameters.get("model.embed_tokens.weight").value.data[3] = 70_000;
    await saveModel(folder, parameters);
    await expect(convertModel(folder, joinPath(root, "f16.gguf"), { type: "f16" })).rejects.toThrow(
      `${folder}: model.embed_tokens.weight: element 3 is 70000, not finite as F16`,
    );
    const signal = AbortSignal.abort();
    await expect(convertModel(folder, joinPath(root, "stopped"), { signal })).rejects.toThrow("aborted");
    await expect(convertModel(folder, joinPath(root, "stopped.gguf"), { signal })).rejects.toThrow("aborted");
    expect((await readdir(root)).filter((name) => /f16|stopped|tmp/.test(name))).toEqual([]);
  });
});
