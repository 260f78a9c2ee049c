/** metrics.jsonl: one JSON object a line, the source of truth of a run. Keys are in snake_case, units in the names. */
import { appendFile, open, readFile } from "node:fs/promises";
import type { LossRecipe } from "../config/recipe.ts";
import { DataError } from "../errors.ts";
import { fileError, isMissing, replaceFile } from "../util/files.io.ts";
import type { Evaluation } from "./evaluate.ts";
import type { MonitorRecord, RecordPlace } from "./records.ts";
import { layerHealth } from "./routingHealth.ts";
import type { StepResult } from "./step.ts";

/** One training step. */
export interface TrainMetrics extends RecordPlace {
  readonly type: "train";
  /** Weighted sum that was differentiated. */
  readonly loss: number;
  /** Nats per target. */
  readonly cross_entropy: number;
  readonly balance_loss: number;
  readonly balance_loss_weighted: number;
  readonly z_loss: number;
  readonly z_loss_weighted: number;
  readonly grad_norm: number;
  readonly lr: number;
  readonly tokens_per_sec: number;
  /** One number for each layer with experts. */
  readonly load_entropy: readonly number[];
  readonly largest_load_share: readonly number[];
  readonly dead_experts: readonly number[];
  readonly chosen_probability: number;
  /** For each layer, the slots that found their expert full; and their share of all slots. */
  readonly dropped_slots: readonly number[];
  readonly dropped_share: number;
  /** Sequences that the instance filter has masked; absent in files of version 0.1.0, like the next two. */
  readonly masked_sequences?: number;
  /** Times each source has been gone through, this step included. */
  readonly source_epochs?: Readonly<Record<string, number>>;
  /** What the process holds in memory after the step. */
  readonly resident_bytes?: number;
}

/** One evaluation: held-out loss, and what the hooks measured. */
export interface EvalMetrics extends RecordPlace {
  readonly type: "eval";
  readonly nats_per_token: number;
  readonly bits_per_byte: number;
  readonly sources: Readonly<
    Record<string, { readonly tokens: number; readonly nats_per_token: number; readonly bits_per_byte: number }>
  >;
  /** Results of the evaluation hooks as HOOK/NAME, such as "perplexity/novel"; absent in version 0.1.0. */
  readonly results?: Readonly<Record<string, number>>;
  /** Whether all of the held-out text was scored. */
  readonly complete: boolean;
}

export type Metrics = TrainMetrics | EvalMetrics | MonitorRecord;

const TYPES: Readonly<Record<Metrics["type"], true>> = {
  run: true,
  train: true,
  eval: true,
  routing: true,
  norms: true,
  spike: true,
  rewind: true,
};

/** @param tokens of the run so far; @param seconds that the step took. */
export function trainMetrics(
  step: number,
  tokens: number,
  result: StepResult,
  weights: LossRecipe,
  seconds: number,
): TrainMetrics {
  const health = result.expertCounts.map(layerHealth);
  const sumOf = (values: Iterable<number>) => Array.from(values).reduce((sum, value) => sum + value, 0);
  const slots = sumOf(result.expertCounts.map(sumOf));
  const chosen = result.chosenProbabilities;
  return {
    type: "train",
    step,
    tokens,
    loss: result.loss,
    cross_entropy: result.crossEntropy,
    balance_loss: result.balance,
    balance_loss_weighted: result.balance * weights.balance,
    z_loss: result.z,
    z_loss_weighted: result.z * weights.z,
    grad_norm: result.gradientNorm,
    lr: result.lr,
    tokens_per_sec: Number((result.tokens / seconds).toPrecision(4)),
    load_entropy: health.map(({ loadEntropy }) => Number(loadEntropy.toFixed(4))),
    largest_load_share: health.map(({ largestShare }) => Number(largestShare.toFixed(4))),
    dead_experts: health.map(({ deadExperts }) => deadExperts),
    chosen_probability: chosen.length === 0 ? 0 : sumOf(chosen) / chosen.length,
    dropped_slots: result.droppedSlots,
    dropped_share: slots === 0 ? 0 : Number((sumOf(result.droppedSlots) / slots).toFixed(4)),
  };
}

export function evalMetrics(
  step: number,
  tokens: number,
  evaluation: Evaluation,
  results: Readonly<Record<string, number>>,
  complete: boolean,
): EvalMetrics {
  return {
    type: "eval",
    step,
    tokens,
    nats_per_token: evaluation.natsPerToken,
    bits_per_byte: evaluation.bitsPerByte,
    sources: Object.fromEntries(
      evaluation.sources.map(({ source, tokens: count, natsPerToken, bitsPerByte }) => [
        source,
        { tokens: count, nats_per_token: natsPerToken, bits_per_byte: bitsPerByte },
      ]),
    ),
    results,
    complete,
  };
}

/** A line as metrics, or undefined for anything else. */
function parseLine(line: string): Metrics | undefined {
  try {
    const value: Metrics | null = JSON.parse(line);
    return typeof value?.type === "string" && Object.hasOwn(TYPES, value.type) ? value : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Reads metrics, without a last line that a killed process left half written. An absent file has none.
 * @throws DataError naming the first line that is not metrics.
 */
export async function readMetrics(path: string): Promise<Metrics[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return [];
    throw fileError("read", path, error);
  }
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line, index) => {
    const metrics = parseLine(line);
    if (metrics === undefined) {
      throw new DataError(`${path}:${index + 1}: not a line of metrics`, { hint: "remove this line" });
    }
    return metrics;
  });
}

/** Appends to a run's metrics. */
export class MetricsFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Drops what is later than `step`: a run that goes on from a checkpoint writes those lines again, and so it does with
   * the last evaluation, which follows the last checkpoint.
   * @param rewinds returns to a checkpoint before the one it goes on from: their lines stay, whatever their step.
   */
  async rewindTo(step: number, rewinds = 0): Promise<Metrics[]> {
    let returns = 0;
    const kept = (await readMetrics(this.#path)).filter((line) => {
      if (line.type === "rewind") return ++returns <= rewinds;
      return line.step <= step && !(line.type === "eval" && line.complete);
    });
    const text = kept.map((line) => `${JSON.stringify(line)}\n`).join("");
    await replaceFile(this.#path, (file) => file.writeFile(text));
    return kept;
  }

  /** Makes what was appended last through a power cut. @throws ResourceError when the disk does not take it. */
  async flush(): Promise<void> {
    try {
      const file = await open(this.#path, "a");
      await file.sync().finally(() => file.close());
    } catch (error) {
      throw fileError("write", this.#path, error);
    }
  }

  /** @throws ResourceError when the disk is full. */
  async append(metrics: Metrics): Promise<void> {
    try {
      await appendFile(this.#path, `${JSON.stringify(metrics)}\n`);
    } catch (error) {
      throw fileError("write", this.#path, error);
    }
  }
}
