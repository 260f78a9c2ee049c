/** Rotary positions (arXiv 2104.09864), in the half-split pairing of Hugging Face: dimension i turns with i + C/2. */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

export function rope(memory: Memory): Kernels["rope"] {
  return (xAt, ldx, positionsAt, cosineAt, sineAt, tokens, heads, channels, inverse) => {
    const x = memory.f32(xAt);
    const positions = memory.i32(positionsAt);
    const cosine = memory.f32(cosineAt);
    const sine = memory.f32(sineAt);
    const half = channels / 2;
    for (let t = 0; t < tokens; t++) {
      for (let h = 0; h < heads; h++) {
        for (let i = 0; i < half; i++) {
          const cos = cosine[positions[t]! * half + i]!;
          const sin = (inverse ? -1 : 1) * sine[positions[t]! * half + i]!;
          const first = t * ldx + h * channels + i;
          const a = x[first]!;
          const b = x[first + half]!;
          x[first] = a * cos - b * sin;
          x[first + half] = b * cos + a * sin;
        }
      }
    }
  };
}
