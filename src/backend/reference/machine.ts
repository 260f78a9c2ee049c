/** The kernels about the machine itself: plain TypeScript has no instruction sets to tell of and one thread. */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

export function cpuFeatures(): Kernels["cpuFeatures"] {
  return () => 0;
}

export function setThreads(): Kernels["setThreads"] {
  return () => 1;
}

export function fmaBurst(): Kernels["fmaBurst"] {
  return (iterations) => {
    let x = 1;
    for (let i = 0; i < iterations; i++) x = x * 0.5 + 0.5;
    // x stays 1; reading it keeps the loop from being left out.
    return x * 2 * iterations;
  };
}

export function readBurst(memory: Memory): Kernels["readBurst"] {
  return (xAt, count, repeats) => {
    const x = memory.f32(xAt);
    let sum = 0;
    for (let repeat = 0; repeat < repeats; repeat++) {
      for (let i = 0; i < count; i++) sum += x[i]!;
    }
    return sum;
  };
}
