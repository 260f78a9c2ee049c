/** Finds reference values and reads them. The smallest are in test/fixtures; the others lie outside and may be absent. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { SafetensorsFile } from "../../src/formats/io.ts";

const PARITY = fileURLToPath(new URL("../../../shared/reference/parity/", import.meta.url));
const OWN = fileURLToPath(new URL("../fixtures/parity/", import.meta.url));

/** Whether the reference values are on this machine. */
export const parityPresent = existsSync(PARITY);

/** Path of a reference file or folder: of the repository's own where it has it. */
export function parityPath(name: string): string {
  return existsSync(OWN + name) ? OWN + name : PARITY + name;
}

export interface StoredTensors {
  readonly names: readonly string[];
  f32(name: string): Float32Array;
  i32(name: string): Int32Array;
  shape(name: string): readonly number[];
}

/** Reads a whole safetensors file. */
export async function readTensors(path: string): Promise<StoredTensors> {
  const file = await SafetensorsFile.open(path);
  const values = new Map<string, Float32Array | Int32Array>();
  for (const [name, { dtype, shape }] of file.tensors) {
    if (dtype === "I32" || dtype === "I64") values.set(name, await file.readI32(name));
    else {
      const target = new Float32Array(shape.reduce((product, dimension) => product * dimension, 1));
      await file.readInto(name, target);
      values.set(name, target);
    }
  }
  const shapes = new Map([...file.tensors].map(([name, { shape }]) => [name, shape]));
  await file.close();
  const get = (name: string) => {
    const value = values.get(name);
    if (value === undefined) throw new Error(`${path} has no ${name}`);
    return value;
  };
  return {
    names: [...values.keys()],
    f32: (name) => get(name) as Float32Array,
    i32: (name) => get(name) as Int32Array,
    shape: (name) => shapes.get(name) ?? [],
  };
}

/** Root of the sum of squared differences, relative to the expected values' norm. */
export function relativeL2(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += ((actual[i] as number) - (expected[i] as number)) ** 2;
    norm += (expected[i] as number) ** 2;
  }
  return norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
}
