/**
 * Loss spikes: a loss far above those before it. OLMo 2 leaves out a step whose loss is more than 6 standard deviations above
 * the mean of the last 128 (arXiv 2501.00656; `SkipStepOptimizer` of OLMo-core, which judges from half a window on). Here
 * median and median absolute deviation take the place of mean and standard deviation, so that a spike within the window does
 * not hide the next one. What to do about it, going back to a checkpoint and on with other data, is PaLM's (arXiv 2204.02311,
 * section 5.1).
 */
import type { SpikeRecipe } from "../config/recipe.ts";

/** Median absolute deviations in one standard deviation of a normal distribution: 1 / the normal quantile of 3/4. */
const MAD_PER_DEVIATION = 1.4826;
/** Share of the median that counts as a deviation at least: losses that are all equal have none of their own. */
const LEAST_DEVIATION = 1e-6;

/** A loss above the limit. */
export interface Spike {
  readonly loss: number;
  /** Of the window before it. */
  readonly median: number;
  /** Robust standard deviation of the window: 1.4826 times the median absolute deviation. */
  readonly deviation: number;
  /** median + threshold * deviation */
  readonly limit: number;
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

/** A spike as a sentence. */
export function describeSpike(step: number, spike: Spike, { window, threshold }: SpikeRecipe): string {
  const [loss, limit, median] = [spike.loss, spike.limit, spike.median].map((value) => value.toPrecision(4));
  return `step ${step}: loss ${loss} is a spike, above ${limit}: ${threshold} deviations above the median ${median} of the last ${window} steps`;
}

/** Holds each loss against a window of those before it. */
export class SpikeDetector {
  readonly #window: number;
  readonly #threshold: number;
  #losses: number[] = [];

  constructor({ window, threshold }: Pick<SpikeRecipe, "window" | "threshold">) {
    this.#window = window;
    this.#threshold = threshold;
  }

  /** The window, oldest first: what a checkpoint keeps. */
  get losses(): readonly number[] {
    return this.#losses;
  }

  /** Goes on with the window of a checkpoint. */
  restore(losses: readonly number[]): void {
    this.#losses = losses.slice(-this.#window);
  }

  /** Judges a loss, then adds it to the window, a spike too: a level that stays is soon no spike any more. */
  add(loss: number): Spike | undefined {
    const spike = this.#judge(loss);
    this.#losses.push(loss);
    if (this.#losses.length > this.#window) this.#losses.shift();
    return spike;
  }

  #judge(loss: number): Spike | undefined {
    if (this.#losses.length < this.#window / 2) return undefined;
    const median = medianOf(this.#losses);
    const spread = MAD_PER_DEVIATION * medianOf(this.#losses.map((value) => Math.abs(value - median)));
    const deviation = Math.max(spread, LEAST_DEVIATION * Math.abs(median));
    const limit = median + this.#threshold * deviation;
    return loss > limit ? { loss, median, deviation, limit } : undefined;
  }
}
