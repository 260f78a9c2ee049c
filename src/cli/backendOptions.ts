/** The choice of a backend on the command line. */
import { type Command, Option } from "commander";
import type { Backend, BackendName, InstructionSet, Precision } from "../backend/backend.ts";
import { openBackend } from "../backend/io.ts";
import { UsageError } from "../errors.ts";
import { type Session, wholeNumber } from "./common.ts";

/** Values of the options that `addBackendOptions` adds. */
export interface BackendFlags {
  readonly backend: BackendName | "auto";
  readonly isa?: InstructionSet;
  readonly threads?: number;
}

/** Adds --backend, --isa and --threads. */
export function addBackendOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--backend <name>", "kernels to run on")
        .choices(["auto", "native", "wasm", "reference"] satisfies (BackendName | "auto")[])
        .default("auto"),
    )
    .addOption(
      new Option("--isa <name>", "instruction set of the native kernels (default: the best there is)").choices([
        "x86-64",
        "avx2",
        "amx",
        "avx512",
        "neon",
      ] satisfies InstructionSet[]),
    )
    .option("--threads <count>", "threads (default: one for each processor)", wholeNumber("--threads", 1));
}

/**
 * Opens the backend that was asked for, with products of a recipe's precision; a fallback is told on stderr.
 * @throws UsageError for options that contradict each other; UnsupportedError for what this machine does not have.
 */
export async function openChosenBackend(
  flags: BackendFlags,
  session: Session,
  precision: Precision | "auto" = "f32",
): Promise<Backend> {
  const { backend: name, isa, threads } = flags;
  if (isa !== undefined && name !== "auto" && name !== "native") {
    throw new UsageError(`--isa: "${isa}", the ${name} backend has no choice of instruction sets`);
  }
  const backend = await openBackend({
    backend: isa === undefined ? name : "native",
    precision,
    ...(isa === undefined ? {} : { isa }),
    ...(threads === undefined ? {} : { threads }),
    onNotice: (message) => session.stderr.write(`olmoe: ${message}\n`),
  });
  if (threads !== undefined && threads > backend.threads) {
    session.stderr.write(`olmoe: --threads ${threads}: the ${backend.name} backend runs on ${backend.threads}\n`);
  }
  return backend;
}

/** `native avx512, 2 threads`. */
export function describeBackend(backend: Pick<Backend, "name" | "isa" | "threads"> & Partial<Backend>): string {
  const { name, isa, precision = "f32", threads } = backend;
  return `${name} ${isa}${precision === "f32" ? "" : ` ${precision}`}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
}
