/** The one place where the inference benchmarks meet the library. */
import type { InstructionSet } from "../src/backend/backend.ts";
import type { Engine } from "../src/infer/engine.ts";
import type { EngineOpening, OpenedFacts } from "../src/infer/opener.io.ts";
import { openWorkerEngine } from "../src/infer/worker.io.ts";

/** Bytes of a cached value: pages are f16 unless asked otherwise. */
export const CACHE_VALUE_BYTES = 2;

export interface OurEngineOptions {
  readonly threads: number;
  readonly isa?: InstructionSet | undefined;
  /** Positions that the cache holds, of all sequences together. */
  readonly cacheTokens: number;
  /** What quantised weights are multiplied with; default: 8-bit activations. */
  readonly activations?: "f32" | "q8" | undefined;
}

/** Opens a model file in a worker, as `OlmoeModel.open` does, but without its tokenizer. */
export async function openOurEngine(
  path: string,
  { threads, isa, cacheTokens, activations }: OurEngineOptions,
): Promise<Engine> {
  const opening: EngineOpening = {
    path,
    version: "",
    backend: "native",
    isa,
    threads,
    activations,
    ropeScaling: undefined,
    engine: { cacheTokens },
  };
  const module = new URL("../src/infer/opener.io.ts", import.meta.url);
  return (await openWorkerEngine<OpenedFacts>(module, opening)).engine;
}
