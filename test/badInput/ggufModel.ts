/** A small model in GGUF, whole, for tests to damage. */
import { resolveModel } from "../../src/config/presets.ts";
import { OlmoeError } from "../../src/errors.ts";
import { writeGguf } from "../../src/formats/gguf.io.ts";
import { type GgufValue, storedBytes } from "../../src/formats/gguf.ts";
import { configToGguf } from "../../src/formats/ggufConfig.ts";
import { ggufLayout } from "../../src/formats/ggufNames.ts";
import type { StorageType } from "../../src/tensor/stored.ts";

/** The message of the deliberate error that an action ends with. */
export async function messageOf(action: () => unknown): Promise<string> {
  try {
    await action();
  } catch (error) {
    if (error instanceof OlmoeError) return error.message;
    throw error;
  }
  return "nothing is wrong";
}

export const config = resolveModel({
  preset: "tiny",
  vocabSize: 8,
  numHiddenLayers: 1,
  numExperts: 2,
  numExpertsPerTok: 1,
});

export interface Model {
  readonly metadata: Map<string, GgufValue>;
  readonly tensors: Map<string, { shape: readonly number[]; type: StorageType; fill: number }>;
}

/** A whole model of zeros, to be damaged. */
export function wholeModel(): Model {
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "STRING", value: "olmoe" }],
    ...configToGguf(config),
  ]);
  const entries = ggufLayout(config).map(
    ({ name, shape }) => [name, { shape, type: "F32" as const, fill: 0 }] as const,
  );
  return { metadata, tensors: new Map(entries) };
}

export async function writeModel(
  path: string,
  { metadata, tensors }: Model,
  maxShardBytes?: number,
): Promise<string[]> {
  const list = Array.from(tensors, ([name, { shape, type, fill }]) => ({
    name,
    shape,
    type,
    data: () => [new Uint8Array(storedBytes(type, shape)).fill(fill)],
  }));
  return writeGguf(path, metadata, list, { maxShardBytes });
}
