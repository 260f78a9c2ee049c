/** The multiply-add peak of this machine, measured as a contender among others. */
import type { Backend } from "../src/backend/backend.ts";
import type { Contender } from "./harness.ts";

const BURST_MS = 20;

/** Milliseconds that `work` takes, and what it returns. */
export function timed<T>(work: () => T): { ms: number; result: T } {
  const start = performance.now();
  const result = work();
  return { ms: performance.now() - start, result };
}

/**
 * A contender named "limit" that runs multiply-adds in registers on the backend's threads.
 * @param flopsPerUnit FLOPs of one unit of the row's rate: 1e9 for GFLOP/s.
 */
export function fmaPeak({ kernels }: Backend, flopsPerUnit: number): Contender {
  let iterations = 1000;
  while (timed(() => kernels.fmaBurst(iterations)).ms < BURST_MS && iterations < 2 ** 30) iterations *= 2;
  return {
    name: "limit",
    run: () => {
      const { ms, result } = timed(() => kernels.fmaBurst(iterations));
      return result / (ms / 1000) / flopsPerUnit;
    },
  };
}
