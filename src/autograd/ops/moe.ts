/** Routing and experts. Letters: T tokens, E experts, K experts per token, D width, F expert width, R = T * K rows. */
import type { Tensor } from "../../tensor/tensor.ts";
import type { Graph, Variable } from "../graph.ts";

/** What a router decided for the tokens of one layer, and what its losses need. */
export interface Routing {
  /** [T, E] before the softmax. */
  readonly logits: Tensor;
  /** [T, E], each row sums to 1. */
  readonly probs: Tensor;
  /** [T] logarithm of the sum of exp of a token's logits. */
  readonly lse: Tensor;
  /** [T, K] most probable first. */
  readonly expertIds: Tensor<"i32">;
  /** [T, K] what multiplies the experts' outputs. */
  readonly expertWeights: Variable;
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
  /** Divide the chosen probabilities by their sum. */
  readonly normTopkProb: boolean;
  /** [T] 1 for tokens that count in the router losses; absent: all. */
  readonly tokenMask?: Tensor | undefined;
}

/**
 * Chooses each token's experts: softmax over all, then the `topK` largest, ties to the lower id (OLMoE paper, section 2).
 * @param logits [T, E].
 */
export function route(graph: Graph, logits: Variable, { topK, normTopkProb, tokenMask }: RouterOptions): Routing {
  const { kernels } = graph;
  const [tokens, experts] = [logits.value.dim(0), logits.value.dim(1)];
  const normalise = normTopkProb ? 1 : 0;
  const probs = graph.take([tokens, experts]);
  const lse = graph.take([tokens]);
  const expertIds = graph.take([tokens, topK], "i32");
  const weights = graph.take([tokens, topK]);
  kernels.routerForward(
    logits.value.pointer,
    probs.pointer,
    lse.pointer,
    expertIds.pointer,
    weights.pointer,
    tokens,
    experts,
    topK,
    normalise,
  );
  const lossGradient: RouterLossGradient = { probGrad: undefined, zCoef: 0 };
  // Without a way back they stay: the experts and the router losses read them.
  const saved = graph.recording && logits.trainable ? [probs, lse, expertIds] : [];
  const expertWeights = graph.node(weights, [logits], saved, (dweights) => {
    const dlogits = graph.take(logits.value.shape);
    kernels.routerBackward(
      probs.pointer,
      lse.pointer,
      expertIds.pointer,
      weights.pointer,
      dweights.pointer,
      lossGradient.probGrad?.pointer ?? 0,
      tokenMask?.pointer ?? 0,
      lossGradient.zCoef,
      dlogits.pointer,
      tokens,
      experts,
      topK,
      normalise,
    );
    graph.release(dweights);
    graph.give(logits, dlogits);
  });
  return { logits: logits.value, probs, lse, expertIds, expertWeights, lossGradient };
}

/**
 * The experts' part: out[t] = sum over k of weight[t, k] * Expert(x[t]), each expert a SwiGLU, dropless.
 * @param x [T, D]; @param gateUp [E, 2F, D], gate rows first; @param down [E, D, F].
 * @returns [T, D].
 */
export function experts(graph: Graph, x: Variable, routing: Routing, gateUp: Variable, down: Variable): Variable {
  const { kernels } = graph;
  const { expertIds, expertWeights } = routing;
  const [tokens, width, topK] = [x.value.dim(0), x.value.dim(1), expertIds.dim(1)];
  const [numExperts, inner] = [gateUp.value.dim(0), down.value.dim(2)];
  const rows = tokens * topK;
  const offsets = graph.take([numExperts + 1], "i32");
  const rowSlot = graph.take([rows], "i32");
  const slotRow = graph.take([rows], "i32");
  kernels.moePlan(expertIds.pointer, offsets.pointer, rowSlot.pointer, slotRow.pointer, tokens, numExperts, topK);
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
    topK,
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
    if (dgateUp && !dgateUp.accumulate) kernels.fill(dgateUp.pointer, gateUp.value.size, 0);
    if (ddown && !ddown.accumulate) kernels.fill(ddown.pointer, down.value.size, 0);
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
      tokens,
      numExperts,
      topK,
      width,
      inner,
    );
    for (const tensor of [rowsScratch, activation, dout]) graph.release(tensor);
    graph.give(x, dx);
    graph.give(expertWeights, dweights);
  });
}
