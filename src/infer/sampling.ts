/**
 * Choosing the next token from logits. The order is that of transformers' logits processors and of vLLM's sampler, which
 * agree where both have a step: bias, penalties, temperature, then the filters in transformers' order: `topK`, `topP`,
 * `minP`, `typicalP`, each on what the one before it left, renormalised.
 */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { ConfigError, OlmoeError } from "../errors.ts";
import { type RandomGenerator, uniform } from "../util/random.ts";
import { cut, drawOfAll, expOfMinus, largest, nucleusBound } from "./selection.ts";

/** OpenAI's and vLLM's bounds. */
const penalty = z.number().min(-2).max(2).optional();

const samplingSchema = z.strictObject({
  /** Divides the logits; 0 takes the most likely token, after bias and penalties. */
  temperature: z.number().min(0),
  /** Keep this many of the most likely tokens, and those as likely as the last of them. */
  topK: z.int().min(1).optional(),
  /** Keep the fewest most likely tokens whose probabilities add up to this (Holtzman et al., arXiv 1904.09751). */
  topP: z.number().gt(0).max(1).optional(),
  /** Keep the tokens at least this probable relative to the most likely one (Nguyen et al., arXiv 2407.01082). */
  minP: z.number().min(0).max(1).optional(),
  /**
   * Keep the fewest tokens that hold this probability, those first whose surprise is nearest to the entropy, and those as
   * near as the last of them (Meister et al., arXiv 2202.00666; transformers' TypicalLogitsWarper).
   */
  typicalP: z.number().gt(0).max(1).optional(),
  /** Divides positive and multiplies negative logits of every token of prompt and text so far (Keskar et al., arXiv 1909.05858). */
  repetitionPenalty: z.number().gt(0).optional(),
  /** Taken off a token's logit for each time that it was generated; the prompt does not count (vLLM, OpenAI). */
  frequencyPenalty: penalty,
  /** Taken off a token's logit once it was generated; the prompt does not count (vLLM, OpenAI). */
  presencePenalty: penalty,
  /** Added to the logits of these ids. */
  logitBias: z.record(z.string().regex(/^\d+$/, "expected the id of a token"), z.number()).optional(),
});

export type SamplingOptions = Readonly<z.output<typeof samplingSchema>>;

/**
 * @param vocabulary ids that there are, for the bias.
 * @throws ConfigError listing every fault.
 */
export function checkSampling(options: SamplingOptions, vocabulary = Infinity): SamplingOptions {
  const checked = parseConfig(samplingSchema, options, "sampling");
  const unknown = Object.keys(checked.logitBias ?? {}).filter((id) => Number(id) >= vocabulary);
  if (unknown.length > 0) {
    throw new ConfigError(`sampling: logitBias: there is no id ${unknown.join(", ")}, expected 0..${vocabulary - 1}`);
  }
  return checked;
}

/** Which tokens a sequence has had: what penalties are counted from. */
export class TokenHistory {
  readonly #prompt: ReadonlySet<number>;
  readonly #generated = new Map<number, number>();

  constructor(prompt: ArrayLike<number>) {
    this.#prompt = new Set(Array.from(prompt));
  }

  /** Counts a generated token. */
  add(id: number): void {
    this.#generated.set(id, (this.#generated.get(id) ?? 0) + 1);
  }

  /** Changes logits as the options' penalties say. */
  penalise(logits: Float32Array, options: SamplingOptions): void {
    const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 } = options;
    const repeated = (id: number) => {
      const logit = logits[id] as number;
      logits[id] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
    };
    if (repetitionPenalty !== 1) {
      for (const id of this.#prompt) repeated(id);
      for (const id of this.#generated.keys()) if (!this.#prompt.has(id)) repeated(id);
    }
    for (const [id, count] of this.#generated) {
      logits[id] = (logits[id] as number) - frequencyPenalty * count - presencePenalty;
    }
  }
}

/** Whether a history changes what these options choose. */
export function needsHistory(options: SamplingOptions): boolean {
  const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 } = options;
  return repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
}

/**
 * Draws a token. One random number is used, none at temperature 0.
 *
 * @param logits [V], unnormalised; -Infinity rules a token out. They are not changed.
 * @param history what penalties are counted from; without it there are none.
 * @returns its id; at temperature 0 the one of the largest logit, ties to the lower id.
 * @throws ConfigError listing every fault of the options; OlmoeError (E_LOGITS) naming the first logit that is NaN or
 *   Infinity, or when no token is possible.
 */
export function sampleToken(
  logits: Float32Array,
  options: SamplingOptions,
  random: RandomGenerator,
  history?: TokenHistory,
): number {
  return drawToken(logits, checkSampling(options, logits.length), random, history);
}

/** `sampleToken` with options that have been checked. */
export function drawToken(
  logits: Float32Array,
  options: SamplingOptions,
  random: RandomGenerator,
  history?: TokenHistory,
): number {
  const adjusted = adjust(logits, options, history);
  const best = mostLikely(adjusted);
  if (options.temperature === 0) return best;
  const most = adjusted[best] as number;
  const { temperature, topK = Infinity, topP = 1, minP = 0, typicalP = 1 } = options;
  if (topK >= logits.length && topP >= 1 && minP === 0 && typicalP >= 1) {
    return drawOfAll(adjusted, most, temperature, uniform(random));
  }
  const candidates = new Candidates(adjusted, most, options);
  candidates.nucleus(topP);
  candidates.notBelow(minP);
  candidates.typical(typicalP);
  return candidates.draw(uniform(random));
}

/** Logits with bias and penalties: a copy where there are any. */
function adjust(logits: Float32Array, options: SamplingOptions, history: TokenHistory | undefined): Float32Array {
  const bias = Object.entries(options.logitBias ?? {});
  const penalised = history !== undefined && needsHistory(options);
  if (bias.length === 0 && !penalised) return logits;
  const adjusted = logits.slice();
  for (const [key, value] of bias) {
    const id = Number(key);
    adjusted[id] = (adjusted[id] as number) + value;
  }
  if (penalised) history.penalise(adjusted, options);
  return adjusted;
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

/** Of each token that can still be drawn, by rising id. */
interface Items {
  readonly ids: Int32Array;
  /** How far its logit, divided by the temperature, is below the largest, and the exp of that. */
  readonly distances: Float64Array;
  readonly weights: Float64Array;
  /** What a filter sorts by. */
  readonly keys: Float64Array;
}

const roomFor = (count: number): Items => ({
  ids: new Int32Array(count),
  distances: new Float64Array(count),
  weights: new Float64Array(count),
  keys: new Float64Array(count),
});

/** Memory of the last draw, taken again by the next one: nothing waits in between. */
let items = roomFor(0);

/** The least logit that the first filter keeps; others are not looked at again. Also the total weight, where it is known. */
function firstBound(logits: Float32Array, most: number, { temperature, topK, topP = 1, minP = 0 }: SamplingOptions) {
  if (topK !== undefined && topK < logits.length) {
    return { bound: logits[largest(logits, topK).at(-1) as number] as number };
  }
  if (topP < 1) return nucleusBound(logits, most, temperature, topP);
  // A little lower than the filter, which decides by the weights.
  if (minP > 0) return { bound: most + temperature * (Math.log(minP) - 1e-6) };
  return { bound: -Infinity };
}

/** The tokens that can still be drawn. They lie in the memory above: only one object is in use at a time. */
class Candidates {
  readonly #items: Items;
  #count = 0;
  #total = 0;

  constructor(logits: Float32Array, most: number, options: SamplingOptions) {
    const { temperature } = options;
    const { bound, total: known }: { bound: number; total?: number } = firstBound(logits, most, options);
    if (items.ids.length < logits.length) items = roomFor(logits.length);
    this.#items = items;
    const { ids, distances, weights } = items;
    let count = 0;
    let total = 0;
    for (let id = 0; id < logits.length; id++) {
      const logit = logits[id] as number;
      if (logit < bound || logit === -Infinity) continue;
      const distance = (most - logit) / temperature;
      const weight = expOfMinus(distance);
      ids[count] = id;
      distances[count] = distance;
      weights[count] = weight;
      total += weight;
      count += 1;
    }
    this.#count = count;
    this.#total = known ?? total;
  }

  /** Keeps the fewest most likely that hold `share`, ties by id. */
  nucleus(share: number): void {
    if (share >= 1) return;
    const { distances, weights } = this.#items;
    const { last, ties } = cut(distances, weights, this.#count, share * this.#total);
    this.#keep(distances, last, ties);
  }

  /** Keeps those that are at least `share` as likely as the most likely, whose weight is 1 and which is always there. */
  notBelow(share: number): void {
    if (share <= 0) return;
    const { weights, keys } = this.#items;
    for (let item = 0; item < this.#count; item++) keys[item] = -(weights[item] as number);
    this.#keep(keys, -share, Infinity);
  }

  /** Keeps the fewest that hold `share`, the most typical first, and those as typical as the last. */
  typical(share: number): void {
    if (share >= 1) return;
    const { distances, weights, keys } = this.#items;
    const [count, total] = [this.#count, this.#total];
    const logTotal = Math.log(total);
    let entropy = 0;
    for (let item = 0; item < count; item++) {
      const weight = weights[item] as number;
      // A weight of 0 adds nothing; its distance may be infinite.
      if (weight > 0) entropy += (weight / total) * ((distances[item] as number) + logTotal);
    }
    for (let item = 0; item < count; item++) {
      keys[item] = Math.abs((distances[item] as number) + logTotal - entropy);
    }
    this.#keep(keys, cut(keys, weights, count, share * total).last, Infinity);
  }

  /** The token at a place in 0 .. 1 of the probability; the last one where rounding leaves a little over. */
  draw(place: number): number {
    const { ids, weights } = this.#items;
    let rest = place * this.#total;
    let chosen = ids[0] as number;
    for (let item = 0; item < this.#count && rest >= 0; item++) {
      const weight = weights[item] as number;
      if (weight > 0) chosen = ids[item] as number;
      rest -= weight;
    }
    return chosen;
  }

  /** Keeps items whose key is below `last`, and the first `ties` of those whose key it is. */
  #keep(keys: Float64Array, last: number, ties: number): void {
    const { ids, distances, weights } = this.#items;
    const before = this.#count;
    let [count, total, left] = [0, 0, ties];
    for (let item = 0; item < before; item++) {
      const key = keys[item] as number;
      if (key > last || (key === last && left-- <= 0)) continue;
      const weight = weights[item] as number;
      ids[count] = ids[item] as number;
      distances[count] = distances[item] as number;
      weights[count] = weight;
      total += weight;
      count += 1;
    }
    this.#count = count;
    this.#total = total;
  }
}
