/**
 * `npm run bench -- infer-memory`: what a process that generates holds, beside the pages of the model file that it has
 * touched and its key/value cache; whether thousands of generations, half of them aborted, leave that as it was; and how
 * long the caller's event loop is held up meanwhile. In a process of its own, on the random model.
 */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { promisify } from "node:util";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { UnsupportedError } from "../src/errors.ts";
import type { Engine } from "../src/infer/engine.ts";
import { formatBytes, table } from "../src/report/text.ts";
import { createRandom, type RandomGenerator } from "../src/util/random.ts";
import type { BenchOptions } from "./harness.ts";
import { cacheBytes } from "./inferBytes.ts";
import { arrivalsOf, randomWords } from "./inferCases.ts";
import { CACHE_VALUE_BYTES, openOurEngine } from "./ourEngine.ts";
import { mappedBytes, statusBytes } from "./procfs.ts";
import { ensureRandomModel, type RandomModelType, randomModelConfig } from "./randomModel.ts";

const CACHE_TOKENS = 4096;
const PROMPT = 512;
const NEW_TOKENS = 64;
const GENERATIONS = 2000;
/** Generations before the first look, so that pools, caches and the heaps of both threads have their size. */
const SETTLED = 1000;
const AT_ONCE = 4;
const SHORT_PROMPT = 8;
const SHORT_TOKENS = 4;
const ALLOWED_BYTES = 300e6;
const ALLOWED_DELAY_MS = 20;
/** Of a timer that measures the delays of the others. */
const DELAY_RESOLUTION_MS = 1;

/** What the child process finds out about itself. */
interface Findings {
  readonly peakBytes: number;
  readonly touchedBytes: number;
  readonly cacheBytes: number;
  readonly settledBytes: number;
  readonly endBytes: number;
  readonly aborted: number;
  readonly longestDelayMs: number;
}

interface Task {
  readonly path: string;
  readonly threads: number;
}

/** Generations, some at a time, half of which are aborted at a random token. @returns how many were. */
async function shortGenerations(engine: Engine, count: number, random: RandomGenerator): Promise<number> {
  let [started, aborted] = [0, 0];
  const lane = async () => {
    while (started < count) {
      const number = started++;
      const controller = new AbortController();
      const abortAfter = uniformInt(random, 0, 2 * SHORT_TOKENS - 1);
      const prompt = randomWords(SHORT_PROMPT, `short ${number}`);
      const sampling = { temperature: 1 };
      const wanted = {
        prompt,
        maxTokens: SHORT_TOKENS,
        sampling,
        seed: number,
        stopIds: [],
        signal: controller.signal,
      };
      try {
        let tokens = 0;
        if (abortAfter === 0) controller.abort();
        for await (const _ of engine.generate(wanted)) if (++tokens === abortAfter) controller.abort();
      } catch (error) {
        if (!controller.signal.aborted) throw error;
        aborted++;
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return aborted;
}

/** Runs in a process of its own, for the parent to read. */
export async function inferMemoryChild(task: string): Promise<string> {
  const { path, threads } = JSON.parse(task) as Task;
  const engine = await openOurEngine(path, { threads, cacheTokens: CACHE_TOKENS });
  try {
    await arrivalsOf(engine, {
      prompt: randomWords(PROMPT, "memory"),
      maxTokens: NEW_TOKENS,
      sampling: { temperature: 1 },
      seed: 1,
      stopIds: [],
    });
    const random = createRandom(1, "infer-memory");
    const settled = await shortGenerations(engine, SETTLED, random);
    const settledBytes = statusBytes(await status(), "RssAnon");
    const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
    delay.enable();
    const rest = await shortGenerations(engine, GENERATIONS - SETTLED, random);
    delay.disable();
    const findings: Findings = {
      peakBytes: statusBytes(await status(), "VmHWM"),
      touchedBytes: mappedBytes(await readFile("/proc/self/smaps", "utf8"), path),
      cacheBytes: cacheBytes(randomModelConfig, CACHE_TOKENS, CACHE_VALUE_BYTES),
      settledBytes,
      endBytes: statusBytes(await status(), "RssAnon"),
      aborted: settled + rest,
      // The monitor counts its own period as a delay.
      longestDelayMs: Math.max(0, delay.max / 1e6 - DELAY_RESOLUTION_MS),
    };
    return JSON.stringify(findings);
  } finally {
    await engine.close();
  }
}

function status(): Promise<string> {
  return readFile("/proc/self/status", "utf8");
}

/** A table for people. @throws UnsupportedError on systems that do not tell what a process has mapped. */
export async function inferMemoryBench(options: BenchOptions, type: RandomModelType): Promise<string> {
  if (process.platform !== "linux") {
    throw new UnsupportedError(`infer-memory: reads /proc/self/smaps, which ${process.platform} does not have`);
  }
  const path = await ensureRandomModel(type, options);
  const task: Task = { path, threads: options.threads ?? availableParallelism() };
  const main = [...process.execArgv, process.argv[1] as string];
  const args = [...main, "infer-memory", "--child", JSON.stringify(task)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { signal: options.signal });
  const found = JSON.parse(stdout) as Findings;
  const allowed = found.touchedBytes + found.cacheBytes + ALLOWED_BYTES;
  const growth = found.endBytes - found.settledBytes;
  const verdict = (holds: boolean) => (holds ? "holds" : "does not hold");
  return table([
    [`peak resident memory, ${type}`, formatBytes(found.peakBytes), ""],
    ["  pages of the model file touched", formatBytes(found.touchedBytes), ""],
    ["  key/value cache", formatBytes(found.cacheBytes), ""],
    ["  besides them", formatBytes(found.peakBytes - found.touchedBytes - found.cacheBytes), ""],
    ["  at most 300 MB besides them", formatBytes(allowed), verdict(found.peakBytes <= allowed)],
    [`own memory after ${SETTLED} generations`, formatBytes(found.settledBytes), ""],
    [`  after ${GENERATIONS}, ${found.aborted} of them aborted`, formatBytes(found.endBytes), ""],
    ["  growth", `${(growth / 1e6).toFixed(1)} MB`, verdict(growth <= GROWTH_BYTES)],
    [
      "longest delay of the caller's event loop",
      `${found.longestDelayMs.toFixed(1)} ms`,
      verdict(found.longestDelayMs <= ALLOWED_DELAY_MS),
    ],
  ]);
}

/** What V8's heap may differ by between two looks. */
const GROWTH_BYTES = 32e6;
