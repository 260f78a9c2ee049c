/** The order in which experts take their tokens. */

import type { Tensor } from "../../tensor/tensor.ts";
import type { Graph } from "../graph.ts";

export interface MoePlan {
  /** [E + 1] first row of each expert. */
  readonly offsets: Tensor<"i32">;
  /** [rows] the slot that a row serves, token * N + slot. */
  readonly rowSlot: Tensor<"i32">;
  /** [T * N] the row that serves a slot, -1 for none. */
  readonly slotRow: Tensor<"i32">;
}

/**
 * Sorts slots by expert.
 * @param expertIds [T, N] experts that serve the tokens, -1 for none; @param rows slots that hold an expert.
 */
export function planExperts(graph: Graph, expertIds: Tensor<"i32">, numExperts: number, rows: number): MoePlan {
  const [tokens, slots] = [expertIds.dim(0), expertIds.dim(1)];
  const offsets = graph.take([numExperts + 1], "i32");
  const rowSlot = graph.take([rows], "i32");
  const slotRow = graph.take([tokens * slots], "i32");
  const [offsetsAt, rowSlotAt, slotRowAt] = [offsets.pointer, rowSlot.pointer, slotRow.pointer];
  graph.kernels.moePlan(expertIds.pointer, offsetsAt, rowSlotAt, slotRowAt, tokens, numExperts, slots);
  return { offsets, rowSlot, slotRow };
}
