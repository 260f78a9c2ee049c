/** Runs llama.cpp's own benchmarks, one process for each measurement. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { UnsupportedError } from "../../../src/errors.ts";
import { parseBatchedBench, parseLlamaBench } from "./results.ts";
import type { LlamaCpp } from "./setup.ts";

const TIMEOUT_MS = 1_200_000;

export interface RunOptions {
  readonly threads: number;
  readonly signal?: AbortSignal | undefined;
}

/** What a program wrote. @throws UnsupportedError with the end of its messages when it fails. */
async function outputOf(program: string, args: readonly string[], signal?: AbortSignal): Promise<string> {
  const options = { maxBuffer: 2 ** 26, timeout: TIMEOUT_MS, ...(signal ? { signal } : {}) };
  try {
    const { stdout } = await promisify(execFile)(program, args, options);
    return stdout;
  } catch (cause) {
    signal?.throwIfAborted();
    const { stderr = "", message = "" } = cause as { stderr?: string; message?: string };
    const reason = (stderr.trim() || message).split("\n").slice(-5).join("\n");
    throw new UnsupportedError(`peer llama.cpp: ${program} failed: ${reason}`, {
      hint: "pass --no-peers to measure without it",
      cause,
    });
  }
}

/** What llama-bench is to measure: a prompt, or new tokens after `depth` others. */
export type BenchTest = { readonly prompt: number } | { readonly generate: number; readonly depth?: number };

/** Tokens per second of one test, measured once after llama-bench's own warm-up, in a process of its own. */
export async function llamaBench(
  { "llama-bench": program }: LlamaCpp,
  model: string,
  test: BenchTest,
  { threads, signal }: RunOptions,
): Promise<number> {
  const what =
    "prompt" in test
      ? ["-p", String(test.prompt), "-n", "0"]
      : ["-p", "0", "-n", String(test.generate), "-d", String(test.depth ?? 0)];
  const args = ["-m", model, ...what, "-r", "1", "-t", String(threads), "-o", "json"];
  const [result] = parseLlamaBench(await outputOf(program, args, signal));
  return result!.rates[0]!;
}

/** New tokens per second of several sequences together, each after a prompt of its own. */
export async function llamaBatchedBench(
  { "llama-batched-bench": program }: LlamaCpp,
  model: string,
  { sequences, prompt, generate }: { readonly sequences: number; readonly prompt: number; readonly generate: number },
  { threads, signal }: RunOptions,
): Promise<number> {
  const counts = ["-npp", String(prompt), "-ntg", String(generate), "-npl", String(sequences)];
  const context = sequences * (prompt + generate);
  const limits = ["-c", String(context), "-b", "2048", "-ub", "512", "-t", String(threads)];
  const text = await outputOf(program, ["-m", model, ...counts, ...limits, "--output-format", "jsonl"], signal);
  return parseBatchedBench(text)[0]!.newTokenRate;
}

/** Greedy continuation of a text, without its prompt. */
export async function llamaGreedy(
  { "llama-completion": program }: LlamaCpp,
  model: string,
  { prompt, maxTokens }: { readonly prompt: string; readonly maxTokens: number },
  { threads, signal }: RunOptions,
): Promise<string> {
  const plain = ["--no-display-prompt", "-no-cnv", "--simple-io", "--no-warmup", "--no-perf", "--ignore-eos"];
  const args = ["-m", model, "-p", prompt, "-n", String(maxTokens), "--temp", "0", "-t", String(threads), ...plain];
  return outputOf(program, args, signal);
}
