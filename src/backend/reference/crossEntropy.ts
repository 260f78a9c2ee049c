/** Cross-entropy of next-token logits, with its gradient written over them. */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";
import { logSumExp } from "./logSumExp.ts";

/** loss = lse - logit of the label; d loss / d logit_v = softmax_v - (1 where v is the label). */
export function crossEntropy(memory: Memory): Kernels["crossEntropy"] {
  return (logitsAt, labelsAt, lossesAt, tokens, vocabulary, scale) => {
    const logits = memory.f32(logitsAt);
    const labels = memory.i32(labelsAt);
    const losses = memory.f32(lossesAt);
    scale = Math.fround(scale);
    for (let t = 0; t < tokens; t++) {
      const label = labels[t]!;
      const row = t * vocabulary;
      const lse = logSumExp(logits, row, vocabulary);
      losses[t] = label < 0 ? 0 : lse - logits[row + label]!;
      if (scale === 0) continue;
      for (let v = 0; v < vocabulary; v++) {
        const gradient = Math.exp(logits[row + v]! - lse) - (v === label ? 1 : 0);
        logits[row + v] = label < 0 ? 0 : scale * gradient;
      }
    }
  };
}
