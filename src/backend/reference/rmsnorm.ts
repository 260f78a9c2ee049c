/** RMSNorm: y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon) (arXiv 1910.07467). */
import type { Kernels } from "../kernels.ts";
import { floatsOrNull, type Memory } from "./heap.ts";

export function rmsnormForward(memory: Memory): Kernels["rmsnormForward"] {
  return (xAt, ldx, weightAt, yAt, ldy, rstdAt, rows, width, epsilon) => {
    const x = memory.f32(xAt);
    const weight = memory.f32(weightAt);
    const y = memory.f32(yAt);
    const rstd = memory.f32(rstdAt);
    epsilon = Math.fround(epsilon);
    for (let t = 0; t < rows; t++) {
      let squares = 0;
      for (let d = 0; d < width; d++) squares += x[t * ldx + d]! ** 2;
      const r = 1 / Math.sqrt(squares / width + epsilon);
      rstd[t] = r;
      for (let d = 0; d < width; d++) y[t * ldy + d] = x[t * ldx + d]! * r * weight[d]!;
    }
  };
}

/** dx = rstd * (g - x * rstd^2 * mean(g * x)) with g = dy * weight; dweight += sum over rows of dy * x * rstd. */
export function rmsnormBackward(memory: Memory): Kernels["rmsnormBackward"] {
  return (xAt, ldx, weightAt, rstdAt, dyAt, lddy, dxAt, lddx, dweightAt, rows, width, accumulate) => {
    const x = memory.f32(xAt);
    const weight = memory.f32(weightAt);
    const rstd = memory.f32(rstdAt);
    const dy = memory.f32(dyAt);
    const dx = memory.f32(dxAt);
    const dweight = floatsOrNull(memory, dweightAt);
    const weightSums = new Float64Array(width);
    for (let t = 0; t < rows; t++) {
      const r = rstd[t]!;
      let dot = 0;
      for (let d = 0; d < width; d++) {
        dot += dy[t * lddy + d]! * weight[d]! * x[t * ldx + d]!;
        weightSums[d]! += dy[t * lddy + d]! * x[t * ldx + d]! * r;
      }
      for (let d = 0; d < width; d++) {
        const gradient = r * (dy[t * lddy + d]! * weight[d]! - (x[t * ldx + d]! * r * r * dot) / width);
        dx[t * lddx + d] = accumulate ? dx[t * lddx + d]! + gradient : gradient;
      }
    }
    if (dweight !== null) {
      for (let d = 0; d < width; d++) dweight[d] = dweight[d]! + weightSums[d]!;
    }
  };
}
