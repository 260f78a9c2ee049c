/**
 * Workers that lend their threads to the kernels: each runs the same module over the same memory. How a worker is made
 * differs between Node and a page, and is passed in; everything else is the same.
 */
import { UnsupportedError } from "../../errors.ts";
import { STACK_BYTES } from "./library.ts";

/** Exports of the build with threads that concern workers. */
interface ThreadExports {
  olmoe_allocate(byteLength: number): number;
  readonly __tls_size: WebAssembly.Global;
}

/** A worker, of Node or of a page. */
export interface KernelWorker {
  postMessage(message: unknown): void;
  terminate(): void;
  /** From now on the worker does not keep the process alive. */
  unref(): void;
}

export interface WorkerEvents {
  onMessage(message: unknown): void;
  /** The worker could not start, or has ended. */
  onError(reason: string): void;
}

/** Makes a worker that runs `source`, a classic script on the worker interface of pages (onmessage, postMessage). */
export type StartWorker = (source: string, events: WorkerEvents) => KernelWorker;

/** A worker that has said nothing for so long will not start any more. */
const START_TIMEOUT_MS = 10_000;

/**
 * What a worker runs, as text because pages and Node both take a script as text, without a file that bundlers would have
 * to know of. It answers with null when it is ready and with the fault when it is not. After that it stays in the
 * kernels' loop, where no further message reaches it.
 */
const SOURCE = `globalThis.onmessage = async ({ data: { module, memory, index, stackTop, threadLocal } }) => {
  let kernels;
  try {
    kernels = (await WebAssembly.instantiate(module, { env: { memory } })).exports;
    kernels.__stack_pointer.value = stackTop;
    kernels.__wasm_init_tls(threadLocal);
  } catch (error) {
    return postMessage(String(error));
  }
  postMessage(null);
  try {
    kernels.olmoe_worker(index);
  } catch {
    kernels.olmoe_worker_failed();
  }
};
`;

export interface SharedKernels {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly exports: ThreadExports;
}

/** Starts one worker and resolves when it is ready. */
function startOne(kernels: SharedKernels, index: number, start: StartWorker, started: KernelWorker[]): Promise<void> {
  const { module, memory, exports } = kernels;
  const stack = exports.olmoe_allocate(STACK_BYTES + (exports.__tls_size.value as number)) >>> 0;
  const threadLocal = stack + STACK_BYTES;
  let timeout: ReturnType<typeof setTimeout> | undefined;
  return new Promise<void>((resolve, reject) => {
    const refuse = (reason: string) => reject(new UnsupportedError(`worker ${index}: ${reason}`));
    if (stack === 0) return refuse("there is no memory for its stack");
    const onMessage = (fault: unknown) => (fault === null ? resolve() : refuse(String(fault)));
    const worker = start(SOURCE, { onMessage, onError: refuse });
    started.push(worker);
    timeout = setTimeout(() => refuse(`not ready after ${START_TIMEOUT_MS / 1000} s`), START_TIMEOUT_MS);
    worker.postMessage({ module, memory, index, stackTop: threadLocal, threadLocal });
  }).finally(() => clearTimeout(timeout));
}

/**
 * Starts `count` workers.
 * @throws UnsupportedError when one of them does not start in ten seconds; then none is left.
 */
export async function startWorkers(
  kernels: SharedKernels,
  count: number,
  start: StartWorker,
): Promise<readonly KernelWorker[]> {
  const started: KernelWorker[] = [];
  try {
    await Promise.all(Array.from({ length: count }, (_, index) => startOne(kernels, index, start, started)));
    for (const worker of started) worker.unref();
    return started;
  } catch (error) {
    for (const worker of started) worker.terminate();
    throw error;
  }
}
