/** Benchmarks: `npx tsx bench/main.ts NAME [options]`. Results go to stdout, everything else to stderr. */
import { parseArgs } from "node:util";
import { OlmoeError, UsageError } from "../src/errors.ts";
import { writeExpertsChart } from "./chart.ts";
import { gemmBench } from "./gemm.ts";
import { type BenchOptions, formatMachine, formatTable, loadWarning, type Row } from "./harness.ts";
import { memoryBench, memoryChild } from "./memory.ts";
import { profileTraining } from "./profile.ts";
import { expertsBench, lengthBench } from "./scaling.ts";
import { TRAIN_SIZES, trainBench, trainFlops } from "./train.ts";

const USAGE = `usage: npx tsx bench/main.ts NAME [options]

  gemm     f32 matrix products, native and wasm, on one thread and on all; peers: PyTorch, jax-js
  train    one training step in tokens/s; peers: transformers on PyTorch (native), one thread (wasm)
  experts  a training step without its optimiser, with 8 to 256 experts of which a token uses eight
  length   attention over sequences of 256 to 8192 tokens
  memory   peak memory of training beside what olmoe estimate predicts

  --json             one line of JSON for each row
  --no-peers         do not install or run the peers
  --repetitions N    timed rounds; default 5 for train, else 7
  --backend NAME     native or wasm only
  --isa NAME         instruction set of the native kernels: amx, avx512, avx2, x86-64 or neon
  --precision NAME   products of train: f32 or bf16; default f32
  --threads N        threads of every contender
  --profile          of train: where the time of a step goes, kernel by kernel, instead of the rows
  --chart FILE       of experts: draw the rows as an SVG file, too
  --size NAME        preset to train: ${TRAIN_SIZES.join(", ")}; default small

example: npx tsx bench/main.ts gemm --threads 2 --no-peers`;

const NAMES = ["gemm", "train", "experts", "length", "memory"] as const;

const OPTIONS = {
  json: { type: "boolean", default: false },
  "no-peers": { type: "boolean", default: false },
  repetitions: { type: "string" },
  backend: { type: "string" },
  isa: { type: "string" },
  precision: { type: "string" },
  threads: { type: "string" },
  size: { type: "string", default: "small" },
  profile: { type: "boolean", default: false },
  chart: { type: "string" },
  child: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

function parseCommandLine() {
  try {
    return parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (cause) {
    throw new UsageError(`bench: ${(cause as Error).message}`, { hint: "pass --help for the options", cause });
  }
}

function positiveInteger(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new UsageError(`--${name}: got "${text}", expected a whole number from 1 on`);
  }
  return value;
}

function oneOf<T extends string>(place: string, text: string, allowed: readonly T[]): T {
  const value = allowed.find((candidate) => candidate === text);
  if (value === undefined) throw new UsageError(`${place}: got "${text}", expected one of ${allowed.join(", ")}`);
  return value;
}

async function main(signal: AbortSignal): Promise<void> {
  const { values, positionals } = parseCommandLine();
  if (values.help) {
    console.log(USAGE);
    return;
  }
  if (values.child !== undefined) {
    console.log(await memoryChild(values.child));
    return;
  }
  if (positionals.length !== 1) {
    throw new UsageError(`bench: got ${positionals.length} names, expected one of ${NAMES.join(", ")}`, {
      hint: USAGE,
    });
  }
  const name = oneOf("bench", positionals[0]!, NAMES);
  const size = oneOf("--size", values.size, TRAIN_SIZES);
  const { backend, isa, precision, threads, repetitions } = values;
  const options: BenchOptions = {
    repetitions: repetitions === undefined ? (name === "train" ? 5 : 7) : positiveInteger("repetitions", repetitions),
    peers: !values["no-peers"],
    ...(backend === undefined ? {} : { backend: oneOf("--backend", backend, ["native", "wasm"]) }),
    ...(isa === undefined ? {} : { isa: oneOf("--isa", isa, ["amx", "avx512", "avx2", "x86-64", "neon"]) }),
    ...(precision === undefined ? {} : { precision: oneOf("--precision", precision, ["f32", "bf16"]) }),
    ...(threads === undefined ? {} : { threads: positiveInteger("threads", threads) }),
    signal,
    notice: (text) => console.error(text),
  };

  if (values.profile) {
    if (name !== "train") throw new UsageError(`--profile: not for ${name}, expected train`);
    console.log(await profileTraining(options, size));
    return;
  }
  if (name === "memory") {
    console.log(await memoryBench(options));
    return;
  }
  if (values.chart !== undefined && name !== "experts")
    throw new UsageError(`--chart: not for ${name}, expected experts`);
  const rows: Row[] = [];
  const benches = { gemm: gemmBench, experts: expertsBench, length: lengthBench };
  for await (const row of name === "train" ? trainBench(options, size) : benches[name](options)) {
    rows.push(row);
    if (values.json) console.log(JSON.stringify(row));
    else console.error(`measured ${row.case}`);
  }
  if (values.chart !== undefined && rows.length > 0) await writeExpertsChart(rows, values.chart);
  const warning = loadWarning(rows);
  if (warning !== undefined) console.error(warning);
  if (values.json || rows.length === 0) return;
  console.log(`machine: ${formatMachine(rows[0]!.machine)}`);
  console.log(`command: npx tsx bench/main.ts ${process.argv.slice(2).join(" ")}`);
  if (name === "train") console.log(`matrix products of a token: ${trainFlops(size).arithmetic}`);
  console.log(`each peer: median (ours / theirs); ${options.repetitions} interleaved repetitions\n`);
  console.log(formatTable(rows));
}

const interrupt = new AbortController();
process.once("SIGINT", () => interrupt.abort());
try {
  await main(interrupt.signal);
} catch (error) {
  if (interrupt.signal.aborted) {
    console.error("bench: interrupted");
    process.exitCode = 130;
  } else if (error instanceof OlmoeError) {
    console.error(`${error.message}${error.hint === undefined ? "" : `\nHint: ${error.hint}`}`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  } else {
    throw error;
  }
}
