/** Benchmarks: `npx tsx bench/main.ts NAME [options]`. Results go to stdout, everything else to stderr. */
import { parseArgs } from "node:util";
import { OlmoeError, UsageError } from "../src/errors.ts";
import { writeExpertsChart } from "./chart.ts";
import { dataBench } from "./data.ts";
import { dataMemoryBench } from "./dataMemory.ts";
import { dedupeBench } from "./dedupe.ts";
import { explorerBench } from "./explorer.ts";
import { filtersBench } from "./filters.ts";
import { gemmBench } from "./gemm.ts";
import { type BenchOptions, formatMachine, formatTable, loadWarning, type Row } from "./harness.ts";
import { inferBench } from "./infer.ts";
import { inferMemoryBench, inferMemoryChild } from "./inferMemory.ts";
import { memoryBench, memoryChild } from "./memory.ts";
import { ensureLlamaCpp } from "./peers/llamacpp/setup.ts";
import { profileTraining } from "./profile.ts";
import { RANDOM_MODELS, type RandomModelType } from "./randomModel.ts";
import { routingBench } from "./routing.ts";
import { expertsBench, lengthBench } from "./scaling.ts";
import { storedBench } from "./stored.ts";
import { traceBench } from "./trace.ts";
import { TRAIN_SIZES, trainBench, trainFlops } from "./train.ts";

const USAGE = `usage: npx tsx bench/main.ts NAME [options]

  gemm     f32 matrix products, native and wasm, on one thread and on all; peers: PyTorch, jax-js
  train    one training step in tokens/s; peers: transformers on PyTorch (native), one thread (wasm)
  experts  a training step without its optimiser, with 8 to 256 experts of which a token uses eight
  length   attention over sequences of 256 to 8192 tokens
  stored   products with quantised weights, by type and number of tokens; decoding and encoding them
  memory   peak memory of training beside what olmoe estimate predicts
  infer    prompts and tokens per second of a model of the released size with random weights; peer: llama.cpp
  infer-memory   what generating holds in memory, over thousands of generations, and the delay of the event loop
  data     tokenising documents, and the loader; peers: dolma tokens, Hugging Face tokenizers in Python
  data-memory    peak memory of whole builds of 100 MB and of 1 GB of text
  dedupe   what a read task writes of documents for deduplication, and the steps over it; on one thread
  filters  filters of the data pipeline on one core, each alone and all together
  trace    what it costs to keep the routing of all tokens, while text is read and written
  routing  statistics of a routing trace of 10^7 tokens x 16 layers, each analysis alone and all in one pass
  explorer the page of olmoe explore in Chromium with a trace of a million tokens: first paint, time between frames
  peers    builds beforehand what infer would build at its first run: llama.cpp, ten minutes

  --json             one line of JSON for each row
  --no-peers         do not install or run the peers
  --repetitions N    timed rounds; default 5 for train and infer, else 7
  --backend NAME     native or wasm only
  --isa NAME         instruction set of the native kernels: amx, avx512, avx2, x86-64 or neon
  --precision NAME   products of train: f32 or bf16; default f32
  --threads N        threads of every contender
  --profile          of train: where the time of a step goes, kernel by kernel, instead of the rows
  --chart FILE       of experts: draw the rows as an SVG or PNG file, too
  --size NAME        preset to train: ${TRAIN_SIZES.join(", ")}; default small
  --type NAME        weights of infer and infer-memory: ${Object.keys(RANDOM_MODELS).join(", ")}; default q4_0

example: npx tsx bench/main.ts gemm --threads 2 --no-peers`;

const NAMES = [
  "gemm",
  "train",
  "experts",
  "length",
  "stored",
  "memory",
  "infer",
  "infer-memory",
  "data",
  "data-memory",
  "dedupe",
  "filters",
  "trace",
  "routing",
  "explorer",
  "peers",
] as const;
const TYPES = Object.keys(RANDOM_MODELS) as RandomModelType[];

const OPTIONS = {
  json: { type: "boolean", default: false },
  "no-peers": { type: "boolean", default: false },
  repetitions: { type: "string" },
  backend: { type: "string" },
  isa: { type: "string" },
  precision: { type: "string" },
  threads: { type: "string" },
  size: { type: "string", default: "small" },
  type: { type: "string", default: "q4_0" },
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
    const child = positionals[0] === "infer-memory" ? inferMemoryChild : memoryChild;
    console.log(await child(values.child));
    return;
  }
  if (positionals.length !== 1) {
    throw new UsageError(`bench: got ${positionals.length} names, expected one of ${NAMES.join(", ")}`, {
      hint: USAGE,
    });
  }
  const name = oneOf("bench", positionals[0]!, NAMES);
  const size = oneOf("--size", values.size, TRAIN_SIZES);
  const type = oneOf("--type", values.type, TYPES);
  const { backend, isa, precision, threads, repetitions } = values;
  const options: BenchOptions = {
    repetitions:
      repetitions === undefined
        ? name === "train" || name === "infer"
          ? 5
          : 7
        : positiveInteger("repetitions", repetitions),
    peers: !values["no-peers"],
    ...(backend === undefined ? {} : { backend: oneOf("--backend", backend, ["native", "wasm"]) }),
    ...(isa === undefined ? {} : { isa: oneOf("--isa", isa, ["amx", "avx512", "avx2", "x86-64", "neon"]) }),
    ...(precision === undefined ? {} : { precision: oneOf("--precision", precision, ["f32", "bf16"]) }),
    ...(threads === undefined ? {} : { threads: positiveInteger("threads", threads) }),
    signal,
    notice: (text) => console.error(text),
  };

  if (values.chart !== undefined && name !== "experts") {
    throw new UsageError(`--chart: not for ${name}, expected experts`);
  }
  if (values.profile) {
    if (name !== "train") throw new UsageError(`--profile: not for ${name}, expected train`);
    console.log(await profileTraining(options, size));
    return;
  }
  switch (name) {
    case "memory":
      console.log(await memoryBench(options));
      return;
    case "infer-memory":
      console.log(await inferMemoryBench(options, type));
      return;
    case "data-memory":
      console.log(await dataMemoryBench(options));
      return;
    case "explorer":
      console.log(await explorerBench(options));
      return;
    case "peers":
      console.log(Object.values(await ensureLlamaCpp(options)).join("\n"));
      return;
    case "train":
      await printRows(trainBench(options, size), options, values.json, [
        `matrix products of a token: ${trainFlops(size).arithmetic}`,
      ]);
      return;
    case "infer":
      await printRows(inferBench(options, type), options, values.json);
      return;
    default: {
      const benches = {
        data: dataBench,
        filters: filtersBench,
        gemm: gemmBench,
        experts: expertsBench,
        length: lengthBench,
        stored: storedBench,
        dedupe: dedupeBench,
        trace: traceBench,
        routing: routingBench,
      };
      const rows = await printRows(benches[name](options), options, values.json);
      if (values.chart !== undefined && rows.length > 0) await writeExpertsChart(rows, values.chart);
    }
  }
}

/** Prints rows as they come (JSON), or all of them as a table with what is said besides (text). */
async function printRows(
  results: AsyncIterable<Row | string>,
  { repetitions }: BenchOptions,
  json: boolean,
  remarks: readonly string[] = [],
): Promise<Row[]> {
  const rows: Row[] = [];
  const findings: string[] = [];
  for await (const result of results) {
    if (json) console.log(JSON.stringify(typeof result === "string" ? { finding: result } : result));
    else console.error(typeof result === "string" ? result : `measured ${result.case}`);
    if (typeof result === "string") findings.push(result);
    else rows.push(result);
  }
  const warning = loadWarning(rows);
  if (warning !== undefined) console.error(warning);
  if (json || rows.length === 0) return rows;
  console.log(`machine: ${formatMachine(rows[0]!.machine)}`);
  console.log(`command: npx tsx bench/main.ts ${process.argv.slice(2).join(" ")}`);
  for (const remark of remarks) console.log(remark);
  console.log(`each peer: median (ours / theirs); ${repetitions} interleaved repetitions\n`);
  console.log([formatTable(rows), ...findings].join("\n"));
  return rows;
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
