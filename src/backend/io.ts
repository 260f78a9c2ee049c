/** Chooses and opens a backend on this machine. */
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { OlmoeError, UnsupportedError } from "../errors.ts";
import type { Backend, BackendName, InstructionSet } from "./backend.ts";
import { buildNative, buildWasm, NATIVE_VARIANTS } from "./build.io.ts";
import { openNative } from "./native/native.ts";
import { createReferenceBackend } from "./reference/backend.ts";
import { openWasm } from "./wasm/wasm.ts";

export interface BackendOptions {
  /** Default: native where it can be had, else wasm. */
  readonly backend?: BackendName | "auto";
  /** Instruction set of the native backend; default: the best the processor has. */
  readonly isa?: InstructionSet;
  /** Default: one for each processor. */
  readonly threads?: number;
  /** Told in one line when the choice is not the fastest kind. */
  readonly onNotice?: (message: string) => void;
}

/** Bit of `cpuFeatures` that an instruction set needs. */
const FEATURE_BIT: Partial<Record<InstructionSet, number>> = { avx2: 1, avx512: 2, amx: 64 };

/** Native instruction sets that this processor runs, best last. */
export async function nativeInstructionSets(): Promise<InstructionSet[]> {
  const plainest = NATIVE_VARIANTS[0];
  if (plainest === undefined) return [];
  const features = openNative(await buildNative(plainest), plainest, 1).kernels.cpuFeatures();
  return NATIVE_VARIANTS.filter((isa) => {
    const bit = FEATURE_BIT[isa];
    return bit === undefined || (features & bit) !== 0;
  });
}

async function openBestNative({ isa, threads = availableParallelism() }: BackendOptions): Promise<Backend> {
  const usable = await nativeInstructionSets();
  const chosen = isa ?? usable.at(-1);
  if (chosen === undefined || !usable.includes(chosen)) {
    throw new UnsupportedError(
      `backend: this processor does not run ${chosen ?? "any native build"}, only ${usable.join(", ") || "wasm"}`,
    );
  }
  return openNative(await buildNative(chosen), chosen, threads);
}

/**
 * Opens a backend; the native one is compiled at first use.
 * @throws UnsupportedError when what was asked for is not to be had on this machine.
 */
export async function openBackend(options: BackendOptions = {}): Promise<Backend> {
  switch (options.backend ?? "auto") {
    case "reference":
      return createReferenceBackend();
    case "wasm":
      return openWasm(await readFile(await buildWasm()));
    case "native":
      return openBestNative(options);
    default:
      try {
        return await openBestNative(options);
      } catch (error) {
        if (!(error instanceof OlmoeError)) throw error;
        options.onNotice?.(`${error.message.split("\n")[0]}: running on wasm, one thread, several times slower`);
        return openWasm(await readFile(await buildWasm()));
      }
  }
}

/** Every backend and native instruction set that this machine runs, without the reference. */
export async function availableBackends(threads = availableParallelism()): Promise<readonly Backend[]> {
  const native: Backend[] = [];
  try {
    for (const isa of await nativeInstructionSets()) native.push(openNative(await buildNative(isa), isa, threads));
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
  }
  return [...native, await openWasm(await readFile(await buildWasm()))];
}
