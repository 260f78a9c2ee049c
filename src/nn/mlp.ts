/** The part of a layer after attention: a mixture of experts, a SwiGLU for every token, or both. */
import type { Graph, Variable } from "../autograd/graph.ts";
import { add, linear, swiglu } from "../autograd/ops/basic.ts";
import { experts, type Routing } from "../autograd/ops/moe.ts";
import type { Weight } from "../autograd/ops/stored.ts";
import type { RoutingConfig } from "../config/routing.ts";
import { type RoutingPass, routeTokens } from "./router.ts";

/** P stands for a matrix and F for a parameter that is always f32 in memory, here and below. */
export interface MoeParameters<P = Weight, F = Variable> {
  /** [E, D] */
  readonly router: F;
  /** [E, 2F, D], gate rows before up rows of each expert. */
  readonly gateUp: P;
  /** [E, D, F] */
  readonly down: P;
}

/** One SwiGLU. */
export interface SwigluParameters<P = Weight> {
  /** [2F, D], gate rows before up rows. */
  readonly gateUp: P;
  /** [D, F] */
  readonly down: P;
}

/** What a layer's MLP consists of; the outputs of its parts are added. At least one is there. */
export interface MlpParameters<P = Weight, F = Variable> {
  readonly routed?: MoeParameters<P, F> | undefined;
  /** For every token: a dense layer's MLP, or the shared experts beside the routed ones. */
  readonly always?: SwigluParameters<P> | undefined;
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

/** One SwiGLU for every token. @param x [T, D]. */
export function denseMlp(graph: Graph, x: Variable, { gateUp, down }: SwigluParameters): Variable {
  const products = linear(graph, x, gateUp);
  const activation = swiglu(graph, products);
  graph.discard(products);
  const out = linear(graph, activation, down);
  graph.discard(activation);
  return out;
}

/** All parts of a layer's MLP. @param x [T, D], normalised. */
export function mlp(
  graph: Graph,
  x: Variable,
  { routed, always }: MlpParameters,
  config: RoutingConfig,
  pass: RoutingPass,
): { readonly out: Variable; readonly routing: Routing | undefined } {
  const mixture = routed && mixtureOfExperts(graph, x, routed, config, pass);
  const outputs = [mixture?.out, always && denseMlp(graph, x, always)].filter((output) => output !== undefined);
  const out = outputs.reduce((sum, output) => {
    const total = add(graph, sum, output);
    graph.discard(sum, output);
    return total;
  });
  return { out, routing: mixture?.routing };
}
