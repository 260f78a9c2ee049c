/** Elementwise kernels and two reductions. */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

export function fill(memory: Memory): Kernels["fill"] {
  return (xAt, count, value) => {
    const x = memory.f32(xAt);
    for (let i = 0; i < count; i++) x[i] = value;
  };
}

export function add(memory: Memory): Kernels["add"] {
  return (aAt, bAt, outAt, count) => {
    const a = memory.f32(aAt);
    const b = memory.f32(bAt);
    const out = memory.f32(outAt);
    for (let i = 0; i < count; i++) out[i] = a[i]! + b[i]!;
  };
}

export function clampForward(memory: Memory): Kernels["clampForward"] {
  return (xAt, ldx, yAt, ldy, rows, cols, limit) => {
    const x = memory.f32(xAt);
    const y = memory.f32(yAt);
    limit = Math.fround(limit);
    for (let row = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++) {
        y[row * ldy + col] = Math.min(Math.max(x[row * ldx + col]!, -limit), limit);
      }
    }
  };
}

export function clampBackward(memory: Memory): Kernels["clampBackward"] {
  return (xAt, ldx, dyAt, lddy, dxAt, lddx, rows, cols, limit) => {
    const x = memory.f32(xAt);
    const dy = memory.f32(dyAt);
    const dx = memory.f32(dxAt);
    limit = Math.fround(limit);
    for (let row = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++) {
        const passes = Math.abs(x[row * ldx + col]!) <= limit;
        dx[row * lddx + col] = passes ? dy[row * lddy + col]! : 0;
      }
    }
  };
}

export function sumSquares(memory: Memory): Kernels["sumSquares"] {
  return (xAt, count) => {
    const x = memory.f32(xAt);
    let sum = 0;
    for (let i = 0; i < count; i++) sum += x[i]! ** 2;
    return sum;
  };
}

export function firstNonfinite(memory: Memory): Kernels["firstNonfinite"] {
  return (xAt, count) => {
    const x = memory.f32(xAt);
    for (let i = 0; i < count; i++) {
      if (!Number.isFinite(x[i])) return i;
    }
    return -1;
  };
}

export function difference(memory: Memory): Kernels["difference"] {
  return (aAt, bAt, outAt, count) => {
    const a = memory.f32(aAt);
    const b = memory.f32(bAt);
    const sums = [0, 0, 0, 0] as [number, number, number, number];
    for (let i = 0; i < count; i++) {
      const size = Math.abs(b[i]! - a[i]!);
      sums[0] += size ** 2;
      sums[1] += a[i]! ** 2;
      if (size > sums[2]) sums[2] = size;
      sums[3] += Number.isFinite(b[i]) ? 0 : 1;
    }
    memory.f64(outAt).set(sums);
  };
}
