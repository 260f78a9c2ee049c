import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { resolveModel } from "../config/presets.ts";
import { CheckpointError } from "../errors.ts";
import {
  loadWeights,
  readModelConfig,
  type SavedTensor,
  saveWeights,
  type WantedTensor,
  writeModelConfig,
} from "./huggingface.io.ts";
import { SafetensorsFile, writeSafetensors } from "./io.ts";

let root: string;
let counter = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "olmoe-huggingface-"));
});
afterAll(() => rm(root, { recursive: true }));

async function newFolder(): Promise<string> {
  const folder = join(root, String(counter++));
  await mkdir(folder);
  return folder;
}

function saved(name: string, shape: readonly number[], first = 0): SavedTensor {
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  return { name, shape, data: Float32Array.from({ length: size }, (_, index) => first + index) };
}

function wantedOf(tensors: readonly { name: string; shape: readonly number[] }[]): WantedTensor[] {
  return tensors.map(({ name, shape }) => ({ name, shape, target: saved(name, shape).data.fill(0) }));
}

const values = (tensors: readonly WantedTensor[]) =>
  Object.fromEntries(tensors.map(({ name, target }) => [name, [...target]]));

/** The wanted tensors of one layer with two experts of width 2 and model width 3. */
const experts = [0, 1].flatMap((expert) => [
  saved(`model.layers.0.mlp.experts.${expert}.gate_proj.weight`, [2, 3], 100 * expert),
  saved(`model.layers.0.mlp.experts.${expert}.up_proj.weight`, [2, 3], 100 * expert + 20),
  saved(`model.layers.0.mlp.experts.${expert}.down_proj.weight`, [3, 2], 100 * expert + 40),
]);

describe("loadWeights", () => {
  it("reads fused experts: gate rows first, then up rows, expert after expert", async () => {
    const folder = await newFolder();
    const fused = [
      ...experts.filter(({ name }) => !name.includes("down")),
      ...experts.filter(({ name }) => name.includes("down")),
    ].flatMap(({ data }) => [...data]);
    await saveWeights(
      folder,
      [
        {
          name: "model.layers.0.mlp.experts.gate_up_proj",
          shape: [2, 4, 3],
          data: Float32Array.from(fused.slice(0, 24)),
        },
        { name: "model.layers.0.mlp.experts.down_proj", shape: [2, 3, 2], data: Float32Array.from(fused.slice(24)) },
      ],
      { dtype: "f32" },
    );
    const wanted = wantedOf(experts);
    await loadWeights(folder, wanted);
    expect(values(wanted)).toEqual(Object.fromEntries(experts.map(({ name, data }) => [name, [...data]])));
  });

  it("passes over tensors that change nothing", async () => {
    const folder = await newFolder();
    const embedding = saved("model.embed_tokens.weight", [4, 2]);
    await saveWeights(
      folder,
      [
        embedding,
        saved("lm_head.weight", [4, 2]),
        saved("model.layers.0.self_attn.rotary_emb.inv_freq", [2]),
        saved("model.layers.0.mlp.gate.weight", [1, 2]),
      ],
      { dtype: "f32" },
    );
    const wanted = wantedOf([embedding]);
    await loadWeights(folder, wanted);
    expect(values(wanted)).toEqual({ "model.embed_tokens.weight": [0, 1, 2, 3, 4, 5, 6, 7] });
  });

  it("stops on an aborted signal", async () => {
    const folder = await newFolder();
    await saveWeights(folder, experts, { dtype: "f32" });
    await expect(loadWeights(folder, wantedOf(experts), { signal: AbortSignal.abort() })).rejects.toThrow("aborted");
  });

  it("says where a model that is not on this machine comes from", async () => {
    await expect(loadWeights("allenai/OLMoE-1B-7B-0924", [])).rejects.toThrow(
      new CheckpointError(
        "allenai/OLMoE-1B-7B-0924: no such folder, looked for model.safetensors or model.safetensors.index.json in it",
        {
          hint: "if this is a name on the Hugging Face hub: download its files first and give their folder",
        },
      ),
    );
  });
});

describe("saveWeights", () => {
  it.each(["f32", "f16", "bf16"] as const)("and loadWeights keep every bit of finite %s weights", async (dtype) => {
    const folder = await newFolder();
    const widenBits = { f32: 0, bf16: 16, f16: 0 };
    const pattern = fc.uint32Array({ minLength: 1, maxLength: 40 }).map((bits) => {
      const data = new Float32Array(bits.map((value) => (value << widenBits[dtype]) >>> 0).buffer);
      // Multiples of 2^-10 below 2 have 11 significant bits, as many as an f16 holds.
      return data.map((value, index) => (dtype === "f16" ? (bits[index]! % 2 ** 11) / 2 ** 10 : value));
    });
    await fc.assert(
      fc.asyncProperty(
        pattern.filter((data) => data.every(Number.isFinite)),
        async (data) => {
          await saveWeights(folder, [{ name: "x", shape: [data.length], data }], { dtype });
          const wanted = wantedOf([{ name: "x", shape: [data.length] }]);
          await loadWeights(folder, wanted);
          expect(Buffer.compare(Buffer.from(wanted[0]!.target.buffer), Buffer.from(data.buffer))).toBe(0);
          const file = await SafetensorsFile.open(join(folder, "model.safetensors"));
          await file.close();
          expect([file.tensors.get("x")?.dtype, file.metadata.get("format")]).toEqual([dtype.toUpperCase(), "pt"]);
        },
      ),
      { seed: 1, numRuns: 30 },
    );
  });

  it("splits at the shard size, writes the index, and removes what an earlier save left", async () => {
    const folder = await newFolder();
    const tensors = [saved("a", [4]), saved("b", [2]), saved("c", [3]), saved("d", [9])];
    await saveWeights(folder, tensors, { dtype: "f32" });
    await saveWeights(folder, tensors, { dtype: "f32", maxShardBytes: 24 });
    expect((await readdir(folder)).sort()).toEqual([
      "model-00001-of-00003.safetensors",
      "model-00002-of-00003.safetensors",
      "model-00003-of-00003.safetensors",
      "model.safetensors.index.json",
    ]);
    expect(JSON.parse(await readFile(join(folder, "model.safetensors.index.json"), "utf8"))).toEqual({
      metadata: { total_size: 72 },
      weight_map: {
        a: "model-00001-of-00003.safetensors",
        b: "model-00001-of-00003.safetensors",
        c: "model-00002-of-00003.safetensors",
        d: "model-00003-of-00003.safetensors",
      },
    });
    const wanted = wantedOf(tensors);
    await loadWeights(folder, wanted);
    expect(values(wanted)).toEqual(Object.fromEntries(tensors.map(({ name, data }) => [name, [...data]])));
    await saveWeights(folder, tensors, { dtype: "f32" });
    expect(await readdir(folder)).toEqual(["model.safetensors"]);
  });

  it("refuses weights that are not finite in the stored type, before it writes", async () => {
    const folder = await newFolder();
    const one = (value: number) => [{ name: "x", shape: [2], data: Float32Array.of(0, value) }];
    await expect(saveWeights(folder, one(70_000), { dtype: "f16" })).rejects.toThrow(
      new CheckpointError('weights: "x": element 1 is 70000, not finite in f16', { hint: "save as f32" }),
    );
    await expect(saveWeights(folder, one(3.4e38), { dtype: "bf16" })).rejects.toThrow(CheckpointError);
    await expect(saveWeights(folder, one(Number.NaN), { dtype: "f32" })).rejects.toThrow(
      new CheckpointError('weights: "x": element 1 is NaN, not finite in f32', {
        hint: "the model is damaged: go back to an earlier checkpoint",
      }),
    );
    expect(await readdir(folder)).toEqual([]);
  });
});

it("writes a config that it reads back, making the folder", async () => {
  const folder = join(await newFolder(), "new");
  const config = resolveModel({ preset: "nano-dense", ropeTheta: 500 });
  await writeModelConfig(folder, config, "bf16");
  expect(await readModelConfig(folder)).toEqual(config);
  expect(JSON.parse(await readFile(join(folder, "config.json"), "utf8"))).toMatchObject({ torch_dtype: "bfloat16" });
});

const reference = fileURLToPath(new URL("../../../shared/reference/parity/", import.meta.url));
describe.skipIf(!existsSync(reference))("the reference models (skipped where those are absent)", () => {
  const single = join(reference, "olmoe/normtopk");

  /** All tensors of a single file, as a model would want them. */
  async function wantedIn(folder: string): Promise<WantedTensor[]> {
    const file = await SafetensorsFile.open(join(folder, "model.safetensors"));
    await file.close();
    return wantedOf([...file.tensors].map(([name, { shape }]) => ({ name, shape })));
  }

  it.each(["sharded", "fused"])("give the same tensors from the %s layout as from the single file", async (layout) => {
    const expected = await wantedIn(single);
    await loadWeights(single, expected);
    const wanted = wantedOf(expected);
    await loadWeights(join(single, "layouts", layout), wanted);
    expect(values(wanted)).toEqual(values(expected));
    expect(await readModelConfig(join(single, "layouts", layout))).toEqual(await readModelConfig(single));
  });

  it.each(["olmoe/normtopk", "gguf/wide/hf"])("are written to the same bytes again: %s", async (name) => {
    const folder = await newFolder();
    const wanted = await wantedIn(join(reference, name));
    await loadWeights(join(reference, name), wanted);
    const dtype = name.includes("gguf") ? "bf16" : "f32";
    const tensors = wanted.map(({ target, ...rest }) => ({ ...rest, data: target }));
    await saveWeights(folder, tensors, { dtype });
    const [ours, theirs] = await Promise.all(
      [folder, join(reference, name)].map((path) => readFile(join(path, "model.safetensors"))),
    );
    expect(Buffer.compare(ours!, theirs!)).toBe(0);
  });
});

it("reports several damaged shards and misfits in one error", async () => {
  const folder = await newFolder();
  const tensors = [saved("a", [2]), saved("b", [2]), saved("c", [2])];
  await saveWeights(folder, tensors, { dtype: "f32", maxShardBytes: 8 });
  const shard = (index: number) => join(folder, `model-0000${index}-of-00003.safetensors`);
  const bytes = await readFile(shard(1));
  await writeFile(shard(1), bytes.subarray(0, -3));
  await rm(shard(2));
  await writeSafetensors(shard(3), [{ name: "c", dtype: "I32", shape: [2], data: Int32Array.of(1, 2) }]);
  await expect(loadWeights(folder, wantedOf([...tensors, saved("e", [1])]))).rejects.toThrow(
    new CheckpointError(
      `${folder}: 1 tensor missing (e); 1 tensor of another type (c I32, expected F32, F16 or BF16); ` +
        `${shard(1)}: tensor "a": ends at byte 8 of the values, the file has 5; ${shard(2)}: no such file`,
      { hint: "the weights do not belong to this config, or a file is incomplete: fetch or write the model again" },
    ),
  );
});
