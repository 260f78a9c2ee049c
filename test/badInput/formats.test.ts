/** Damaged and hostile model files: each gives one clear error, and its whole message is stated here. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CheckpointError, ConfigError, OlmoeError } from "../../src/errors.ts";
import { loadWeights, readModelConfig, saveWeights, type WantedTensor } from "../../src/formats/huggingface.io.ts";
import { parseSafetensors } from "../../src/formats/safetensors.ts";

/** A file with a stated header length and any header and values. */
function fileOf(header: string | Uint8Array, dataBytes = 0, statedLength?: bigint): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + json.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, statedLength ?? BigInt(json.length), true);
  file.set(json, 8);
  return file;
}

const entry = (dtype: unknown, shape: unknown, offsets: unknown) =>
  JSON.stringify({ dtype, shape, data_offsets: offsets });
/** A file of one tensor "x". */
const one = (dtype: unknown, shape: unknown, offsets: unknown, dataBytes = 8) =>
  fileOf(`{"x":${entry(dtype, shape, offsets)}}`, dataBytes);
/** A file of tensors "x" and "y". */
const two = (x: string, y: string, dataBytes: number) => fileOf(`{"x":${x},"y":${y}}`, dataBytes);
const f32 = (begin: number, end: number) => entry("F32", [(end - begin) / 4], [begin, end]);

const utf8Fault = new Uint8Array([...new TextEncoder().encode('{"'), 0xc3, 0x28, ...new TextEncoder().encode('":1}')]);

const headers: [name: string, file: Uint8Array, message: string][] = [
  ["an empty file", new Uint8Array(0), "m: 0 bytes, a safetensors file has at least 8"],
  ["seven bytes", new Uint8Array(7), "m: 7 bytes, a safetensors file has at least 8"],
  ["a length and nothing else", fileOf("", 0, 2n), "m: a header of 2 bytes, the file has 0 after its first 8"],
  ["a header cut short", fileOf('{"x":', 0, 60n), "m: a header of 60 bytes, the file has 5 after its first 8"],
  [
    "a length of 100 MB and one",
    fileOf("{}", 0, 100_000_001n),
    "m: a header of 100000001 bytes, at most 100000000 are allowed: not a safetensors file",
  ],
  [
    "a length of 2^64 - 1",
    fileOf("{}", 0, 2n ** 64n - 1n),
    "m: a header of 18446744073709551615 bytes, at most 100000000 are allowed: not a safetensors file",
  ],
  [
    "a length beyond the file",
    fileOf("{}", 0, 99_999_999n),
    "m: a header of 99999999 bytes, the file has 2 after its first 8",
  ],
  ["an empty header", fileOf(""), "m: header: not valid JSON"],
  ["UTF-8 that is not", fileOf(utf8Fault), "m: header: not valid UTF-8"],
  ["a byte order mark", fileOf("\uFEFF{}"), "m: header: not valid JSON"],
  ["text instead of JSON", fileOf("version https://git-lfs.github.com/spec/v1"), "m: header: not valid JSON"],
  ["two JSON values", fileOf("{}{}"), "m: header: not valid JSON"],
  ["NUL bytes as padding", fileOf("{}\0\0"), "m: header: not valid JSON"],
  ["an array", fileOf("[]"), "m: header: [], expected an object"],
  ["null", fileOf("null"), "m: header: null, expected an object"],
  [
    "arrays 100,000 deep",
    fileOf("[".repeat(100_000) + "]".repeat(100_000)),
    "m: header: nested 100000 levels deep, at most 3 are allowed",
  ],
  [
    "objects 50,000 deep, unclosed",
    fileOf('{"a":'.repeat(50_000)),
    "m: header: nested 50000 levels deep, at most 3 are allowed",
  ],
  [
    "a tensor named twice",
    fileOf(`{"x":${f32(0, 4)},"x":${f32(0, 4)}}`, 4),
    "m: header: a key is repeated within one object",
  ],
  [
    "the same name by an escape",
    fileOf(`{"x":${f32(0, 4)},"\\u0078":${f32(0, 4)}}`, 4),
    "m: header: a key is repeated within one object",
  ],
  [
    "two shapes in one entry",
    fileOf('{"x":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}', 8),
    "m: header: a key is repeated within one object",
  ],
  ["metadata that is not an object", fileOf('{"__metadata__":"pt"}'), 'm: __metadata__ is "pt", expected an object'],
  [
    "metadata that is not a string",
    fileOf('{"__metadata__":{"step":3}}'),
    'm: __metadata__ "step": 3, expected a string',
  ],
  ["an entry that is a number", fileOf('{"x":3}'), 'm: tensor "x": 3, expected an object'],
  ["an entry that is null", fileOf('{"x":null}'), 'm: tensor "x": null, expected an object'],
  [
    "no dtype",
    fileOf('{"x":{"shape":[2],"data_offsets":[0,8]}}', 8),
    'm: tensor "x": dtype undefined, expected one of BOOL, U8, I8, F8_E5M2, F8_E4M3, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64',
  ],
  [
    "an unknown dtype",
    one("F12", [2], [0, 8]),
    'm: tensor "x": dtype "F12", expected one of BOOL, U8, I8, F8_E5M2, F8_E4M3, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64',
  ],
  [
    "a dtype that every object has",
    one("constructor", [2], [0, 8]),
    'm: tensor "x": dtype "constructor", expected one of BOOL, U8, I8, F8_E5M2, F8_E4M3, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64',
  ],
  [
    "a shape that is a number",
    one("F32", 2, [0, 8]),
    'm: tensor "x": shape 2, expected an array of non-negative integers',
  ],
  [
    "a negative dimension",
    one("F32", [-1, -2], [0, 8]),
    'm: tensor "x": shape [-1,-2], expected an array of non-negative integers',
  ],
  [
    "half a dimension",
    one("F32", [0.5, 4], [0, 8]),
    'm: tensor "x": shape [0.5,4], expected an array of non-negative integers',
  ],
  [
    "a dimension above 2^53",
    one("F32", [2 ** 53], [0, 8]),
    'm: tensor "x": shape [9007199254740992], expected an array of non-negative integers',
  ],
  [
    "a dimension of 1e999",
    fileOf('{"x":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}', 8),
    'm: tensor "x": shape [null], expected an array of non-negative integers',
  ],
  [
    "dimensions whose product overflows to the length",
    one("U8", [2 ** 32, 2 ** 32], [0, 0], 0),
    'm: tensor "x": data_offsets span 0 bytes, U8 [4294967296,4294967296] needs more than 2^53',
  ],
  [
    "a huge count in a small file",
    one("F32", [10 ** 12], [0, 8]),
    'm: tensor "x": data_offsets span 8 bytes, F32 [1000000000000] needs 4000000000000',
  ],
  [
    "a shape larger than the range",
    one("F32", [3], [0, 8]),
    'm: tensor "x": data_offsets span 8 bytes, F32 [3] needs 12',
  ],
  [
    "a dtype wider than the range",
    one("F64", [2], [0, 8]),
    'm: tensor "x": data_offsets span 8 bytes, F64 [2] needs 16',
  ],
  [
    "no offsets",
    fileOf('{"x":{"dtype":"F32","shape":[2]}}', 8),
    'm: tensor "x": data_offsets undefined, expected [begin, end] with begin <= end',
  ],
  [
    "offsets backwards",
    one("F32", [2], [8, 0]),
    'm: tensor "x": data_offsets [8,0], expected [begin, end] with begin <= end',
  ],
  [
    "a negative offset",
    one("F32", [2], [-8, 0]),
    'm: tensor "x": data_offsets [-8,0], expected [begin, end] with begin <= end',
  ],
  [
    "a range beyond the file",
    one("F32", [2], [0, 8], 4),
    'm: tensor "x": ends at byte 8 of the values, the file has 4',
  ],
  [
    "a range that begins at 2^52",
    one("F32", [2], [2 ** 52, 2 ** 52 + 8]),
    'm: tensor "x": ends at byte 4503599627370504 of the values, the file has 8',
  ],
  ["bytes after the last tensor", one("F32", [2], [0, 8], 9), "m: the tensors end at byte 70, the file has 71"],
  ["bytes and no tensor", fileOf("{}", 4), "m: the tensors end at byte 10, the file has 14"],
  [
    "overlapping tensors",
    two(f32(0, 8), f32(4, 12), 12),
    'm: tensor "y": overlaps the tensor before it, begins at byte 4, expected 8',
  ],
  [
    "two tensors in one place",
    two(f32(0, 8), f32(0, 8), 8),
    'm: tensor "y": overlaps the tensor before it, begins at byte 0, expected 8',
  ],
  [
    "a hole between tensors",
    two(f32(0, 4), f32(8, 12), 12),
    'm: tensor "y": leaves a hole before it, begins at byte 8, expected 4',
  ],
  [
    "a hole at the beginning",
    one("F32", [1], [4, 8]),
    'm: tensor "x": leaves a hole before it, begins at byte 4, expected 0',
  ],
  [
    "an empty tensor inside another",
    two(f32(0, 8), entry("F32", [0], [4, 4]), 8),
    'm: tensor "y": overlaps the tensor before it, begins at byte 4, expected 8',
  ],
  [
    "a long name with control characters",
    fileOf(`{"${"\\u001b".repeat(20)}":1}`),
    'm: tensor "\\u001b\\u001b\\u001b\\u001b\\u001b\\u001b\\u001b\\u001b\\u001b\\u001b\\u001b\\u001b\\u00...: 1, expected an object',
  ],
];

/** What an action fails with. */
async function failureOf(action: () => unknown): Promise<unknown> {
  try {
    await action();
  } catch (error) {
    return error;
  }
  return undefined;
}

it.each(headers)("a safetensors file with %s", async (_name, file, message) => {
  const error = await failureOf(() => parseSafetensors(file, "m"));
  expect(error).toBeInstanceOf(CheckpointError);
  expect((error as Error).message).toBe(message);
});

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "olmoe-bad-"));
});
afterAll(() => rm(root, { recursive: true }));

/** A folder with these files. */
async function folderOf(files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const folder = await mkdtemp(join(root, "m"));
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  return folder;
}

const HINT = 'readable are configs of model_type "olmoe"';
const configs: [
  name: string,
  content: string | Uint8Array,
  type: typeof ConfigError | typeof CheckpointError,
  message: string,
][] = [
  ["no content", "", CheckpointError, "DIR/config.json: not valid JSON"],
  ["half an object", '{"model_type":"olmoe"', CheckpointError, "DIR/config.json: not valid JSON"],
  ["bytes that are not UTF-8", utf8Fault, CheckpointError, "DIR/config.json: not valid UTF-8"],
  [
    "nesting of 100,000",
    "[".repeat(100_000),
    CheckpointError,
    "DIR/config.json: nested 100000 levels deep, at most 32 are allowed",
  ],
  [
    "a key given twice",
    '{"hidden_size":64,"hidden_size":128}',
    CheckpointError,
    "DIR/config.json: a key is repeated within one object",
  ],
  [
    "two megabytes",
    " ".repeat(2_000_000),
    CheckpointError,
    "DIR/config.json: 2000000 bytes, at most 1000000 are allowed",
  ],
  ["a list", "[]", ConfigError, "DIR/config.json: (root): [], expected object, received array"],
  ["no model type", "{}", ConfigError, 'DIR/config.json: model_type: missing, expected "olmoe"'],
  [
    "another model type",
    '{"model_type":"llama"}',
    ConfigError,
    'DIR/config.json: model_type: "llama", expected "olmoe"',
  ],
  [
    "a size in quotes",
    '{"model_type":"olmoe","hidden_size":"64"}',
    ConfigError,
    'DIR/config.json: hidden_size: "64", expected number, received string',
  ],
  [
    "negative layers",
    '{"model_type":"olmoe","num_hidden_layers":-1}',
    ConfigError,
    "DIR/config.json: num_hidden_layers: -1, expected number to be >=1",
  ],
  [
    "half an expert",
    '{"model_type":"olmoe","num_experts":1.5}',
    ConfigError,
    "DIR/config.json: num_experts: 1.5, expected int, received number",
  ],
  [
    "a width of 1e999",
    '{"model_type":"olmoe","hidden_size":1e999}',
    ConfigError,
    "DIR/config.json: hidden_size: Infinity, expected number, received Infinity",
  ],
  [
    "more chosen experts than experts",
    '{"model_type":"olmoe","num_experts":4}',
    ConfigError,
    "DIR/config.json: num_experts_per_tok: 8, must be at most num_experts (4)",
  ],
  [
    "an odd head",
    '{"model_type":"olmoe","hidden_size":48}',
    ConfigError,
    "DIR/config.json: hidden_size: 48 / num_attention_heads is odd, rotary positions need pairs of channels",
  ],
  [
    "scaled rotary positions",
    '{"model_type":"olmoe","rope_parameters":{"rope_type":"yarn","rope_theta":1}}',
    ConfigError,
    'DIR/config.json: rope_parameters.rope_type: "yarn", expected "default"',
  ],
  [
    "an end-of-text id outside the vocabulary",
    '{"model_type":"olmoe","eos_token_id":50304}',
    ConfigError,
    "DIR/config.json: eos_token_id: 50304, must be below vocab_size (50304)",
  ],
];

it.each(configs)("a config.json with %s", async (_name, content, type, message) => {
  const folder = await folderOf({ "config.json": content });
  const error = await failureOf(() => readModelConfig(folder));
  expect(error).toBeInstanceOf(type);
  expect((error as Error).message.replaceAll(folder, "DIR")).toBe(message);
  if (type === ConfigError) expect((error as ConfigError).hint).toContain(HINT);
});

const index = (weightMap: unknown) => JSON.stringify({ weight_map: weightMap });
const INDEX = "model.safetensors.index.json";
const names = Array.from({ length: 12 }, (_, number) => `t${String(number).padStart(2, "0")}`);
const emptyTensors = fileOf(`{${names.map((name) => `"${name}":${f32(0, 0)}`).join(",")}}`);
const nan = fileOf(`{"x":${f32(0, 8)}}`, 8);
nan.set([0, 0, 0xc0, 0x7f], nan.length - 4);
const infinite = fileOf(`{"x":${entry("F16", [2], [0, 4])}}`, 4);
infinite.set([0, 0xfc], infinite.length - 2);

/** Each folder is asked for "x" of two values. */
const folders: [name: string, files: Readonly<Record<string, string | Uint8Array>>, message: string][] = [
  ["nothing", {}, "DIR: neither model.safetensors nor model.safetensors.index.json is in it"],
  [
    "a truncated file",
    { "model.safetensors": one("F32", [2], [0, 8]).subarray(0, -1) },
    'DIR/model.safetensors: tensor "x": ends at byte 8 of the values, the file has 7',
  ],
  [
    "another tensor",
    { "model.safetensors": fileOf(`{"y":${f32(0, 8)}}`, 8) },
    "DIR: 1 tensor missing (x); 1 tensor not wanted (y)",
  ],
  [
    "many other tensors",
    { "model.safetensors": emptyTensors },
    "DIR: 1 tensor missing (x); 12 tensors not wanted (t00, t01, t02, t03, t04, t05, t06, t07 and 4 more)",
  ],
  [
    "another shape",
    { "model.safetensors": one("F32", [2, 1], [0, 8]) },
    "DIR: 1 tensor of another shape (x [2, 1], expected [2])",
  ],
  [
    "another type",
    { "model.safetensors": one("I32", [2], [0, 8]) },
    "DIR: 1 tensor of another type (x I32, expected F32, F16 or BF16)",
  ],
  [
    "a weight that is NaN",
    { "model.safetensors": nan },
    'DIR/model.safetensors: tensor "x": element 1 is NaN, expected finite weights',
  ],
  [
    "an infinite weight",
    { "model.safetensors": infinite },
    'DIR/model.safetensors: tensor "x": element 1 is -Infinity, expected finite weights',
  ],
  [
    "a name that writes to the terminal",
    { "model.safetensors": fileOf(`{"\\u001b[2J":${f32(0, 0)}}`) },
    'DIR: 1 tensor missing (x); 1 tensor not wanted ("\\u001b[2J")',
  ],
  ["an index that is not JSON", { [INDEX]: "{" }, `DIR/${INDEX}: not valid JSON`],
  ["an index without a map", { [INDEX]: "{}" }, `DIR/${INDEX}: weight_map: undefined, expected an object`],
  [
    "an index that leads out of the folder",
    { [INDEX]: index({ x: "../other.safetensors" }) },
    `DIR/${INDEX}: weight_map "x": "../other.safetensors", expected the name of a .safetensors file beside it`,
  ],
  [
    "an index that names a device",
    { [INDEX]: index({ x: "/dev/zero" }) },
    `DIR/${INDEX}: weight_map "x": "/dev/zero", expected the name of a .safetensors file beside it`,
  ],
  [
    "an index with a number for a file",
    { [INDEX]: index({ x: 1 }) },
    `DIR/${INDEX}: weight_map "x": 1, expected the name of a .safetensors file beside it`,
  ],
  ["an index and no shard", { [INDEX]: index({ x: "a.safetensors" }) }, "DIR: DIR/a.safetensors: no such file"],
  [
    "an index with 1,000 shards that are not there",
    { [INDEX]: index(Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`t${n}`, `${n}.safetensors`]))) },
    `DIR: 1 tensor missing (x); ${Array.from({ length: 8 }, (_, n) => `DIR/${n}.safetensors: no such file`).join("; ")}`,
  ],
  [
    "a shard without the tensor it is to hold",
    { [INDEX]: index({ x: "a.safetensors" }), "a.safetensors": fileOf("{}") },
    "DIR: 1 tensor missing (x)",
  ],
  [
    "a shard with a tensor the index lacks",
    { [INDEX]: index({ x: "a.safetensors" }), "a.safetensors": two(f32(0, 8), f32(8, 12), 12) },
    "DIR: DIR/a.safetensors: 1 tensor not in the index (y)",
  ],
];

it.each(folders)("a model folder with %s", async (_name, files, message) => {
  const folder = await folderOf(files);
  const error = await failureOf(() => loadWeights(folder, [{ name: "x", shape: [2], target: new Float32Array(2) }]));
  expect(error).toBeInstanceOf(CheckpointError);
  expect((error as Error).message.replaceAll(folder, "DIR")).toBe(message);
});

describe("a path", () => {
  it("that is a file is refused with the folder it expects", async () => {
    const folder = await folderOf({ "model.safetensors": "" });
    const path = join(folder, "model.safetensors");
    await expect(loadWeights(path, [])).rejects.toThrow(
      new CheckpointError(`${path}: a file, expected a folder with model.safetensors or model.safetensors.index.json`, {
        hint: "give the folder that holds the file",
      }),
    );
  });

  it("where config.json is a folder is refused", async () => {
    const folder = await folderOf({});
    await mkdir(join(folder, "config.json"));
    await expect(readModelConfig(folder)).rejects.toThrow(
      new CheckpointError(`${folder}/config.json: a folder, expected a file`),
    );
  });

  it("of a model in pickles is answered with how to convert it", async () => {
    const folder = await folderOf({ "pytorch_model-00001-of-00002.bin": "" });
    const error = await failureOf(() => loadWeights(folder, []));
    expect((error as CheckpointError).hint).toBe(
      "pytorch_model-00001-of-00002.bin is a pickle, which is not read: save the model with safe_serialization=True",
    );
  });

  it("without a folder behind it is answered with what was looked for", async () => {
    const path = join(root, "absent");
    await expect(readModelConfig(path)).rejects.toThrow(
      new CheckpointError(`${path}: no such folder, looked for config.json in it`, {
        hint: "check the path; a training run keeps its models in runs/NAME/checkpoints",
        cause: undefined,
      }),
    );
  });
});

describe("fused experts", () => {
  const wanted = (experts: number): WantedTensor[] =>
    Array.from({ length: experts }, (_, expert) =>
      ["gate", "up", "down"].map((kind) => ({
        name: `model.layers.0.mlp.experts.${expert}.${kind}_proj.weight`,
        shape: kind === "down" ? [3, 2] : [2, 3],
        target: new Float32Array(6),
      })),
    ).flat();
  const fused = (experts: number) => [
    { name: "model.layers.0.mlp.experts.gate_up_proj", shape: [experts, 4, 3], data: new Float32Array(experts * 12) },
    { name: "model.layers.0.mlp.experts.down_proj", shape: [experts, 3, 2], data: new Float32Array(experts * 6) },
  ];

  it("for another number of experts are refused once per stored tensor", async () => {
    const folder = await folderOf({});
    await saveWeights(folder, fused(3), { dtype: "f32" });
    const error = await failureOf(() => loadWeights(folder, wanted(2)));
    expect(error).toBeInstanceOf(OlmoeError);
    expect((error as Error).message).toBe(
      `${folder}: 2 tensors of another shape (model.layers.0.mlp.experts.gate_up_proj [3, 4, 3], expected [2, 4, 3], ` +
        "model.layers.0.mlp.experts.down_proj [3, 3, 2], expected [2, 3, 2])",
    );
  });

  it("beside the same experts one by one are refused, because it is open which hold", async () => {
    const folder = await folderOf({});
    const single = wanted(2).map(({ target, ...rest }) => ({ ...rest, data: target }));
    await saveWeights(folder, [...single, ...fused(2)], { dtype: "f32" });
    await expect(loadWeights(folder, wanted(2))).rejects.toThrow(
      "2 tensors not wanted (model.layers.0.mlp.experts.down_proj, model.layers.0.mlp.experts.gate_up_proj)",
    );
  });
});
