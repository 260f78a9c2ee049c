/** Sizes of a model, computed from its config alone. */
import type { ModelConfig } from "../config/model.ts";
import { headDim } from "../config/model.ts";
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

/**
 * Floating-point operations of the matrix products for one token of a forward pass: two for each active weight (the
 * embedding is a look-up and counts for nothing) and attention's two products over the visible half of `length` tokens.
 * A training step takes three times as many.
 */
export function forwardFlops(config: ModelConfig, length: number): number {
  const { hiddenSize: width, intermediateSize: inner, numHiddenLayers, numExperts, numExpertsPerTok } = config;
  const kvWidth = config.numKeyValueHeads * headDim(config);
  const projections = 2 * width * width + 2 * kvWidth * width;
  const router = config.mlpType === "moe" ? numExperts * width : 0;
  const experts = numExpertsPerTok * 3 * width * inner;
  const attention = width * length;
  return 2 * (numHiddenLayers * (projections + router + experts + attention) + config.vocabSize * width);
}
