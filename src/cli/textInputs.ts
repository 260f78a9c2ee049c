/** The texts that commands which measure a model's routing are given. */
import { join } from "node:path";
import { UsageError } from "../errors.ts";
import type { OlmoeModel } from "../infer/model.io.ts";
import type { Sequence } from "../routing/recordTrace.ts";
import { heldOutSequences, type Sequences, sourceOf, sourceSequences } from "../routing/sequences.io.ts";
import type { Session } from "./common.ts";
import { exists } from "./modelFolder.ts";
import { CACHE_DIRECTORY } from "./training.ts";

interface InputOptions {
  /** Most tokens of each source. */
  readonly maxTokens?: number | undefined;
  /** Longest sequence; default: the model's context. */
  readonly context?: number | undefined;
}

/**
 * Sequences of the inputs, each `PATH` or `NAME=PATH`, or of the held-out text of the run that a model is from.
 * @param path of the model, as it was given.
 * @throws UsageError where there are neither inputs nor held-out text; else as `sourceSequences`.
 */
export async function sequencesOf(
  command: string,
  path: string,
  inputs: readonly string[],
  { tokenizer, info }: OlmoeModel,
  { maxTokens, context = info.context }: InputOptions,
  { signal }: Session,
): Promise<Sequences> {
  const place = { baseDirectory: process.cwd(), cacheDirectory: CACHE_DIRECTORY };
  const options = { ...place, tokenizer, context: Math.min(context, info.context), maxTokens, signal };
  if (inputs.length > 0) return sourceSequences(inputs.map(sourceOf), options);
  for (const run of [path, join(info.path, "..", "..")]) {
    if (await exists(join(run, "data", "manifest.json"))) return heldOutSequences(join(run, "data"), options);
  }
  throw new UsageError(`${command}: no inputs, and ${path} is not from a training run with held-out text`, {
    hint: "name files or folders to read after the model",
  });
}

/** All of them that have a token to score. */
export async function collectSequences({ sequences }: Sequences): Promise<Sequence[]> {
  const collected: Sequence[] = [];
  for await (const sequence of sequences) if (sequence.ids.length > 1) collected.push(sequence);
  return collected;
}
