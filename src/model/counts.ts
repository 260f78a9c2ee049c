/** Sizes of a model, computed from its config alone. */
import type { ModelConfig } from "../config/model.ts";
import { expertChoiceCapacity } from "../config/routing.ts";
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

/** Matrix products of one token. Parts are multiply-adds of a forward pass, in all layers together. */
export interface TokenFlops {
  readonly projections: number;
  readonly router: number;
  readonly experts: number;
  /** MLPs that every token passes: those of dense layers, and shared experts. */
  readonly dense: number;
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
 * kernel calls (backend/cost.ts), with every slot served. A multiply-add is two. Each active weight is multiplied once in
 * each layer that uses it (the embedding is a look-up and counts for nothing); token i attends to i positions,
 * (length + 1) / 2 in the mean, for the scores and again for the values. A backward pass has twice the products of the
 * forward pass; what is recomputed in it is not counted again.
 */
export function flopsPerToken(config: ModelConfig, length: number): TokenFlops {
  const { layers, output } = describe(config);
  const inLayers = (weights: (layer: LayerParts<ParameterSpec>) => number) =>
    layers.reduce((sum, layer) => sum + weights(layer), 0);
  const expert = ({ mlp: { routed } }: LayerParts<ParameterSpec>) =>
    sizeOf(routed?.gateUp, routed?.down) / config.numExperts;
  const parts = {
    projections: inLayers(({ attention: { q, k, v, o } }) => sizeOf(q, k, v, o)),
    router: inLayers(({ mlp }) => sizeOf(mlp.routed?.router)),
    experts: expertsPerToken(config, length) * inLayers(expert),
    dense: inLayers(({ mlp }) => sizeOf(mlp.always?.gateUp, mlp.always?.down)),
    attention: layers.length * config.hiddenSize * (length + 1),
    output: sizeOf(output),
  };
  const forward = 2 * Object.values(parts).reduce((sum, count) => sum + count, 0);
  return { ...parts, forward, training: 3 * forward };
}

/** Floating-point operations of the matrix products of one token's forward pass: see `flopsPerToken`. */
export function forwardFlops(config: ModelConfig, length: number): number {
  return flopsPerToken(config, length).forward;
}
