/** Arithmetic of a training step: what a share of the peak is measured against. */
import type { ModelConfig } from "../src/config/model.ts";
import { headDim } from "../src/config/model.ts";

export interface StepFlops {
  /** FLOPs of all matrix products, forward and backward, per token. */
  readonly perToken: number;
  /** How the number comes about, for the reader. */
  readonly arithmetic: string;
}

/**
 * Matrix products that a token takes part in: projections, router, its chosen experts, attention over the positions
 * before it, and the output layer. A multiply-add is two FLOPs, and the backward pass has twice the products of the
 * forward pass. What an implementation computes again in its backward pass is not counted.
 */
export function matmulFlopsPerToken(config: ModelConfig, sequenceLength: number): StepFlops {
  const { hiddenSize: d, numHiddenLayers: layers, intermediateSize: inner, vocabSize } = config;
  const head = headDim(config);
  const queryWidth = config.numAttentionHeads * head;
  const keyWidth = config.numKeyValueHeads * head;
  const projections = 2 * d * queryWidth + 2 * d * keyWidth;
  const router = config.mlpType === "moe" ? d * config.numExperts : 0;
  const experts = 3 * config.numExpertsPerTok * d * inner;
  // Token i attends to i positions, (length + 1) / 2 on average, for the scores and again for the values.
  const attention = queryWidth * (sequenceLength + 1);
  const output = d * vocabSize;
  const perToken = 6 * (layers * (projections + router + experts + attention) + output);
  const arithmetic =
    `6 x (${layers} layers x (projections ${projections} + router ${router} + experts ${experts} + ` +
    `attention ${attention}) + output ${output}) = ${(perToken / 1e6).toFixed(1)} MFLOP`;
  return { perToken, arithmetic };
}
