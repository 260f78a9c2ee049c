/** Two limits of a machine, measured in a moment: arithmetic in registers and reading from memory. */
import type { Backend } from "./backend.ts";

const MEASURE_MS = 300;
/** Long enough for the clock, short enough to fall between other programs' turns. */
const BURST_MS = 20;

/** Best rate per second of `work`, which returns how much it did, over about 0.3 s. */
function bestRate(work: () => number): number {
  let best = 0;
  for (const end = performance.now() + MEASURE_MS; performance.now() < end; ) {
    const start = performance.now();
    const amount = work();
    best = Math.max(best, (amount * 1000) / (performance.now() - start));
  }
  return best;
}

/** Floating-point operations per second of multiply-adds in f32 registers on that many threads. */
export function measureFlops({ kernels, threads: before }: Backend, threads: number): number {
  kernels.setThreads(threads);
  try {
    let iterations = 1000;
    for (let elapsed = 0; elapsed < BURST_MS && iterations < 2 ** 30; iterations *= 2) {
      const start = performance.now();
      kernels.fmaBurst(iterations);
      elapsed = performance.now() - start;
    }
    return bestRate(() => kernels.fmaBurst(iterations));
  } finally {
    kernels.setThreads(before);
  }
}

/**
 * Bytes per second that all threads together read.
 * @param bytes of the buffer: far more than the caches hold.
 */
export function measureReads(backend: Backend, bytes: number): number {
  const block = backend.allocate(bytes);
  try {
    return bestRate(() => {
      backend.kernels.readBurst(block.address, bytes / 4, 1);
      return bytes;
    });
  } finally {
    block.release();
  }
}
