import { mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { parityPath, parityPresent } from "../../test/parity/fixtures.ts";
import { openBackend } from "../backend/io.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { resolveModel } from "../config/presets.ts";
import { CheckpointError, ConfigError, ResourceError } from "../errors.ts";
import { Parameters } from "../model/parameters.ts";
import { convertModel } from "./convert.io.ts";
import { GgufFile } from "./gguf.io.ts";
import { saveModel } from "./model.io.ts";
import { quantizeModel } from "./quantize.io.ts";
import type { QuantizePreset } from "./quantizePresets.ts";

const folder = await mkdtemp(join(tmpdir(), "olmoe-quantize-"));
const at = (name: string) => join(folder, name);
const backend = createReferenceBackend();
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());

const config = resolveModel({ preset: "tiny", hiddenSize: 64, intermediateSize: 32, vocabSize: 300 });
const parameters = new Parameters(backend, config, { trainable: false });
parameters.initialise(1);
const model = at("model");
await saveModel(model, parameters);
// Here, because its kernels may have to be compiled first.
const native = await openBackend();
afterAll(() => native.close());

/** Writes the model with another value in one place. */
async function writeBroken(name: string, tensor: string, index: number, value: number): Promise<string> {
  const path = at(`${name}-input.gguf`);
  await convertModel(model, path);
  const file = await GgufFile.open(path);
  const place = file.tensors.get(tensor)!.byteOffset + 4 * index;
  await file.close();
  const handle = await open(path, "r+");
  await handle.write(new Uint8Array(Float32Array.of(value).buffer), 0, 4, place);
  await handle.close();
  return path;
}

describe.skipIf(!parityPresent)("quantizeModel against llama-quantize (reference values absent: skipped)", () => {
  it.each([
    ["narrow", "Q8_0"],
    ["narrow", "Q4_0"],
    ["wide", "Q4_0"],
    ["wide", "Q4_K_M"],
    ["wide", "Q5_K_M"],
    ["wide", "Q6_K"],
  ])("makes the whole file of %s %s, byte for byte, from the Hugging Face folder", async (name, type) => {
    // The folder's name becomes general.name.
    const input = at(`${name}-${type}/tiny-olmoe-${name}`);
    await mkdir(at(`${name}-${type}`));
    await symlink(parityPath(`gguf/${name}/hf`), input);
    const path = at(`${name}-${type}.gguf`);
    await quantizeModel(input, path, { type: type.toLowerCase() as QuantizePreset, backend: native });
    const [made, expected] = await Promise.all(
      [path, parityPath(`gguf/${name}/tiny-${type}.gguf`)].map((p) => readFile(p)),
    );
    expect(Buffer.compare(made!, expected!)).toBe(0);
  });

  it.each([
    ["f32", "Q8_0"],
    ["f32", "Q4_0"],
    ["f32", "f16"],
    ["f32", "bf16"],
  ])("makes the same tensors from llama.cpp's own %s file: %s", async (from, type) => {
    const path = at(`narrow-${from}-${type}.gguf`);
    await quantizeModel(parityPath(`gguf/narrow/tiny-${from}.gguf`), path, {
      type: type.toLowerCase() as QuantizePreset,
      backend,
    });
    const expected = parityPath(`gguf/narrow/tiny-${type}.gguf`);
    expect(await tensorsOf(path)).toEqual(await tensorsOf(expected));
  });
});

/** Type, shape and bytes of each tensor. */
async function tensorsOf(path: string): Promise<Record<string, unknown>> {
  const file = await GgufFile.open(path);
  const tensors: Record<string, unknown> = {};
  for (const [name, { type, shape, byteLength }] of file.tensors) {
    const bytes = new Uint8Array(byteLength);
    await file.read(name, bytes);
    tensors[name] = { type, shape, bytes: Buffer.from(bytes).toString("base64") };
  }
  await file.close();
  return tensors;
}

describe("quantizeModel", () => {
  it("reports each tensor and the whole, and tells how far it is", async () => {
    const progress: { tensor: string; bytes: number; totalBytes: number }[] = [];
    const done = await quantizeModel(model, at("reported.gguf"), {
      type: "q8_0",
      backend,
      onProgress: (now) => progress.push(now),
    });
    const file = await GgufFile.open(at("reported.gguf"));
    const stored = [...file.tensors].map(([name, { type, shape, byteLength }]) => ({ name, type, shape, byteLength }));
    await file.close();
    expect(done.tensors.map(({ name, type, shape, bytes }) => ({ name, type, shape, byteLength: bytes }))).toEqual(
      stored,
    );
    expect(new Set(done.tensors.map(({ from }) => from))).toEqual(new Set(["F32"]));
    expect(done.bytes).toBe(done.tensors.reduce((sum, { bytes }) => sum + bytes, 0));
    for (const { type, relativeError, worst } of done.tensors) {
      // Uniform rounding to 1 / 127 of the largest of 32 normal values.
      if (type === "Q8_0") expect(relativeError).toBeCloseTo(0.0055, 3);
      else expect([relativeError, worst]).toEqual([0, 0]);
    }
    expect(done.worst).toBe(Math.max(...done.tensors.map(({ worst }) => worst)));
    expect(done.relativeError).toBeCloseTo(0.0055, 3);
    expect(done.bitsPerWeight).toBeCloseTo((8 * done.bytes) / (done.inputBytes / 4), 10);
    expect(progress.at(-1)).toEqual({
      tensor: done.tensors.at(-1)!.name,
      bytes: done.inputBytes,
      totalBytes: done.inputBytes,
    });
    expect(progress.every(({ bytes }, i) => i === 0 || bytes > progress[i - 1]!.bytes)).toBe(true);
  });

  it("quantises a quantised model again only where that is allowed, and copies what keeps its type", async () => {
    const once = at("once.gguf");
    await quantizeModel(model, once, { type: "q8_0", backend });
    await expect(quantizeModel(once, at("twice.gguf"), { type: "q4_0", backend })).rejects.toThrow(
      new CheckpointError(
        `${once}: tensor "token_embd.weight" is quantised already (Q8_0), expected F32, F16 or BF16`,
        {
          hint: "quantise the original model, or add --allow-requantize and accept a larger error",
        },
      ),
    );
    expect(await readdir(folder)).not.toContain("twice.gguf");
    const twice = await quantizeModel(once, at("twice.gguf"), { type: "q4_0", backend, allowRequantize: true });
    const query = twice.tensors.find(({ name }) => name === "blk.0.attn_q.weight");
    expect(query).toMatchObject({ from: "Q8_0", type: "Q4_0" });
    expect(query?.relativeError).toBeGreaterThan(0.05);
    const copied = await quantizeModel(once, at("copied.gguf"), { type: "q8_0", backend });
    expect(copied.relativeError).toBe(0);
    expect(await tensorsOf(at("copied.gguf"))).toEqual(await tensorsOf(once));
  });

  it("refuses weights that are not finite or too large for their type, and leaves no file", async () => {
    const tensor = "blk.1.attn_output.weight";
    const broken = await writeBroken("broken", tensor, 77, Number.NaN);
    await expect(quantizeModel(broken, at("broken.gguf"), { type: "q4_0", backend })).rejects.toThrow(
      new CheckpointError(`${broken}: tensor "${tensor}": element 77 is NaN, expected finite weights`, {
        hint: "the model is damaged: fetch it again or go back to an earlier checkpoint",
      }),
    );
    const large = await writeBroken("large", tensor, 77, 1e6);
    await expect(quantizeModel(large, at("large.gguf"), { type: "f16", backend })).rejects.toThrow(
      new CheckpointError(`${large}: tensor "${tensor}": element 77 is 1000000, too large for F16`, {
        hint: "choose --type bf16",
      }),
    );
    expect((await readdir(folder)).filter((name) => /^(broken|large)\./.test(name))).toEqual([]);
  });

  it("refuses a target that is no GGUF file, or the input itself", async () => {
    await expect(quantizeModel(model, at("x.bin"), { type: "q4_0", backend })).rejects.toThrow(
      new ConfigError(`${at("x.bin")}: the name of a GGUF file, must end in ".gguf"`),
    );
    await quantizeModel(model, at("same.gguf"), { type: "bf16", backend });
    await symlink(at("same.gguf"), at("link.gguf"));
    await expect(quantizeModel(at("same.gguf"), at("link.gguf"), { type: "q4_0", backend })).rejects.toThrow(
      new ConfigError(`${at("link.gguf")}: input and output are the same`),
    );
  });

  it("keeps what was there when the disk fills or the signal is aborted", async () => {
    const path = at("kept.gguf");
    await writeFile(path, "old");
    const handle = await open(path, "r");
    await handle.close();
    const full = Object.assign(new Error("ENOSPC: no space"), { code: "ENOSPC", syscall: "write" });
    vi.spyOn(Object.getPrototypeOf(handle), "write").mockRejectedValue(full);
    await expect(quantizeModel(model, path, { type: "q4_0", backend })).rejects.toThrow(
      new ResourceError(`write ${path}: no space left on the device`, {
        hint: "free some space or choose another folder",
        cause: full,
      }),
    );
    vi.restoreAllMocks();
    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error("enough"));
    await expect(
      quantizeModel(model, path, { type: "q4_0", backend, signal: controller.signal, onProgress }),
    ).rejects.toThrow("enough");
    expect(await readFile(path, "utf8")).toBe("old");
    expect((await readdir(folder)).filter((name) => name.startsWith("kept"))).toEqual(["kept.gguf"]);
  });
});
