/** Sizes of a model, computed from its config alone. */
import type { ModelConfig } from "../config/model.ts";
import { headDim } from "../config/model.ts";
import { expertChoiceCapacity } from "../config/routing.ts";
import { shapeSize } from "../tensor/tensor.ts";
import { parameterSpecs } from "./parameters.ts";

export interface ParameterCounts {
  /** All parameters. */
  readonly total: number;
  /** Those that one token passes through: of the experts, the chosen ones; both embeddings count in full. */
  readonly active: number;
}

/** Counts parameters (OLMoE paper, table 1: 6.9 B total, 1.3 B active). */
export function countParameters(config: ModelConfig): ParameterCounts {
  const total = parameterSpecs(config).reduce((sum, { shape }) => sum + shapeSize(shape), 0);
  const expert = 3 * config.hiddenSize * config.intermediateSize;
  const idle = config.numHiddenLayers * (config.numExperts - config.numExpertsPerTok) * expert;
  return { total, active: total - idle };
}

/** Matrix products of one token. Parts are multiply-adds of a forward pass, in all layers together. */
export interface TokenFlops {
  readonly projections: number;
  readonly router: number;
  readonly experts: number;
  readonly attention: number;
  readonly output: number;
  /** Floating-point operations of a forward pass. */
  readonly forward: number;
  /** Of a forward and a backward pass. */
  readonly training: number;
}

/** Experts of a token, in the mean where experts choose their tokens: floor(K * length / E) of each sequence. */
function expertsPerToken(config: ModelConfig, length: number): number {
  if (config.routing !== "expert_choice" || config.expertChoiceScope === "batch") return config.numExpertsPerTok;
  return (config.numExperts * expertChoiceCapacity(config, length)) / length;
}

/**
 * "Active matrix-product FLOPs" of a token, the mean over a sequence of `length` tokens: the sum of the costs of the
 * kernel calls (backend/cost.ts), with every slot served. A multiply-add is two. Each active weight is multiplied once (the embedding is a look-up
 * and counts for nothing); token i attends to i positions, (length + 1) / 2 in the mean, for the scores and again for the
 * values. A backward pass has twice the products of the forward pass; what is recomputed in it is not counted again.
 */
export function flopsPerToken(config: ModelConfig, length: number): TokenFlops {
  const { hiddenSize: width, intermediateSize: inner, numHiddenLayers: layers } = config;
  const kvWidth = config.numKeyValueHeads * headDim(config);
  const parts = {
    projections: layers * (2 * width * width + 2 * kvWidth * width),
    router: config.mlpType === "moe" ? layers * config.numExperts * width : 0,
    experts: layers * expertsPerToken(config, length) * 3 * width * inner,
    attention: layers * width * (length + 1),
    output: config.vocabSize * width,
  };
  const forward = 2 * Object.values(parts).reduce((sum, count) => sum + count, 0);
  return { ...parts, forward, training: 3 * forward };
}

/** Floating-point operations of the matrix products of one token's forward pass: see `flopsPerToken`. */
export function forwardFlops(config: ModelConfig, length: number): number {
  return flopsPerToken(config, length).forward;
}
