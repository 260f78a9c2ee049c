/** The one place where the inference benchmarks meet the library. */
import type { InstructionSet } from "../src/backend/backend.ts";
import type { Engine } from "../src/infer/engine.ts";

/** Bytes of a cached value: pages are f16 unless asked otherwise. */
export const CACHE_VALUE_BYTES = 2;

export interface OurEngineOptions {
  readonly threads: number;
  readonly isa?: InstructionSet | undefined;
  /** Positions that the cache holds, of all sequences together. */
  readonly cacheTokens: number;
}

/** Opens a model file in a worker, as a program would. */
export async function openOurEngine(_path: string, _options: OurEngineOptions): Promise<Engine> {
  throw new Error("internal: not joined yet");
}
