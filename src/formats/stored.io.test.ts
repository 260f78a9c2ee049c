import { spawnSync } from "node:child_process";
import { copyFile, mkdtemp, readFile, rm, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Backend } from "../backend/backend.ts";
import { openBackend } from "../backend/io.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { resolveModel } from "../config/presets.ts";
import { CheckpointError } from "../errors.ts";
import { Parameters, parameterSpecs } from "../model/parameters.ts";
import type { StoredWeight } from "../tensor/stored.ts";
import { allocateTensor, shapeSize } from "../tensor/tensor.ts";
import { writeGguf } from "./gguf.io.ts";
import type { GgufValue } from "./gguf.ts";
import { configToGguf } from "./ggufConfig.ts";
import { ggufLayout } from "./ggufNames.ts";
import { saveModel } from "./model.io.ts";
import { openStored, placeFile } from "./stored.io.ts";
import { openStoredGguf, type StoredModel } from "./stored.ts";

// Opened here, because the first time they may have to be compiled.
const native = await openBackend({ backend: "native", threads: 1 }).catch(() => undefined);
const wasm = await openBackend({ backend: "wasm", threads: 1 });

let root: string;
let parameters: Parameters;
let folder: string;
let file: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "olmoe-stored-"));
  parameters = new Parameters(createReferenceBackend(), resolveModel({ preset: "tiny", vocabSize: 40 }), {
    trainable: false,
  });
  parameters.initialise(7);
  folder = join(root, "model");
  await saveModel(folder, parameters, { dtype: "f32" });
  file = join(root, "model.gguf");
  await writeModel(file);
});
afterAll(() => rm(root, { recursive: true }));

/** The model as a GGUF file of f32. */
async function writeModel(path: string, maxShardBytes?: number): Promise<string[]> {
  const { config } = parameters;
  const values = new Map(parameters.tensors().map(({ name, data }) => [name, data]));
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "STRING", value: "olmoe" }],
    ...configToGguf(config),
  ]);
  const bytesOf = (name: string) => {
    const data = values.get(name) as Float32Array;
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  };
  const tensors = ggufLayout(config).map(({ name, shape, slices }) => ({
    name,
    shape,
    type: "F32" as const,
    data: () => slices.map(({ name }) => bytesOf(name)),
  }));
  return writeGguf(path, metadata, tensors, { maxShardBytes });
}

/** All values of a model of f32, read by a kernel, by the names of the parameters. */
function valuesOf(model: StoredModel, backend: Backend): Map<string, Float32Array> {
  const result = new Map<string, Float32Array>();
  for (const spec of parameterSpecs(model.config)) {
    const size = shapeSize(spec.shape);
    const out = allocateTensor(backend, "f32", [size]);
    const zeros = allocateTensor(backend, "f32", [size]);
    const weight = model.weight(spec);
    if ("value" in weight) backend.kernels.add(weight.value.pointer, zeros.pointer, out.pointer, size);
    else copyParts(weight, backend, zeros.pointer, out.pointer);
    result.set(spec.name, Float32Array.from(out.data));
  }
  return result;
}

function copyParts({ addresses, rows, columns }: StoredWeight, backend: Backend, zeros: number, out: number): void {
  const size = rows * columns;
  for (const [part, address] of addresses.data.entries()) {
    backend.kernels.add(address, zeros, out + 4 * part * size, size);
  }
}

function expectedValues(): Map<string, Float32Array> {
  return new Map(
    parameterSpecs(parameters.config).map(({ name }) => [name, Float32Array.from(parameters.get(name).value.data)]),
  );
}

const backends: [string, () => Promise<Backend>][] = [
  ["reference", async () => createReferenceBackend()],
  ["wasm", async () => wasm],
];
if (native !== undefined) backends.push(["native", async () => native]);

describe.each(backends)("a model opened on the %s backend", (_, open) => {
  it("has the values of its folder, mapped or read", async () => {
    const backend = await open();
    const model = await openStored(folder, backend);
    expect(valuesOf(model, backend)).toEqual(expectedValues());
    model.check();
    model.dispose();
  });

  it("has the values of its GGUF file, from disk and from memory", async () => {
    const backend = await open();
    const model = await openStored(file, backend);
    expect(valuesOf(model, backend)).toEqual(expectedValues());
    expect([...model.types]).toEqual([["F32", 69]]);
    model.dispose();
    const fetched = await openStoredGguf(await readFile(file), "page", backend);
    expect(valuesOf(fetched, backend)).toEqual(expectedValues());
    fetched.dispose();
  });

  it("has the values of a split GGUF file, given any of its files", async () => {
    const backend = await open();
    const paths = await writeModel(join(root, "split.gguf"), 50_000);
    expect(paths.length).toBe(4);
    for (const path of [paths[0], paths[3]]) {
      const model = await openStored(path as string, backend);
      expect(valuesOf(model, backend)).toEqual(expectedValues());
      model.dispose();
    }
  });
});

describe("norms and matrices", () => {
  it("are f32 variables and stored weights in the order that kernels take them", async () => {
    const backend = createReferenceBackend();
    const model = await openStored(file, backend, { activations: "f32" });
    const kinds = parameterSpecs(model.config).map((spec) => {
      const weight = model.weight(spec);
      return "value" in weight
        ? `${spec.name} f32 [${weight.value.shape}]`
        : `${spec.name} ${weight.type} [${weight.shape}] = ${weight.addresses.size} x [${weight.rows},${weight.columns}] ${weight.activations}`;
    });
    expect(kinds.filter((kind) => !kind.includes("layers.1"))).toEqual([
      "model.embed_tokens.weight F32 [40,32] = 1 x [40,32] f32",
      "model.layers.0.input_layernorm.weight f32 [32]",
      "model.layers.0.self_attn.q_proj.weight F32 [32,32] = 1 x [32,32] f32",
      "model.layers.0.self_attn.k_proj.weight F32 [32,32] = 1 x [32,32] f32",
      "model.layers.0.self_attn.v_proj.weight F32 [32,32] = 1 x [32,32] f32",
      "model.layers.0.self_attn.o_proj.weight F32 [32,32] = 1 x [32,32] f32",
      "model.layers.0.self_attn.q_norm.weight f32 [32]",
      "model.layers.0.self_attn.k_norm.weight f32 [32]",
      "model.layers.0.post_attention_layernorm.weight f32 [32]",
      "model.layers.0.mlp.gate.weight f32 [8,32]",
      "model.layers.0.mlp.experts.gate_up_proj F32 [8,32,32] = 16 x [16,32] f32",
      "model.layers.0.mlp.experts.down_proj F32 [8,32,16] = 8 x [32,16] f32",
      "model.norm.weight f32 [32]",
      "lm_head.weight F32 [40,32] = 1 x [40,32] f32",
    ]);
    model.dispose();
  });
});

describe.skipIf(native === undefined)("mapped files", () => {
  const backend = native as Backend;

  it("are mapped once for all who open the same file", async () => {
    const [a, b] = [await placeFile(backend, file), await placeFile(backend, file)];
    expect(b.address).toBe(a.address);
    a.release();
    a.release();
    expect(backend.kernels.sumSquares(b.address, 8)).toBeGreaterThan(0);
    const changed = join(root, "copy.gguf");
    await copyFile(file, changed);
    const c = await placeFile(backend, changed);
    expect(c.address).not.toBe(b.address);
    b.release();
    c.release();
  });

  it("say so once the file changes under them", async () => {
    const copy = join(root, "changed.gguf");
    await copyFile(file, copy);
    const mapped = await placeFile(backend, copy);
    mapped.check();
    await utimes(copy, 1, 1);
    expect(() => mapped.check()).toThrow(
      new CheckpointError(`${copy}: the file was changed, cut short or became unreadable while it was in use`, {
        hint: "another program writes to this file, or its disk fails: open the model again when the file is whole",
      }),
    );
    const again = await placeFile(backend, copy);
    expect(again.address).not.toBe(mapped.address);
    mapped.release();
    again.release();
  });

  it("read as zeros, and do not end the process, where the file is cut short while a kernel reads it", async () => {
    const copy = join(root, "cut.gguf");
    await copyFile(file, copy);
    const { stdout, stderr, signal } = child(copy, "cut");
    expect({ stdout, stderr, signal }).toEqual({
      stdout: `before true\nafter 0\nE_CHECKPOINT ${copy}: the file was changed, cut short or became unreadable while it was in use\n`,
      stderr: "",
      signal: null,
    });
  });

  it("leave a bus error from elsewhere its usual end", async () => {
    const copy = join(root, "kill.gguf");
    await copyFile(file, copy);
    expect(child(copy, "kill")).toMatchObject({ stdout: "before true\n", signal: "SIGBUS" });
  });
});

/** Maps a file in a process of its own, and cuts it short or sends the signal from outside. */
function child(path: string, what: "cut" | "kill") {
  const script = fileURLToPath(new URL("../../test/mappedChild.ts", import.meta.url));
  return spawnSync(process.execPath, ["--import", "tsx", script, path, what], { encoding: "utf8" });
}
