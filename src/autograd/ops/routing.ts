/** Routing beside the plain top-k: experts that choose tokens, and experts that are full. Letters as in moe.ts. */
import { ShapeError } from "../../errors.ts";
import type { Graph, Variable } from "../graph.ts";
import { type RouterOptions, type Routing, recordChoice } from "./moe.ts";

/** `topK` is C, the capacity factor: experts that a token has on average. */
export interface ExpertChoiceOptions extends Omit<RouterOptions, "normTopkProb"> {
  /** Runs of tokens of equal length, in order: an expert chooses within each of them. */
  readonly groups: number;
  /** Tokens of a group that each expert takes; at most all. */
  readonly capacity: number;
}

/**
 * Lets each expert choose its tokens: softmax over the experts of each token, then each expert takes the tokens of a
 * group with the largest probabilities for it, ties to the earlier token (OLMoE paper, section 4.1.4). A token has from
 * none to E experts; their weights are the probabilities, not renormalised. Not causal: what a token gets depends on the
 * tokens after it.
 * @param logits [T, E].
 * @throws ShapeError when the tokens are not `groups` runs of equal length, or fewer than the capacity.
 */
export function routeByExperts(graph: Graph, logits: Variable, options: ExpertChoiceOptions): Routing {
  const { groups, capacity } = options;
  const { kernels } = graph;
  const [tokens, experts] = [logits.value.dim(0), logits.value.dim(1)];
  const length = tokens / groups;
  if (!Number.isInteger(length) || capacity > length) {
    throw new ShapeError(`expert choice: ${tokens} tokens are not ${groups} runs of at least ${capacity}`);
  }
  const probs = graph.take([tokens, experts]);
  const lse = graph.take([tokens]);
  const chosenIds = graph.take([tokens, experts], "i32");
  const weights = graph.take([tokens, experts]);
  // Softmax alone: the tokens choose nothing.
  kernels.routerForward(logits.value.pointer, probs.pointer, lse.pointer, 0, 0, tokens, experts, 0, 0);
  kernels.expertChoice(probs.pointer, chosenIds.pointer, weights.pointer, groups, length, experts, capacity);
  const choice = { probs, lse, chosenIds, weights };
  return recordChoice(graph, logits, choice, groups * experts * capacity, { ...options, normTopkProb: false });
}

/**
 * Bounds what one expert takes: of the slots that chose it, the first `capacity` in the order of the tokens keep it, and
 * the others add nothing to their token (megablocks without `moe_dropless`). The weights of those that stay are as they
 * were, and the router losses go on counting what was chosen.
 */
export function dropOverflow(graph: Graph, routing: Routing, capacity: number): Routing {
  const { kernels } = graph;
  const { chosenIds, expertWeights } = routing;
  const [tokens, topK, experts] = [chosenIds.dim(0), chosenIds.dim(1), routing.probs.dim(1)];
  // An expert has one slot of a token at most.
  if (capacity >= tokens) return routing;
  const slots = chosenIds.size;
  const expertIds = graph.take(chosenIds.shape, "i32");
  const weights = graph.take(chosenIds.shape);
  const dropped = kernels.dropOverflow(chosenIds.pointer, expertIds.pointer, tokens, experts, topK, capacity);
  kernels.maskSlots(expertIds.pointer, expertWeights.value.pointer, weights.pointer, slots);
  const saved = graph.recording && expertWeights.trainable ? [expertIds] : [];
  const kept = graph.node(weights, [expertWeights], saved, (dweights) => {
    kernels.maskSlots(expertIds.pointer, dweights.pointer, dweights.pointer, slots);
    graph.give(expertWeights, dweights);
  });
  return { ...routing, expertIds, expertWeights: kept, rows: Math.min(routing.rows, experts * capacity), dropped };
}
