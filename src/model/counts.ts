/** Sizes of a model, computed from its config alone. */
import type { ModelConfig } from "../config/model.ts";
import type { Norm } from "../nn/norm.ts";
import { shapeSize } from "../tensor/tensor.ts";
import { parameterSpecs } from "./parameters.ts";
import { type LayerParts, modelParts, type ParameterSpec } from "./parts.ts";

export interface ParameterCounts {
  /** All parameters, each once. */
  readonly total: number;
  /**
   * Those that one token passes through: of the experts, the chosen ones; both embeddings count in full; what layers share
   * counts in each of them, so that the sum may be above the total.
   */
  readonly active: number;
}

const describe = (config: ModelConfig) => modelParts(config, (spec) => spec);

function sizeOf(...specs: readonly (ParameterSpec | undefined)[]): number {
  return specs.reduce((sum, spec) => sum + (spec === undefined ? 0 : shapeSize(spec.shape)), 0);
}

const normSize = (norm: Norm<ParameterSpec> | undefined) =>
  sizeOf(norm?.weight, norm?.type === "layernorm" ? norm.bias : undefined);

/** Weights of the products that a token takes part in: all matrices of a layer, and of its experts the chosen ones. */
function activeWeights({ numExperts, numExpertsPerTok }: ModelConfig, layer: LayerParts<ParameterSpec>): number {
  const { q, k, v, o } = layer.attention;
  const { routed, always } = layer.mlp;
  const expert = sizeOf(routed?.gateUp, routed?.down) / numExperts;
  return sizeOf(q, k, v, o, routed?.router, always?.gateUp, always?.down) + numExpertsPerTok * expert;
}

/** Counts parameters (OLMoE paper, table 1: 6.9 B total, 1.3 B active). */
export function countParameters(config: ModelConfig): ParameterCounts {
  const { embedding, layers, norm, output } = describe(config);
  const outer = sizeOf(embedding, output === embedding ? undefined : output) + normSize(norm);
  const active = layers.reduce((sum, layer) => {
    const norms = [layer.inputNorm, layer.mlpNorm, layer.attention.qNorm, layer.attention.kNorm];
    return norms.reduce((inner, one) => inner + normSize(one), sum + activeWeights(config, layer));
  }, outer);
  return { total: sizeOf(...parameterSpecs(config)), active };
}

/**
 * Floating-point operations of the matrix products for one token of a forward pass: two for each active weight (the
 * embedding is a look-up and counts for nothing) and attention's two products over the visible half of `length` tokens.
 * A training step takes three times as many.
 */
export function forwardFlops(config: ModelConfig, length: number): number {
  const { layers, output } = describe(config);
  const attention = config.hiddenSize * length;
  return 2 * layers.reduce((sum, layer) => sum + activeWeights(config, layer) + attention, sizeOf(output));
}
