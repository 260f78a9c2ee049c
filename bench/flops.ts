/** Arithmetic of a training step in words: what a share of the peak is measured against. */
import type { ModelConfig } from "../src/config/model.ts";
import { flopsPerToken } from "../src/model/counts.ts";

export interface StepFlops {
  /** FLOPs of all matrix products, forward and backward, per token. */
  readonly perToken: number;
  /** How the number comes about, for the reader. */
  readonly arithmetic: string;
}

/** `flopsPerToken` of the library, with its arithmetic layer by layer. */
export function matmulFlopsPerToken(config: ModelConfig, sequenceLength: number): StepFlops {
  const layers = config.numHiddenLayers;
  const { output, forward: _, training: perToken, ...inLayers } = flopsPerToken(config, sequenceLength);
  const layer = Object.entries(inLayers).map(([part, count]) => `${part} ${count / layers}`);
  const arithmetic =
    `6 x (${layers} layers x (${layer.join(" + ")}) + output ${output}) = ` + `${(perToken / 1e6).toFixed(1)} MFLOP`;
  return { perToken, arithmetic };
}
