/** The deviations that matrices are drawn with, for each of the initialisations that a config can name. */
import type { ModelConfig } from "../config/model.ts";

/** How a parameter starts: at one value, or normal around 0, drawn again beyond `cutoff` deviations. */
export type Initial = { readonly fill: number } | { readonly deviation: number; readonly cutoff: number };

/**
 * The start of a matrix. With r the config's initializerRange, n the inputs of one output, L layers:
 *
 *     truncated_normal  r, cut at initializerCutoffFactor deviations: the released model (OLMoE paper, section 4.2.2)
 *     normal            r
 *     megatron          r, and r / sqrt(2 L) where the output is added to the residual stream, cut (arXiv 1909.08053)
 *     fan_in            1 / sqrt(n)
 *     mitchell          1 / sqrt(n), and 1 / sqrt(2 n (layer + 1)) where the output is added to the stream, cut (OLMo's)
 *
 * @param fanIn n; of the embedding, its width.
 * @param addedInLayer the layer, from 0, that adds the product to the residual stream (o_proj and down_proj); else absent.
 */
export function initialMatrix(config: ModelConfig, fanIn: number, addedInLayer?: number): Initial {
  const { initializerRange: range, initializerCutoffFactor: cutoff, numHiddenLayers: layers } = config;
  const isAdded = addedInLayer !== undefined;
  switch (config.initialization) {
    case "truncated_normal":
      return { deviation: range, cutoff };
    case "normal":
      return { deviation: range, cutoff: Number.POSITIVE_INFINITY };
    case "megatron":
      return { deviation: isAdded ? range / Math.sqrt(2 * layers) : range, cutoff };
    case "fan_in":
      return { deviation: 1 / Math.sqrt(fanIn), cutoff: Number.POSITIVE_INFINITY };
    case "mitchell":
      return { deviation: 1 / Math.sqrt(isAdded ? 2 * fanIn * (addedInLayer + 1) : fanIn), cutoff };
  }
}
