/** Two limits of a machine, measured in a moment: arithmetic in registers and reading from memory. */
import type { Backend } from "./backend.ts";

const MEASURE_MS = 300;
/** Long enough for the clock, short enough to fall between other programs' turns. */
const BURST_MS = 20;
const READ_BYTES = 256 * 2 ** 20;

/** What a machine can do at the most. */
export interface MachineLimits {
  /** Floating-point operations of multiply-adds in f32. */
  readonly flopsPerSecond: number;
  readonly bytesPerSecond: number;
}

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
 * Bytes per second that all threads together read, from memory far beyond the caches of common machines.
 * @param freeBytes memory that is free: at most a quarter of it is taken.
 */
export function measureReads(backend: Backend, freeBytes: number): number {
  const bytes = Math.min(READ_BYTES, Math.floor(freeBytes / 16) * 4);
  const block = backend.allocate(bytes);
  try {
    // Memory that was never written may all be one page of zeros.
    backend.kernels.fill(block.address, bytes / 4, 1);
    return bestRate(() => {
      backend.kernels.readBurst(block.address, bytes / 4, 1);
      return bytes;
    });
  } finally {
    block.release();
  }
}

/** Both limits with all of the backend's threads: what `olmoe doctor` shows and profiles are held against. */
export function measureLimits(backend: Backend, freeBytes: number): MachineLimits {
  return {
    flopsPerSecond: measureFlops(backend, backend.threads),
    bytesPerSecond: measureReads(backend, freeBytes),
  };
}
