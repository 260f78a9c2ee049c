/** Routing choices beside the plain top-k: experts that choose tokens, and experts that are full. */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

export function expertChoice(memory: Memory): Kernels["expertChoice"] {
  return (probsAt, expertIdsAt, expertWeightsAt, groups, length, experts, capacity) => {
    const probs = memory.f32(probsAt);
    const expertIds = memory.i32(expertIdsAt);
    const expertWeights = memory.f32(expertWeightsAt);
    expertIds.fill(-1, 0, groups * length * experts);
    expertWeights.fill(0, 0, groups * length * experts);
    for (let e = 0; e < experts; e++) {
      const slotOf = (token: number) => token * experts + e;
      // What is not a number ranks below every probability.
      const rank = (token: number) => (probs[slotOf(token)]! >= 0 ? probs[slotOf(token)]! : -1);
      for (let group = 0; group < groups; group++) {
        const tokens = Array.from({ length }, (_, i) => group * length + i);
        for (const token of tokens.sort((a, b) => rank(b) - rank(a) || a - b).slice(0, capacity)) {
          expertIds[slotOf(token)] = e;
          expertWeights[slotOf(token)] = probs[slotOf(token)]!;
        }
      }
    }
  };
}

export function dropOverflow(memory: Memory): Kernels["dropOverflow"] {
  return (chosenIdsAt, expertIdsAt, tokens, experts, topK, capacity) => {
    const chosenIds = memory.i32(chosenIdsAt);
    const expertIds = memory.i32(expertIdsAt);
    const room = new Array<number>(experts).fill(capacity);
    let dropped = 0;
    for (let slot = 0; slot < tokens * topK; slot++) {
      const e = chosenIds[slot]!;
      const full = e >= 0 && room[e]! <= 0;
      if (e >= 0 && !full) room[e]! -= 1;
      if (full) dropped += 1;
      expertIds[slot] = full ? -1 : e;
    }
    return dropped;
  };
}

export function maskSlots(memory: Memory): Kernels["maskSlots"] {
  return (expertIdsAt, xAt, yAt, slots) => {
    const expertIds = memory.i32(expertIdsAt);
    const x = memory.f32(xAt);
    const y = memory.f32(yAt);
    for (let slot = 0; slot < slots; slot++) y[slot] = expertIds[slot]! >= 0 ? x[slot]! : 0;
  };
}
