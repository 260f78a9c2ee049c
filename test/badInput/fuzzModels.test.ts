/**
 * Seeded mutations of whole models, in GGUF and in safetensors. Whatever the bytes, opening one works or throws an
 * OlmoeError, and no tensor reaches beyond its file. OLMOE_LONG_TESTS=1 runs 100,000 mutations of GGUF and half as many of safetensors.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openBackend } from "../../src/backend/io.ts";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { resolveModel } from "../../src/config/presets.ts";
import { convertModel } from "../../src/formats/convert.io.ts";
import { parseGguf } from "../../src/formats/gguf.ts";
import { saveModel } from "../../src/formats/model.io.ts";
import { openStored } from "../../src/formats/stored.io.ts";
import { openStoredGguf } from "../../src/formats/stored.ts";
import { Parameters } from "../../src/model/parameters.ts";
import { tokenizerFromJson, trainTokenizer } from "../../src/tokenizer/io.ts";
import { edits, mutate, runs, survives, TIMEOUT_MS } from "./mutations.ts";

// Mapped where this machine can, so that a wrong address would be read as one.
const backend = await openBackend({ threads: 1 });

let root: string;
let folder: string;
let gguf: Buffer;
let headerBytes: number;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "olmoe-fuzz-models-"));
  folder = join(root, "model");
  const tokenizer = trainTokenizer(["the cat sat on the mat"], { vocabSize: 262 });
  const model = resolveModel({ preset: "tiny", numHiddenLayers: 1, numExperts: 2, numExpertsPerTok: 1 }, tokenizer);
  const parameters = new Parameters(createReferenceBackend(), model, { trainable: false });
  parameters.initialise(1);
  await saveModel(folder, parameters, { dtype: "bf16" });
  await writeFile(join(folder, "tokenizer.json"), tokenizer.toJson());
  await convertModel(folder, join(root, "model.gguf"));
  gguf = await readFile(join(root, "model.gguf"));
  const header = parseGguf(gguf, gguf.byteLength, "m");
  if ("neededBytes" in header) throw new Error("the header is longer than the file");
  headerBytes = Math.min(...Array.from(header.tensors.values(), ({ byteOffset }) => byteOffset));
});
afterAll(() => rm(root, { recursive: true }));

/** Numbers that counts, lengths, offsets, types and dimensions may lie with. */
const lie = fc.record({
  at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  wide: fc.boolean(),
  value: fc.oneof(
    fc.constantFrom(0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 40n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n - 32n),
    fc.bigInt({ min: 0n, max: 40n }),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  ),
});

/** Numbers of the header overwritten in place, so that all behind them is still where it was. */
function overwrite(file: Buffer, lies: readonly { at: number; wide: boolean; value: bigint }[]): Buffer {
  const bytes = Buffer.from(file);
  for (const { at, wide, value } of lies) {
    const place = Math.floor(at * (headerBytes - 8));
    if (wide) bytes.writeBigUInt64LE(value, place);
    else bytes.writeUInt32LE(Number(BigInt.asUintN(32, value)), place);
  }
  return bytes;
}

/** Where in the header most of the structure is: before and behind the vocabulary. */
const inStructure = fc.array(
  lie.map((one) => ({ ...one, at: one.at < 0.5 ? one.at * 0.24 : 0.88 + (one.at - 0.5) * 0.24 })),
  { minLength: 1, maxLength: 3 },
);

const mutation = fc.oneof(
  edits.map((changes) => (file: Buffer) => Buffer.from(mutate(file, changes))),
  edits.map(
    (changes) => (file: Buffer) =>
      Buffer.concat([mutate(file.subarray(0, headerBytes), changes), file.subarray(headerBytes)]),
  ),
  fc.array(lie, { minLength: 1, maxLength: 3 }).map((lies) => (file: Buffer) => overwrite(file, lies)),
  inStructure.map((lies) => (file: Buffer) => overwrite(file, lies)),
);

it(
  "a mutated GGUF model is opened or refused",
  async () => {
    const path = join(root, "x.gguf");
    await fc.assert(
      fc.asyncProperty(mutation, fc.boolean(), async (change, inMemory) => {
        const bytes = change(gguf);
        await survives(async () => {
          const header = parseGguf(bytes, bytes.byteLength, "m");
          if ("neededBytes" in header) throw new Error("a whole file needs more bytes");
          for (const { byteOffset, byteLength } of header.tensors.values()) {
            expect(byteOffset + byteLength).toBeLessThanOrEqual(bytes.byteLength);
          }
        });
        await survives(async () => {
          if (!inMemory) await writeFile(path, bytes);
          const model = inMemory ? await openStoredGguf(bytes, "m", backend) : await openStored(path, backend);
          try {
            if (model.tokenizerJson !== undefined) tokenizerFromJson(model.tokenizerJson);
          } finally {
            model.dispose();
          }
        });
      }),
      runs(1),
    );
  },
  TIMEOUT_MS,
);

it(
  "a mutated safetensors model is opened or refused",
  async () => {
    const copy = join(root, "copy");
    await cp(folder, copy, { recursive: true });
    const path = join(copy, "model.safetensors");
    const whole = await readFile(path);
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        // The header alone, with its new length stated, to get past the first check.
        const end = 8 + Number(whole.readBigUInt64LE());
        const header = mutate(whole.subarray(8, end), changes);
        const length = Buffer.alloc(8);
        length.writeBigUInt64LE(BigInt(header.length));
        await writeFile(path, Buffer.concat([length, header, whole.subarray(end)]));
        await survives(async () => (await openStored(copy, backend)).dispose());
      }),
      runs(0.5),
    );
  },
  TIMEOUT_MS,
);
