/** Joins the router losses to the tape: statistics out of a pass's routings, gradients into them. */
import type { Graph } from "../autograd/graph.ts";
import type { Routing } from "../autograd/ops/moe.ts";
import type { Tensor } from "../tensor/tensor.ts";
import {
  huggingFaceBalanceLoss,
  layerSharedBalanceLoss,
  loadBalancingLoss,
  type RouterStats,
  routerZLoss,
  type ZLossScale,
  zLossCoefficient,
} from "./losses.ts";

/**
 * Reads one layer's statistics. They are of what the router chose, before slots are dropped, as in megablocks: a loss that
 * counted what is left would find a full expert in balance, and never send its tokens elsewhere.
 * @param tokenMask [T] of 0 and 1; absent: all tokens count.
 */
export function routerStats(graph: Graph, routing: Routing, tokenMask?: Tensor): RouterStats {
  const [tokens, experts] = [routing.probs.dim(0), routing.probs.dim(1)];
  const stats = graph.take([2 * experts + 2], "f64");
  graph.kernels.routerStats(
    routing.probs.pointer,
    routing.lse.pointer,
    routing.chosenIds.pointer,
    tokenMask?.pointer ?? 0,
    stats.pointer,
    tokens,
    experts,
    routing.chosenIds.dim(1),
  );
  const values = stats.data.slice();
  graph.release(stats);
  return {
    tokens: tokenMask === undefined ? tokens : tokenMask.data.reduce((sum, weight) => sum + weight, 0),
    topK: routing.topK,
    counts: values.subarray(0, experts),
    probSums: values.subarray(experts, 2 * experts),
    squaredLseSum: values[2 * experts] as number,
    chosenProbSum: values[2 * experts + 1] as number,
    dropped: routing.dropped,
  };
}

export interface RouterLossWeights {
  /** Weight of the balance loss, 0 for none. */
  readonly balance: number;
  /** Which balance loss; default: the paper's. */
  readonly balanceScale?: "paper" | "huggingface";
  /** Layers share their experts: the paper's loss balances the load of all layers together. */
  readonly layerShared?: boolean;
  /** Weight of the z-loss, 0 for none, whatever `balance` is. */
  readonly z: number;
  readonly zScale?: ZLossScale;
}

/** Router losses of one pass, unweighted, and what they were computed from. */
export interface RouterLosses {
  readonly balance: number;
  readonly z: number;
  readonly layers: readonly RouterStats[];
}

/**
 * Computes the router losses and leaves their weighted gradients for the backward pass.
 * @param share what the pass contributes to the step: 1 / micro-batches.
 */
export function applyRouterLosses(
  graph: Graph,
  routings: readonly Routing[],
  weights: RouterLossWeights,
  share = 1,
  tokenMask?: Tensor,
): RouterLosses {
  const layers = routings.map((routing) => routerStats(graph, routing, tokenMask));
  const zScale = weights.zScale ?? "megablocks";
  const paperBalance = weights.layerShared ? layerSharedBalanceLoss : loadBalancingLoss;
  const balance = (weights.balanceScale === "huggingface" ? huggingFaceBalanceLoss : paperBalance)(layers);
  for (const [index, { lossGradient }] of routings.entries()) {
    lossGradient.zCoef = share * weights.z * zLossCoefficient(layers, zScale);
    const gradient = balance.probGrads[index];
    if (!graph.recording || weights.balance === 0 || gradient === undefined) continue;
    lossGradient.probGrad = graph.take([gradient.length]);
    lossGradient.probGrad.data.set(gradient.map((value) => value * weights.balance * share));
  }
  return { balance: balance.value, z: routerZLoss(layers, zScale), layers };
}
