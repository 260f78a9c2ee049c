/** `olmoe doctor`: what this machine offers, which backend runs on it, and what would make it faster. */
import { cpus, freemem, totalmem } from "node:os";
import type { Command } from "commander";
import type { Backend } from "../backend/backend.ts";
import { compilerVersion } from "../backend/build.io.ts";
import { nativeInstructionSets } from "../backend/io.ts";
import { measureFlops, measureLimits } from "../backend/measure.ts";
import { OlmoeError } from "../errors.ts";
import { formatBytes, table } from "../report/text.ts";
import { PACKAGE_VERSION } from "../util/packageRoot.io.ts";
import { addBackendOptions, type BackendFlags, describeBackend, openChosenBackend } from "./backendOptions.ts";
import { type Session, writeJson } from "./common.ts";

const HELP = `
Example:
  $ olmoe doctor`;

export function register(command: Command, session: Session): void {
  addBackendOptions(command.option("--json", "for programs"))
    .addHelpText("after", HELP)
    .action(async ({ json, ...flags }: BackendFlags & { readonly json?: boolean }) => {
      const facts = await examine(flags, session);
      if (json) writeJson(session, facts);
      else session.stdout.write(`${table(describe(facts))}\n`);
    });
}

interface DoctorFacts {
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  readonly cpu: string;
  readonly processors: number;
  readonly memoryBytes: number;
  /** First line of the C++ compiler's version; null where there is none. */
  readonly compiler: string | null;
  /** What runs, as in `native avx512, 2 threads`, and why it was chosen. */
  readonly backend: string;
  readonly reason: string;
  /** Other backends that could run here. */
  readonly others: readonly string[];
  /** FLOP/s of multiply-adds in f32. */
  readonly flopsOneThread: number;
  readonly flopsAllThreads: number;
  readonly readBytesPerSec: number;
  readonly advice: readonly string[];
}

/** Native instruction sets, or why there are none. */
async function findNative(): Promise<{ readonly isas: readonly string[]; readonly fault?: OlmoeError }> {
  try {
    return { isas: await nativeInstructionSets() };
  } catch (error) {
    if (error instanceof OlmoeError) return { isas: [], fault: error };
    throw error;
  }
}

async function examine(flags: BackendFlags, session: Session): Promise<DoctorFacts> {
  const { isas, fault } = await findNative();
  const backend = await openChosenBackend(flags, session);
  const { flopsPerSecond, bytesPerSecond } = measureLimits(backend, freemem());
  const chosen = `${backend.name} ${backend.isa}`;
  const available = [...isas.map((isa) => `native ${isa}`), "wasm simd128", "reference typescript"];
  const processors = cpus();
  return {
    version: PACKAGE_VERSION,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: processors[0]?.model.trim() ?? "unknown",
    processors: processors.length,
    memoryBytes: totalmem(),
    compiler: (await compilerVersion()) ?? null,
    backend: describeBackend(backend),
    reason: reasonFor(flags, backend, isas),
    others: available.filter((name) => name !== chosen),
    flopsOneThread: measureFlops(backend, 1),
    flopsAllThreads: flopsPerSecond,
    readBytesPerSec: bytesPerSecond,
    advice: adviceFor(backend, isas, fault),
  };
}

function reasonFor(flags: BackendFlags, backend: Backend, isas: readonly string[]): string {
  if (flags.isa !== undefined) return `chosen by --isa ${flags.isa}`;
  if (flags.backend !== "auto") return `chosen by --backend ${flags.backend}`;
  if (backend.name === "native") return `the best of what this processor runs (${isas.join(", ")})`;
  return "native kernels are not to be had here";
}

function adviceFor(backend: Backend, isas: readonly string[], fault: OlmoeError | undefined): string[] {
  if (fault !== undefined) return [fault.message, ...(fault.hint === undefined ? [] : [fault.hint])];
  if (isas.length > 0 && backend.name !== "native") return ["native kernels run here and are several times faster"];
  if (backend.name === "native" && backend.isa !== isas.at(-1)) return [`${isas.at(-1)} is faster: leave --isa out`];
  return [];
}

/** Rows of name and value. */
function describe(facts: DoctorFacts): string[][] {
  const rate = (flops: number) => `${(flops / 1e9).toFixed(1)} GFLOP/s`;
  return [
    ["olmoe", facts.version],
    ["node", `${facts.node}, ${facts.platform}`],
    ["processor", `${facts.cpu}, ${facts.processors} threads`],
    ["memory", formatBytes(facts.memoryBytes)],
    ["compiler", facts.compiler ?? "none"],
    ["backend", facts.backend],
    ["", facts.reason],
    ["others", facts.others.join(", ")],
    ["multiply-adds", `${rate(facts.flopsOneThread)} on one thread, ${rate(facts.flopsAllThreads)} on all`],
    ["memory reads", `${(facts.readBytesPerSec / 1e9).toFixed(1)} GB/s`],
    ["advice", ...(facts.advice.length === 0 ? ["nothing is missing"] : [facts.advice.join("; ")])],
  ];
}
