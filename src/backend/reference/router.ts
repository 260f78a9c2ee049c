/** The router: softmax over experts, the K most probable, the gradient of both, and sums for the router losses. */
import type { Kernels } from "../kernels.ts";
import { floatsOrNull, type Memory } from "./heap.ts";
import { logSumExp } from "./logSumExp.ts";

export function routerForward(memory: Memory): Kernels["routerForward"] {
  return (logitsAt, probsAt, lseAt, expertIdsAt, expertWeightsAt, tokens, experts, topK, normalise) => {
    const logits = memory.f32(logitsAt);
    const probs = memory.f32(probsAt);
    const lse = memory.f32(lseAt);
    const expertIds = memory.i32(expertIdsAt);
    const expertWeights = memory.f32(expertWeightsAt);
    for (let t = 0; t < tokens; t++) {
      const tokenLse = logSumExp(logits, t * experts, experts);
      lse[t] = tokenLse;
      for (let e = 0; e < experts; e++) probs[t * experts + e] = Math.exp(logits[t * experts + e]! - tokenLse);

      const prob = (e: number) => probs[t * experts + e]!;
      const byProb = Array.from({ length: experts }, (_, e) => e).sort((a, b) => prob(b) - prob(a) || a - b);
      const chosen = byProb.slice(0, topK);
      const sum = normalise ? chosen.reduce((total, e) => total + prob(e), 0) : 1;
      for (const [k, e] of chosen.entries()) {
        expertIds[t * topK + k] = e;
        expertWeights[t * topK + k] = prob(e) / sum;
      }
    }
  };
}

/**
 * dprobs is the gradient with respect to the probabilities: of the chosen weights, w_k = p_k, or w_k = p_k / s with
 * s = sum of p_k, for which dp_k = (dw_k - sum_j dw_j w_j) / s; and prob_grad. Then, through the softmax,
 * dlogits = p * (dprobs - sum_e p_e dprobs_e), and of z_coef * lse^2, 2 * z_coef * lse * p. Slots whose id is below 0
 * were dropped after the choice: they have no gradient, and s comes from the others as sum(p) / sum(w).
 */
export function routerBackward(memory: Memory): Kernels["routerBackward"] {
  // biome-ignore format: the arguments in the groups of kernels.h
  return (
    probsAt, lseAt, expertIdsAt, expertWeightsAt, dweightsAt, probGradAt, tokenMaskAt, zCoef, dlogitsAt,
    tokens, experts, topK, normalise,
  ) => {
    const probs = memory.f32(probsAt);
    const lse = memory.f32(lseAt);
    const expertIds = memory.i32(expertIdsAt);
    const expertWeights = memory.f32(expertWeightsAt);
    const dweights = floatsOrNull(memory, dweightsAt);
    const probGrad = floatsOrNull(memory, probGradAt);
    const tokenMask = floatsOrNull(memory, tokenMaskAt);
    const dlogits = memory.f32(dlogitsAt);
    zCoef = Math.fround(zCoef);
    for (let t = 0; t < tokens; t++) {
      const mask = tokenMask === null ? 1 : tokenMask[t]!;
      const dprobs = Float64Array.from({ length: experts }, (_, e) => (probGrad === null ? 0 : mask * probGrad[e]!));
      if (dweights !== null) {
        let keptProbs = 0;
        let keptWeights = 0;
        let mean = 0;
        for (let slot = t * topK; slot < (t + 1) * topK; slot++) {
          if (expertIds[slot]! < 0) continue;
          keptProbs += probs[t * experts + expertIds[slot]!]!;
          keptWeights += expertWeights[slot]!;
          mean += dweights[slot]! * expertWeights[slot]!;
        }
        for (let slot = t * topK; slot < (t + 1) * topK; slot++) {
          if (expertIds[slot]! < 0) continue;
          const gradient = normalise ? ((dweights[slot]! - mean) * keptWeights) / keptProbs : dweights[slot]!;
          dprobs[expertIds[slot]!]! += gradient;
        }
      }
      const dot = dprobs.reduce((total, dprob, e) => total + dprob * probs[t * experts + e]!, 0);
      for (let e = 0; e < experts; e++) {
        dlogits[t * experts + e] = probs[t * experts + e]! * (dprobs[e]! - dot + 2 * zCoef * mask * lse[t]!);
      }
    }
  };
}

export function routerStats(memory: Memory): Kernels["routerStats"] {
  return (probsAt, lseAt, expertIdsAt, tokenMaskAt, statsAt, tokens, experts, topK) => {
    const probs = memory.f32(probsAt);
    const lse = memory.f32(lseAt);
    const expertIds = memory.i32(expertIdsAt);
    const tokenMask = floatsOrNull(memory, tokenMaskAt);
    const stats = memory.f64(statsAt);
    stats.fill(0, 0, 2 * experts + 2);
    for (let t = 0; t < tokens; t++) {
      const mask = tokenMask === null ? 1 : tokenMask[t]!;
      // A token that is masked out counts for nothing even where its values are not numbers.
      if (mask === 0) continue;
      for (let e = 0; e < experts; e++) stats[experts + e]! += mask * probs[t * experts + e]!;
      stats[2 * experts]! += mask * lse[t]! ** 2;
      for (let slot = t * topK; slot < (t + 1) * topK; slot++) {
        const e = expertIds[slot]!;
        if (e < 0) continue;
        stats[e]! += mask;
        stats[2 * experts + 1]! += mask * probs[t * experts + e]!;
      }
    }
  };
}
