/**
 * Choosing the next token from logits. Filters come in transformers' order: temperature, then the `topK` most likely, then
 * the fewest of those that hold `topP` of their probability.
 */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { OlmoeError } from "../errors.ts";
import { type RandomGenerator, uniform } from "../util/random.ts";

const samplingSchema = z.strictObject({
  /** Divides the logits; 0 takes the most likely token. */
  temperature: z.number().min(0),
  /** Keep this many of the most likely tokens, and those as likely as the last of them. */
  topK: z.int().min(1).optional(),
  /** Keep the fewest most likely tokens whose probabilities add up to this. */
  topP: z.number().gt(0).max(1).optional(),
});

export type SamplingOptions = Readonly<z.output<typeof samplingSchema>>;

/** @throws ConfigError listing every fault. */
export function checkSampling(options: SamplingOptions): SamplingOptions {
  return parseConfig(samplingSchema, options, "sampling");
}

/**
 * Draws a token. One random number is used, none at temperature 0.
 *
 * @param logits [V], unnormalised; -Infinity rules a token out.
 * @returns its id; at temperature 0 the one of the largest logit, ties to the lower id.
 * @throws ConfigError listing every fault of the options; OlmoeError (E_LOGITS) naming the first logit that is NaN or
 *   Infinity, or when no token is possible.
 */
export function sampleToken(logits: Float32Array, options: SamplingOptions, random: RandomGenerator): number {
  const { temperature, topK, topP } = checkSampling(options);
  const best = mostLikely(logits);
  if (temperature === 0) return best;
  const most = logits[best] as number;
  const least = topK === undefined || topK >= logits.length ? -Infinity : nthLargest(logits, topK);
  let ids: number[] = [];
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (logit < least || logit === -Infinity) continue;
    const weight = Math.exp((logit - most) / temperature);
    weights[id] = weight;
    total += weight;
    ids.push(id);
  }
  if (topP !== undefined && topP < 1) {
    ids = nucleus(ids, weights, total, topP);
    total = ids.reduce((sum, id) => sum + (weights[id] as number), 0);
  }
  let rest = uniform(random) * total;
  for (const id of ids) {
    rest -= weights[id] as number;
    if (rest < 0) return id;
  }
  // Rounding can leave a little over.
  return best;
}

/** The id of the largest logit, the lowest of several. */
function mostLikely(logits: Float32Array): number {
  let best = -1;
  let most = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    // False for NaN.
    if (!(logit < Infinity)) {
      throw new OlmoeError("E_LOGITS", `sampling: logit ${id} of ${logits.length} is ${logit}, expected a number`, {
        hint: "the model's weights are damaged or its training diverged: use an earlier checkpoint",
      });
    }
    if (logit > most) {
      most = logit;
      best = id;
    }
  }
  if (best < 0) throw new OlmoeError("E_LOGITS", `sampling: none of ${logits.length} logits is above -Infinity`);
  return best;
}

/** The value that has n - 1 others at or above it (quickselect: only the side that holds it is looked at again). */
function nthLargest(values: Float32Array, n: number): number {
  let candidates = values;
  let rank = n;
  for (;;) {
    const pivot = candidates[candidates.length >> 1] as number;
    const above = candidates.filter((value) => value > pivot);
    const below = candidates.filter((value) => value < pivot);
    const upToPivot = candidates.length - below.length;
    if (rank > above.length && rank <= upToPivot) return pivot;
    if (rank <= above.length) candidates = above;
    else {
      candidates = below;
      rank -= upToPivot;
    }
  }
}

/** The fewest ids, most likely first and ties by id, that hold `topP` of the total (Holtzman et al., arXiv 1904.09751). */
function nucleus(ids: readonly number[], weights: Float64Array, total: number, topP: number): number[] {
  // All tokens at or below this together hold less than what may be left out: they need not be sorted.
  const negligible = ((1 - topP) * total) / ids.length;
  const weight = (id: number) => weights[id] as number;
  const sorted = ids.filter((id) => weight(id) > negligible).sort((a, b) => weight(b) - weight(a) || a - b);
  let held = 0;
  const count = sorted.findIndex((id) => {
    held += weight(id);
    return held >= topP * total;
  });
  return count < 0 ? sorted : sorted.slice(0, count + 1);
}
