/**
 * `npm run bench -- memory`: peak resident memory of training beside what `olmoe estimate` predicts, on models that differ
 * in layers, width, experts, batch, length and recomputation. Each prediction and each run is a process of its own.
 */
import { execFile } from "node:child_process";
import { freemem } from "node:os";
import { promisify } from "node:util";
import { openBackend } from "../src/backend/io.ts";
import { parseModelConfig } from "../src/config/model.ts";
import { PRESETS } from "../src/config/presets.ts";
import { trainSchema } from "../src/config/recipe.ts";
import { formatBytes, table } from "../src/report/text.ts";
import { calibrate } from "../src/train/calibrate.ts";
import { totalBytes, trainingMemory } from "../src/train/trainingMemory.ts";
import type { BenchOptions } from "./harness.ts";
import { createWorkload } from "./ourTrainStep.ts";

const STEPS = 3;

/** What is trained, as changes to the preset small (d 256, 8 layers, 64 experts top-8 of 128) and to 8 x 256 tokens. */
const CASES: readonly { readonly name: string; readonly model: object; readonly train: object }[] = [
  { name: "small, 8 x 256 tokens", model: {}, train: {} },
  { name: "16 layers, recompute all", model: { numHiddenLayers: 16 }, train: { recompute: "all" } },
  {
    name: "width 384, 16 experts top-2 of 512, recompute 2 of 4 layers",
    model: { hiddenSize: 384, numHiddenLayers: 4, numExperts: 16, numExpertsPerTok: 2, intermediateSize: 512 },
    train: { recompute: [1, 3] },
  },
  {
    name: "2 layers, 128 experts, batch 32 in micro-batches of 4",
    model: { numHiddenLayers: 2, numExperts: 128 },
    train: { batchSize: 32, microBatchSize: 4 },
  },
  { name: "4 layers, 2 x 1024 tokens", model: { numHiddenLayers: 4 }, train: { batchSize: 2, sequenceLength: 1024 } },
];

/** Config and options of a case. */
function workload(index: number) {
  const { model, train } = CASES[index] as (typeof CASES)[number];
  const config = parseModelConfig({ ...PRESETS.small, ...model });
  return { config, train: trainSchema.parse({ steps: 1, batchSize: 8, sequenceLength: 256, ...train }) };
}

type Backend = Awaited<ReturnType<typeof openBackend>>;

/** As `olmoe estimate` does it, without an evaluation, which the benchmark does not run. */
async function predict(backend: Backend, index: number): Promise<number> {
  const { config, train } = workload(index);
  const options = { ...train, microBatchSize: train.microBatchSize ?? train.batchSize, evaluates: false };
  const residentBytes = () => process.memoryUsage.rss();
  const calibration = await calibrate(backend, config, options, { freeBytes: freemem() / 2, residentBytes });
  return totalBytes(trainingMemory(config, options)) + (calibration?.runtimeBytes ?? 0);
}

function train(backend: Backend, index: number): number {
  const { config, train } = workload(index);
  const ids = Int32Array.from({ length: train.batchSize * train.sequenceLength }, (_, i) => (i * 7919) % 8192);
  const { step } = createWorkload(backend, { config, train, seed: 1, ids });
  for (let done = 0; done < STEPS; done++) step();
  return process.resourceUsage().maxRSS * 1024;
}

/** Runs one half of a case in this process, for the parent to read. */
export async function memoryChild(task: string): Promise<string> {
  const [half, index, options] = JSON.parse(task) as [string, number, Parameters<typeof openBackend>[0]];
  const backend = await openBackend(options);
  return String(half === "predict" ? await predict(backend, index) : train(backend, index));
}

/** A table for people. */
export async function memoryBench({ backend = "native", isa, threads, signal, notice }: BenchOptions): Promise<string> {
  const run = promisify(execFile);
  const opened = { backend, ...(isa === undefined ? {} : { isa }), ...(threads === undefined ? {} : { threads }) };
  const bytesOf = async (half: "predict" | "train", index: number) => {
    const task = JSON.stringify([half, index, opened]);
    const main = [...process.execArgv, process.argv[1] as string];
    const { stdout } = await run(process.execPath, [...main, "memory", "--child", task], { signal });
    return Number(stdout.trim());
  };
  const rows = [["", "predicted", "peak", "off by"]];
  for (const [index, { name }] of CASES.entries()) {
    const predicted = await bytesOf("predict", index);
    const peak = await bytesOf("train", index);
    const off = (100 * (predicted - peak)) / peak;
    rows.push([name, formatBytes(predicted), formatBytes(peak), `${off > 0 ? "+" : ""}${off.toFixed(1)} %`]);
    notice(`measured ${name}`);
  }
  return table(rows, { align: ["left", "right", "right", "right"] });
}
