/** Chooses and opens a backend on this machine. */
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { OlmoeError, UnsupportedError } from "../errors.ts";
import type { Backend, BackendName, InstructionSet, Precision } from "./backend.ts";
import { buildFeatures, buildNative, buildWasm, NATIVE_VARIANTS } from "./build.io.ts";
import { openNative, readFeatures } from "./native/native.ts";
import { createReferenceBackend } from "./reference/backend.ts";
import { openWasm } from "./wasm/wasm.ts";
import { startNodeWorker } from "./wasm/workers.io.ts";

export interface BackendOptions {
  /** Default: native where it can be had, else wasm. */
  readonly backend?: BackendName | "auto";
  /** Instruction set of the native backend; default: the best the processor has. */
  readonly isa?: InstructionSet;
  /**
   * "bf16" rounds inputs of matrix products; "auto" does so where the processor multiplies bf16 faster than f32, and says
   * so where not.
   * Default: "f32".
   */
  readonly precision?: Precision | "auto";
  /** Default: one for each processor. */
  readonly threads?: number;
  /** Told in one line when the choice is not the fastest kind. */
  readonly onNotice?: (message: string) => void;
}

/** Bits of `cpuFeatures` that an instruction set needs, for products of each precision; absent: there are none. */
const NEEDED_FEATURES: Record<Precision, Partial<Record<InstructionSet, number>>> = {
  f32: { "x86-64": 0, neon: 0, avx2: 1, avx512: 2 | 8, amx: 64 },
  bf16: { avx512: 2 | 4 | 8, amx: 64 },
};

/** The same for products of bf16 that are quicker than those of f32. */
const QUICK_BF16: Partial<Record<InstructionSet, number>> = { avx512: 2 | 4 | 8 | 128, amx: 64 };

const NOT_QUICK = "precision: this processor's AVX512-BF16 multiplies no faster than f32";

async function instructionSetsWith(wanted: Partial<Record<InstructionSet, number>>): Promise<InstructionSet[]> {
  if (NATIVE_VARIANTS.length === 0) return [];
  const features = readFeatures(await buildFeatures());
  return NATIVE_VARIANTS.filter((isa) => {
    const needed = wanted[isa];
    return needed !== undefined && (features & needed) === needed;
  });
}

/** Native instruction sets that this processor runs, best last. */
export async function nativeInstructionSets(precision: Precision = "f32"): Promise<InstructionSet[]> {
  return instructionSetsWith(NEEDED_FEATURES[precision]);
}

async function openBestNative(options: BackendOptions, precision: Precision): Promise<Backend> {
  const { isa, threads = availableParallelism() } = options;
  const usable = await nativeInstructionSets(precision);
  const chosen = isa ?? usable.at(-1);
  if (chosen === undefined || !usable.includes(chosen)) {
    if (precision === "bf16") throw noBf16(`${isa ?? "this processor"} does not multiply bf16`);
    throw new UnsupportedError(
      `backend: this processor does not run ${chosen ?? "any native build"}, only ${usable.join(", ") || "wasm"}`,
    );
  }
  if (precision === "bf16" && !(await instructionSetsWith(QUICK_BF16)).includes(chosen)) {
    options.onNotice?.(`${NOT_QUICK}: a step takes longer than with f32`);
  }
  try {
    return openNative(await buildNative(chosen, precision), chosen, threads, precision);
  } catch (error) {
    // A compiler may be older than the processor: the next plainer instruction set will do, unless this one was asked for.
    const plainer = usable[usable.indexOf(chosen) - 1];
    if (isa !== undefined || plainer === undefined || !(error instanceof UnsupportedError)) throw error;
    options.onNotice?.(`${error.message.split("\n")[0]}: running on ${plainer}`);
    return openBestNative({ ...options, isa: plainer }, precision);
  }
}

function noBf16(reason: string): UnsupportedError {
  return new UnsupportedError(`backend: precision bf16 needs AVX512-BF16 or AMX-BF16, and ${reason}`, {
    hint: 'set train.precision to "auto", which takes bf16 where it is quicker, or to "f32"',
  });
}

/** What "auto" comes to. */
async function resolvePrecision(options: BackendOptions): Promise<Precision> {
  if (options.precision !== "auto") return options.precision ?? "f32";
  const { backend = "auto", isa } = options;
  const native = backend === "auto" || backend === "native";
  const among = async (wanted: Partial<Record<InstructionSet, number>>) => {
    const usable = native ? await instructionSetsWith(wanted).catch(() => []) : [];
    return isa === undefined ? usable.length > 0 : usable.includes(isa);
  };
  if (await among(QUICK_BF16)) return "bf16";
  const slow = await among(NEEDED_FEATURES.bf16);
  options.onNotice?.(`${slow ? NOT_QUICK : "precision: no AVX512-BF16 or AMX-BF16 here"}, staying with f32`);
  return "f32";
}

/** Threads are worker threads; there are at most four for each processor, as in the native pool. */
async function openNodeWasm({ threads = availableParallelism(), onNotice }: BackendOptions): Promise<Backend> {
  return openWasm({
    load: async (variant) => readFile(await buildWasm(variant)),
    threads: Math.min(threads, 4 * availableParallelism()),
    startWorker: startNodeWorker,
    ...(onNotice === undefined ? {} : { onNotice }),
  });
}

/**
 * Opens a backend; the native one is compiled at first use.
 * @throws UnsupportedError when what was asked for is not to be had on this machine.
 */
export async function openBackend(options: BackendOptions = {}): Promise<Backend> {
  const { backend = "auto" } = options;
  const precision = await resolvePrecision(options);
  if (precision === "bf16" && backend !== "auto" && backend !== "native") {
    throw noBf16(`the ${backend} backend has neither`);
  }
  switch (backend) {
    case "reference":
      return createReferenceBackend();
    case "wasm":
      return openNodeWasm(options);
    case "native":
      return openBestNative(options, precision);
    default:
      try {
        return await openBestNative(options, precision);
      } catch (error) {
        if (!(error instanceof OlmoeError) || precision === "bf16") throw error;
        options.onNotice?.(`${error.message.split("\n")[0]}: running on wasm, several times slower`);
        return openNodeWasm(options);
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
  return [...native, await openNodeWasm({ threads })];
}
