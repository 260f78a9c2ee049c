/** metrics.jsonl: one JSON object a line, the source of truth of a run. Keys are in snake_case, units in the names. */
import { appendFile, readFile, writeFile } from "node:fs/promises";
import type { LossRecipe } from "../config/recipe.ts";
import { fileError, isMissing } from "../formats/files.io.ts";
import type { Evaluation } from "./evaluate.ts";
import { layerHealth } from "./routingHealth.ts";
import type { StepResult } from "./step.ts";

/** One training step. */
export interface TrainMetrics {
  readonly type: "train";
  readonly step: number;
  readonly tokens: number;
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
}

/** One held-out evaluation. */
export interface EvalMetrics {
  readonly type: "eval";
  readonly step: number;
  readonly tokens: number;
  readonly nats_per_token: number;
  readonly bits_per_byte: number;
  readonly sources: Readonly<
    Record<string, { readonly tokens: number; readonly nats_per_token: number; readonly bits_per_byte: number }>
  >;
  /** Whether all of the held-out text was scored. */
  readonly complete: boolean;
}

export type Metrics = TrainMetrics | EvalMetrics;

/** @param tokens of the run so far; @param seconds that the step took. */
export function trainMetrics(
  step: number,
  tokens: number,
  result: StepResult,
  weights: LossRecipe,
  seconds: number,
): TrainMetrics {
  const health = result.expertCounts.map(layerHealth);
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
    tokens_per_sec: Math.round(result.tokens / seconds),
    load_entropy: health.map(({ loadEntropy }) => Number(loadEntropy.toFixed(4))),
    largest_load_share: health.map(({ largestShare }) => Number(largestShare.toFixed(4))),
    dead_experts: health.map(({ deadExperts }) => deadExperts),
    chosen_probability: result.chosenProbability,
  };
}

export function evalMetrics(step: number, tokens: number, evaluation: Evaluation, complete: boolean): EvalMetrics {
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
    complete,
  };
}

/** Reads metrics, without a last line that a killed process left half written. An absent file has none. */
export async function readMetrics(path: string): Promise<Metrics[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return [];
    throw fileError("read", path, error);
  }
  return text
    .split("\n")
    .slice(0, -1)
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as Metrics];
      } catch {
        return [];
      }
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
   */
  async rewindTo(step: number): Promise<Metrics[]> {
    const lines = await readMetrics(this.#path);
    const kept = lines.filter((line) => line.step <= step && !(line.type === "eval" && line.complete));
    try {
      await writeFile(this.#path, kept.map((line) => `${JSON.stringify(line)}\n`).join(""));
    } catch (error) {
      throw fileError("write", this.#path, error);
    }
    return kept;
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
