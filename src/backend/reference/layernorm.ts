/** LayerNorm: y = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + epsilon) (arXiv 1607.06450). */
import type { Kernels } from "../kernels.ts";
import { floatsOrNull, type Memory } from "./heap.ts";

export function layernormForward(memory: Memory): Kernels["layernormForward"] {
  return (xAt, ldx, weightAt, biasAt, yAt, ldy, meanAt, rstdAt, rows, width, epsilon) => {
    const x = memory.f32(xAt);
    const weight = floatsOrNull(memory, weightAt);
    const bias = floatsOrNull(memory, biasAt);
    const y = memory.f32(yAt);
    const means = memory.f32(meanAt);
    const rstd = memory.f32(rstdAt);
    epsilon = Math.fround(epsilon);
    for (let t = 0; t < rows; t++) {
      let sum = 0;
      for (let d = 0; d < width; d++) sum += x[t * ldx + d]!;
      const mean = sum / width;
      let squares = 0;
      for (let d = 0; d < width; d++) squares += (x[t * ldx + d]! - mean) ** 2;
      const r = 1 / Math.sqrt(squares / width + epsilon);
      means[t] = mean;
      rstd[t] = r;
      for (let d = 0; d < width; d++) {
        y[t * ldy + d] = (x[t * ldx + d]! - mean) * r * (weight?.[d] ?? 1) + (bias?.[d] ?? 0);
      }
    }
  };
}

/**
 * dx = rstd * (g - mean(g) - n * mean(g * n)) with g = dy * weight and n the normalised x; dweight += sum over rows of
 * dy * n, dbias += sum over rows of dy.
 */
export function layernormBackward(memory: Memory): Kernels["layernormBackward"] {
  return (xAt, ldx, weightAt, meanAt, rstdAt, dyAt, lddy, dxAt, lddx, dweightAt, dbiasAt, rows, width, accumulate) => {
    const x = memory.f32(xAt);
    const weight = floatsOrNull(memory, weightAt);
    const means = memory.f32(meanAt);
    const rstd = memory.f32(rstdAt);
    const dy = memory.f32(dyAt);
    const dx = memory.f32(dxAt);
    const [weightSums, biasSums] = [new Float64Array(width), new Float64Array(width)];
    for (let t = 0; t < rows; t++) {
      const r = rstd[t]!;
      const normalised = (d: number) => (x[t * ldx + d]! - means[t]!) * r;
      const inner = (d: number) => dy[t * lddy + d]! * (weight?.[d] ?? 1);
      let [sum, product] = [0, 0];
      for (let d = 0; d < width; d++) {
        sum += inner(d);
        product += inner(d) * normalised(d);
        weightSums[d]! += dy[t * lddy + d]! * normalised(d);
        biasSums[d]! += dy[t * lddy + d]!;
      }
      for (let d = 0; d < width; d++) {
        const gradient = r * (inner(d) - sum / width - (normalised(d) * product) / width);
        dx[t * lddx + d] = accumulate ? dx[t * lddx + d]! + gradient : gradient;
      }
    }
    addTo(floatsOrNull(memory, dweightAt), weightSums);
    addTo(floatsOrNull(memory, dbiasAt), biasSums);
  };
}

function addTo(target: ReturnType<typeof floatsOrNull>, sums: Float64Array): void {
  if (target !== null) for (let d = 0; d < sums.length; d++) target[d] = target[d]! + sums[d]!;
}
