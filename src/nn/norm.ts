/** The norms that a model can have. */
import type { Graph, Variable } from "../autograd/graph.ts";
import { rmsNorm } from "../autograd/ops/basic.ts";
import { layerNorm } from "../autograd/ops/layerNorm.ts";

/** A norm over groups of `width` channels, as data; P stands for a parameter. */
export type Norm<P = Variable> =
  | { readonly type: "rmsnorm"; readonly width: number; readonly epsilon: number; readonly weight: P }
  | {
      readonly type: "layernorm";
      readonly width: number;
      readonly epsilon: number;
      /** Both absent: LayerNorm without parameters. */
      readonly weight?: P | undefined;
      readonly bias?: P | undefined;
    };

/** Normalises each group of channels. @param x [T, G * width]. */
export function normalise(graph: Graph, x: Variable, norm: Norm): Variable {
  return norm.type === "rmsnorm" ? rmsNorm(graph, x, norm.weight, norm.epsilon) : layerNorm(graph, x, norm);
}
