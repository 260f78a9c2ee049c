/** What this machine allows, measured as a contender among others: multiply-adds and reads of memory. */
import type { Backend } from "../src/backend/backend.ts";
import type { Contender } from "./harness.ts";

const BURST_MS = 20;
/** Far beyond all caches. */
const READ_BYTES = 2 ** 30;
const READ_MS = 300;

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

/**
 * A contender named "limit" that reads memory on the backend's threads, as fast as the best of several rounds.
 * @param bytesPerUnit bytes of one unit of the row's rate: 1e9 for GB/s.
 */
export function readPeak(backend: Backend, bytesPerUnit: number): Contender {
  return {
    name: "limit",
    run: () => {
      const block = backend.allocate(READ_BYTES);
      try {
        // Memory that was never written may all be one page of zeros.
        backend.kernels.fill(block.address, READ_BYTES / 4, 1);
        let best = 0;
        for (const end = performance.now() + READ_MS; performance.now() < end; ) {
          const { ms } = timed(() => backend.kernels.readBurst(block.address, READ_BYTES / 4, 1));
          best = Math.max(best, READ_BYTES / (ms / 1000));
        }
        return best / bytesPerUnit;
      } finally {
        block.release();
      }
    },
  };
}
