/** Routing and experts. Letters: T tokens, E experts, K experts per token, D width, F expert width, R routed rows. */
import type { Tensor } from "../../tensor/tensor.ts";
import type { Graph, Variable } from "../graph.ts";
import { planExperts } from "./moePlan.ts";
import { isStored, storedExperts, type Weight } from "./stored.ts";

/**
 * What a router decided for the tokens of one layer, and what its losses need. Each token has N slots, and a slot holds
 * one expert or none: N = K where tokens choose their experts, and N = E, slot e for expert e, where experts choose.
 */
export interface Routing {
  /** K, the number of experts that a token has, or has on average where experts choose: the losses' scales go by it. */
  readonly topK: number;
  /** [T, E] before the softmax. */
  readonly logits: Tensor;
  /** [T, E], each row sums to 1. */
  readonly probs: Tensor;
  /** [T] logarithm of the sum of exp of a token's logits. */
  readonly lse: Tensor;
  /** [T, N] what the router chose: where tokens choose, the most probable expert first; -1 in a slot that holds none. */
  readonly chosenIds: Tensor<"i32">;
  /** [T, N] the experts that serve the token: `chosenIds` with -1 in the slots that were dropped. */
  readonly expertIds: Tensor<"i32">;
  /** [T, N] what multiplies the experts' outputs; 0 in a slot that holds none. */
  readonly expertWeights: Variable;
  /** R: slots that hold an expert, or an upper bound where slots were dropped. */
  readonly rows: number;
  /** Slots that found their expert full. */
  readonly dropped: number;
  /** Gradient that the router losses add on the way back; the losses fill it in after the forward pass. */
  readonly lossGradient: RouterLossGradient;
}

/** Gradient of the router losses with respect to one layer's probabilities and logits. */
export interface RouterLossGradient {
  /** [E]: the same for every token; undefined for none. */
  probGrad: Tensor | undefined;
  /** Coefficient of each token's lse^2. */
  zCoef: number;
}

export interface RouterOptions {
  readonly topK: number;
  /** Divide the chosen probabilities by their sum, which is the softmax over the chosen logits. */
  readonly normTopkProb: boolean;
  /** [T] 1 for tokens that count in the router losses; absent: all. */
  readonly tokenMask?: Tensor | undefined;
  /** The place for the losses' gradient where an earlier run of the same router has made it; absent: a new one. */
  readonly lossGradient?: RouterLossGradient | undefined;
}

/**
 * Chooses each token's experts: softmax over all, then the `topK` largest, ties to the lower id (OLMoE paper, section 2).
 * @param logits [T, E].
 */
export function route(graph: Graph, logits: Variable, options: RouterOptions): Routing {
  const { topK, normTopkProb } = options;
  const [tokens, experts] = [logits.value.dim(0), logits.value.dim(1)];
  const probs = graph.take([tokens, experts]);
  const lse = graph.take([tokens]);
  const chosenIds = graph.take([tokens, topK], "i32");
  const weights = graph.take([tokens, topK]);
  graph.kernels.routerForward(
    logits.value.pointer,
    probs.pointer,
    lse.pointer,
    chosenIds.pointer,
    weights.pointer,
    tokens,
    experts,
    topK,
    normTopkProb ? 1 : 0,
  );
  return recordChoice(graph, logits, { probs, lse, chosenIds, weights }, tokens * topK, options);
}

/** A choice as it comes from the kernels: as in `Routing`, the weights not yet on the tape. */
export interface RouterChoice extends Pick<Routing, "probs" | "lse" | "chosenIds"> {
  readonly weights: Tensor;
}

/**
 * Puts a choice on the tape: on the way back the gradients of its weights and of the router losses become the logits'.
 * @param rows slots that hold an expert.
 */
export function recordChoice(
  graph: Graph,
  logits: Variable,
  { probs, lse, chosenIds, weights }: RouterChoice,
  rows: number,
  { topK, normTopkProb, tokenMask, lossGradient = { probGrad: undefined, zCoef: 0 } }: RouterOptions,
): Routing {
  // Experts and losses read them after this node is made, so it must not give them back where it has no way back.
  const saved = graph.recording && logits.trainable ? [probs, lse, chosenIds] : [];
  const expertWeights = graph.node(weights, [logits], saved, (dweights) => {
    const dlogits = graph.take(logits.value.shape);
    graph.kernels.routerBackward(
      probs.pointer,
      lse.pointer,
      chosenIds.pointer,
      weights.pointer,
      dweights.pointer,
      lossGradient.probGrad?.pointer ?? 0,
      tokenMask?.pointer ?? 0,
      lossGradient.zCoef,
      dlogits.pointer,
      probs.dim(0),
      probs.dim(1),
      chosenIds.dim(1),
      normTopkProb ? 1 : 0,
    );
    graph.release(dweights);
    graph.give(logits, dlogits);
  });
  // Written out: spreading another object takes longer than the kernel's choice for one token.
  return {
    topK,
    logits: logits.value,
    probs,
    lse,
    chosenIds,
    expertIds: chosenIds,
    expertWeights,
    rows,
    dropped: 0,
    lossGradient,
  };
}

/**
 * The experts' part: out[t] = sum over the token's slots of weight * Expert(x[t]), each expert a SwiGLU. A slot without
 * an expert adds nothing.
 * @param x [T, D]; @param gateUp [E, 2F, D], gate rows first; @param down [E, D, F]; both in memory or as a file stores them.
 * @returns [T, D].
 */
export function experts(graph: Graph, x: Variable, routing: Routing, gateUp: Weight, down: Weight): Variable {
  if (isStored(gateUp) || isStored(down)) return storedExperts(graph, x, routing, gateUp, down);
  const { kernels } = graph;
  const { expertIds, expertWeights, rows } = routing;
  const [tokens, width, slots] = [x.value.dim(0), x.value.dim(1), expertIds.dim(1)];
  const [numExperts, inner] = [gateUp.value.dim(0), down.value.dim(2)];
  const { offsets, rowSlot, slotRow } = planExperts(graph, expertIds, numExperts, rows);
  const hidden = graph.take([rows, 2 * inner]);
  const scratch = graph.take([rows, width]);
  const out = graph.take(x.value.shape);
  kernels.moeForward(
    x.value.pointer,
    gateUp.value.pointer,
    down.value.pointer,
    expertWeights.value.pointer,
    offsets.pointer,
    rowSlot.pointer,
    slotRow.pointer,
    hidden.pointer,
    scratch.pointer,
    out.pointer,
    tokens,
    numExperts,
    slots,
    width,
    inner,
  );
  graph.release(scratch);
  const saved = [hidden, offsets, rowSlot, slotRow];
  return graph.node(out, [x, expertWeights, gateUp, down], saved, (dout) => {
    const dx = graph.take(x.value.shape);
    const dweights = graph.take(expertWeights.value.shape);
    const rowsScratch = graph.take([rows, width]);
    const activation = graph.take([rows, inner]);
    const [dgateUp, ddown] = [graph.target(gateUp), graph.target(down)];
    kernels.moeBackward(
      x.value.pointer,
      gateUp.value.pointer,
      down.value.pointer,
      expertWeights.value.pointer,
      offsets.pointer,
      rowSlot.pointer,
      slotRow.pointer,
      dout.pointer,
      hidden.pointer,
      rowsScratch.pointer,
      activation.pointer,
      dx.pointer,
      dweights.pointer,
      dgateUp?.pointer ?? 0,
      ddown?.pointer ?? 0,
      dgateUp?.accumulate ?? 0,
      ddown?.accumulate ?? 0,
      tokens,
      numExperts,
      slots,
      width,
      inner,
    );
    for (const tensor of [rowsScratch, activation, dout]) graph.release(tensor);
    graph.give(x, dx);
    graph.give(expertWeights, dweights);
  });
}
