/** The part of a layer after attention: a mixture of experts, or one SwiGLU. */
import type { Graph, Variable } from "../autograd/graph.ts";
import { linear, swiglu } from "../autograd/ops/basic.ts";
import { experts, type Routing } from "../autograd/ops/moe.ts";
import type { RoutingConfig } from "../config/routing.ts";
import { type RoutingPass, routeTokens } from "./router.ts";

export interface MoeParameters {
  /** [E, D] */
  readonly router: Variable;
  /** [E, 2F, D], gate rows before up rows of each expert. */
  readonly gateUp: Variable;
  /** [E, D, F] */
  readonly down: Variable;
}

/**
 * Mixture of experts, routed as the config says. The router's products are f32 whatever the backend rounds: which experts
 * are the most probable may hang on little.
 * @param x [T, D], normalised.
 */
export function mixtureOfExperts(
  graph: Graph,
  x: Variable,
  { router, gateUp, down }: MoeParameters,
  config: RoutingConfig,
  pass: RoutingPass,
): { readonly out: Variable; readonly routing: Routing } {
  const routing = routeTokens(graph, linear(graph, x, router, "f32"), config, pass);
  return { out: experts(graph, x, routing, gateUp, down), routing };
}

/** One SwiGLU for every token. @param gateUp [1, 2F, D]; @param down [1, D, F], as one expert has them. */
export function denseMlp(graph: Graph, x: Variable, gateUp: Variable, down: Variable): Variable {
  const products = linear(graph, x, withoutExpertAxis(gateUp));
  const activation = swiglu(graph, products);
  graph.discard(products);
  const out = linear(graph, activation, withoutExpertAxis(down));
  graph.discard(activation);
  return out;
}

/** The same parameter as a matrix. Its gradient is the same memory, which parameters have from the start. */
function withoutExpertAxis(parameter: Variable): Variable {
  const shape = parameter.value.shape.slice(1);
  return {
    value: parameter.value.reshape(shape),
    grad: parameter.grad?.reshape(shape),
    trainable: parameter.trainable,
  };
}
