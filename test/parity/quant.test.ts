/** The storage types against what GGML's own library made of the same matrices: values decoded, bytes encoded. */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { afterAll, describe, expect, it } from "vitest";
import type { Backend } from "../../src/backend/backend.ts";
import { availableBackends } from "../../src/backend/io.ts";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { parseSafetensors } from "../../src/formats/safetensors.ts";
import { STORAGE_TYPES, type StorageType } from "../../src/tensor/stored.ts";
import { parityPath, parityPresent } from "./fixtures.ts";

const TYPES = (Object.keys(STORAGE_TYPES) as StorageType[]).filter((type) => type !== "F32");

/** A row of f32 subnormals, for which GGML's conversions to integers are undefined; halves have no such conversion. */
const UNSPECIFIED_ROW = 13;

interface Fixture {
  readonly name: string;
  readonly type: StorageType;
  readonly rows: number;
  readonly columns: number;
  readonly x: Float32Array;
  readonly bytes: Uint8Array;
  readonly decoded: Float32Array;
}

function readFixtures(): Fixture[] {
  const file = readFileSync(parityPath("quant/quant.safetensors"));
  const { tensors } = parseSafetensors(file, "quant.safetensors");
  const bytesOf = (name: string) => {
    const { byteOffset, byteLength } = tensors.get(name)!;
    return new Uint8Array(file.subarray(byteOffset, byteOffset + byteLength));
  };
  const floatsOf = (name: string) => new Float32Array(bytesOf(name).buffer);
  return ["a", "b"].flatMap((matrix) =>
    TYPES.map((type) => {
      const [rows, columns] = tensors.get(`${matrix}.f32`)!.shape as [number, number];
      const name = `${matrix}.${type}`;
      const [bytes, decoded] = [bytesOf(`${name}.bytes`), floatsOf(`${name}.f32`)];
      return { name, type, rows, columns, x: floatsOf(`${matrix}.f32`), bytes, decoded };
    }),
  );
}

/** Runs one kernel on copies of the input and gives its output. */
function convert(
  backend: Backend,
  input: Uint8Array,
  outputBytes: number,
  call: (from: number, to: number) => void,
): Uint8Array {
  const [from, to] = [backend.allocate(input.byteLength), backend.allocate(outputBytes)];
  new Uint8Array(from.buffer, from.byteOffset, input.byteLength).set(input);
  call(from.address, to.address);
  const output = new Uint8Array(to.buffer, to.byteOffset, outputBytes).slice();
  from.release();
  to.release();
  return output;
}

const asBytes = (floats: Float32Array) => new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);

function decode(backend: Backend, { type, rows, columns }: Fixture, bytes: Uint8Array): Uint8Array {
  return convert(backend, bytes, rows * columns * 4, (from, to) =>
    backend.kernels.decodeRows(STORAGE_TYPES[type].id, from, to, rows, columns),
  );
}

/** Rows whose bytes differ. */
function differingRows(a: Uint8Array, b: Uint8Array, rows: number): number[] {
  const size = a.length / rows;
  return Array.from({ length: rows }, (_, row) => row).filter((row) =>
    a.subarray(row * size, (row + 1) * size).some((byte, i) => byte !== b[row * size + i]),
  );
}

const backends = [...(await availableBackends(Math.max(3, availableParallelism()))), createReferenceBackend()];
const fixtures = parityPresent ? readFixtures() : [];

describe.skipIf(!parityPresent)("storage types against GGML (reference values absent: skipped)", () => {
  afterAll(() => {
    for (const backend of backends) backend.close();
  });

  describe.each(backends.map((backend) => [`${backend.name} ${backend.isa}`, backend] as const))("%s", (_, backend) => {
    it.each(fixtures.map((fixture) => [fixture.name, fixture] as const))(
      "decodes %s to the same bits",
      (_, fixture) => {
        const decoded = decode(backend, fixture, fixture.bytes);
        expect(differingRows(decoded, asBytes(fixture.decoded), fixture.rows)).toEqual([]);
      },
    );

    it.each(fixtures.map((fixture) => [fixture.name, fixture] as const))(
      "encodes %s to the same bytes",
      (_, fixture) => {
        const { type, rows, columns, x, bytes } = fixture;
        const encoded = convert(backend, asBytes(x), bytes.length, (from, to) =>
          backend.kernels.encodeRows(STORAGE_TYPES[type].id, from, to, rows, columns),
        );
        const unspecified = type === "F16" || type === "BF16" ? [] : [UNSPECIFIED_ROW];
        const differing = differingRows(encoded, bytes, rows);
        expect(differing.filter((row) => !unspecified.includes(row))).toEqual([]);
        const values = new Float32Array(decode(backend, fixture, encoded).buffer);
        expect(values.findIndex((value, i) => value !== fixture.decoded[i])).toBe(-1);
      },
    );
  });
});
