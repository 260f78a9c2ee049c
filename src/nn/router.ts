/** The router as a model config describes it: logits of a layer's tokens to the experts that serve them. */
import type { Graph, Variable } from "../autograd/graph.ts";
import { type RouterOptions, type Routing, route } from "../autograd/ops/moe.ts";
import { dropOverflow, routeByExperts } from "../autograd/ops/routing.ts";
import { expertChoiceCapacity, type RoutingConfig, slotCapacity } from "../config/routing.ts";
import { type IntervenedLayer, routeIntervened } from "./intervention.ts";

/** What routing depends on beside the model. */
export interface RoutingPass extends Pick<RouterOptions, "tokenMask" | "lossGradient"> {
  /** Sequences of equal length among the tokens; default 1. */
  readonly sequences?: number | undefined;
  /** Apply `expertCapacityFactor`, as training does; default: dropless. */
  readonly dropTokens?: boolean | undefined;
  /** Tokens whose routing is changed. Where tokens choose, without `dropTokens` and a recording graph. */
  readonly intervened?: IntervenedLayer | undefined;
}

/**
 * Routes the tokens of one layer.
 * @param logits [T, E].
 */
export function routeTokens(graph: Graph, logits: Variable, config: RoutingConfig, pass: RoutingPass): Routing {
  const { numExpertsPerTok: topK, softmaxAfterTopk, normTopkProb } = config;
  const { sequences = 1, dropTokens = false, tokenMask, lossGradient, intervened } = pass;
  const tokens = logits.value.dim(0);
  if (config.routing === "expert_choice") {
    const groups = config.expertChoiceScope === "batch" ? 1 : sequences;
    const capacity = expertChoiceCapacity(config, tokens / groups);
    return routeByExperts(graph, logits, { topK, groups, capacity, tokenMask, lossGradient });
  }
  // exp(z_i) over its sum over the chosen is p_i over theirs: softmax after top-k is renormalising.
  const renormalise = normTopkProb || softmaxAfterTopk;
  const options = { topK, normTopkProb: renormalise, tokenMask, lossGradient };
  if (intervened !== undefined) return routeIntervened(graph, logits, options, intervened);
  const routing = route(graph, logits, options);
  const capacity = dropTokens ? slotCapacity(config, tokens) : undefined;
  return capacity === undefined ? routing : dropOverflow(graph, routing, capacity);
}
