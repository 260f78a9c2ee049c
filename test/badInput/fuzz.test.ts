/**
 * Seeded mutations of small valid files. Whatever the bytes, reading either works or throws an OlmoeError, and nothing it
 * gives is larger than the file. OLMOE_LONG_TESTS=1 runs 100,000 mutations.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { configToHuggingFace } from "../../src/config/huggingface.ts";
import { resolveModel } from "../../src/config/presets.ts";
import { loadWeights, readModelConfig, saveWeights, type WantedTensor } from "../../src/formats/huggingface.io.ts";
import { SafetensorsFile, writeSafetensors } from "../../src/formats/io.ts";
import { PREFIX_BYTES } from "../../src/formats/safetensors.ts";
import { edits, mutate, runs, survives, TIMEOUT_MS } from "./mutations.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "olmoe-fuzz-"));
});
afterAll(() => rm(root, { recursive: true }));

async function readEverything(path: string, fileBytes: number): Promise<void> {
  const file = await SafetensorsFile.open(path);
  try {
    const total = [...file.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(total).toBeLessThan(fileBytes);
    for (const [name, { dtype, shape }] of file.tensors) {
      if (dtype === "I32" || dtype === "I64") await survives(async () => void (await file.readI32(name)));
      else if (dtype === "F64") await survives(async () => void (await file.readF64(name)));
      else {
        const size = shape.reduce((product, dimension) => product * dimension, 1);
        expect(size).toBeLessThan(fileBytes);
        await survives(() => file.readInto(name, new Float32Array(size)));
      }
    }
  } finally {
    await file.close();
  }
}

it(
  "a mutated safetensors file is read or refused",
  async () => {
    const path = join(root, "x.safetensors");
    await writeSafetensors(
      path,
      [
        { name: "a", dtype: "F32", shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
        { name: "b", dtype: "BF16", shape: [3], data: Float32Array.of(1, 2, 3) },
        { name: "c", dtype: "F64", shape: [], data: Float64Array.of(1) },
        { name: "d", dtype: "I32", shape: [2, 0], data: new Int32Array(0) },
      ],
      { metadata: { format: "pt" } },
    );
    const whole = await readFile(path);
    await fc.assert(
      fc.asyncProperty(edits, fc.boolean(), async (changes, headerOnly) => {
        // Half of the runs change the header alone and state its new length, to get past the first check.
        const headerEnd = PREFIX_BYTES + Number(whole.readBigUInt64LE());
        const header = mutate(whole.subarray(PREFIX_BYTES, headerEnd), changes);
        const prefix = Buffer.alloc(PREFIX_BYTES);
        prefix.writeBigUInt64LE(BigInt(header.length));
        const bytes = headerOnly ? Buffer.concat([prefix, header, whole.subarray(headerEnd)]) : mutate(whole, changes);
        await writeFile(path, bytes);
        await survives(() => readEverything(path, bytes.length));
      }),
      runs(0.5),
    );
  },
  TIMEOUT_MS,
);

it(
  "a mutated config.json is read or refused",
  async () => {
    const whole = new TextEncoder().encode(
      JSON.stringify(configToHuggingFace(resolveModel({ preset: "tiny" })), null, 2),
    );
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        await writeFile(join(root, "config.json"), mutate(whole, changes));
        await survives(async () => void (await readModelConfig(root)));
      }),
      runs(0.3),
    );
  },
  TIMEOUT_MS,
);

it(
  "a mutated shard index is read or refused",
  async () => {
    const folder = join(root, "sharded");
    const wanted = ["a", "b", "c"].map((name): WantedTensor => ({ name, shape: [2], target: new Float32Array(2) }));
    const tensors = wanted.map(({ name, shape, target }) => ({ name, shape, data: target }));
    await saveWeights(folder, tensors, { dtype: "f32", maxShardBytes: 8 });
    const path = join(folder, "model.safetensors.index.json");
    const whole = await readFile(path);
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        await writeFile(path, mutate(whole, changes));
        await survives(() => loadWeights(folder, wanted));
      }),
      runs(0.2),
    );
  },
  TIMEOUT_MS,
);
