/** Embedding: rows of a table by id. */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

export function embeddingForward(memory: Memory): Kernels["embeddingForward"] {
  return (tableAt, idsAt, outAt, tokens, width) => {
    const table = memory.f32(tableAt);
    const ids = memory.i32(idsAt);
    const out = memory.f32(outAt);
    for (let t = 0; t < tokens; t++) {
      for (let d = 0; d < width; d++) out[t * width + d] = table[ids[t]! * width + d]!;
    }
  };
}

/** The one sum that is kept in f32: its order is part of the contract. */
export function embeddingBackward(memory: Memory): Kernels["embeddingBackward"] {
  return (dtableAt, idsAt, doutAt, tokens, width) => {
    const dtable = memory.f32(dtableAt);
    const ids = memory.i32(idsAt);
    const dout = memory.f32(doutAt);
    for (let t = 0; t < tokens; t++) {
      for (let d = 0; d < width; d++) {
        const at = ids[t]! * width + d;
        dtable[at] = dtable[at]! + dout[t * width + d]!;
      }
    }
  };
}
