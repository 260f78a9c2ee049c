/** How many bytes a pass over a stored model has to read: what decoding is bound by. */
import type { ModelConfig } from "../src/config/model.ts";
import { headDim } from "../src/config/model.ts";

/** A stored tensor under its GGUF name. */
export interface SizedTensor {
  readonly name: string;
  /** Slowest dimension first. */
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/**
 * Experts of a layer that at least one of several tokens chooses, in the mean, where each token chooses K of E with equal
 * chances and independently of the others: E (1 - (1 - K/E)^tokens).
 */
export function distinctExperts({ numExperts, numExpertsPerTok }: ModelConfig, tokens: number): number {
  return numExperts * (1 - (1 - numExpertsPerTok / numExperts) ** tokens);
}

/**
 * Bytes of weights that a pass over `tokens` tokens reads: all matrices once, of the embedding a row for each token, of
 * the experts those that are chosen.
 * @param experts of a layer that are read; default: `distinctExperts`.
 */
export function weightBytes(
  tensors: Iterable<SizedTensor>,
  config: ModelConfig,
  tokens: number,
  experts: number = distinctExperts(config, tokens),
): number {
  let bytes = 0;
  for (const { name, shape, byteLength } of tensors) {
    if (name === "token_embd.weight") bytes += (byteLength / (shape[0] as number)) * tokens;
    else if (/_exps[.]weight$/.test(name)) bytes += (byteLength / (shape[0] as number)) * experts;
    else bytes += byteLength;
  }
  return bytes;
}

/** Bytes of keys and values of `positions` positions. @param valueBytes of one value in the cache: 2 for f16. */
export function cacheBytes(config: ModelConfig, positions: number, valueBytes: number): number {
  const width = config.numKeyValueHeads * headDim(config);
  return config.numHiddenLayers * 2 * width * valueBytes * positions;
}
