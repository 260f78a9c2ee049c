/**
 * The wasm backend: the kernels with 128-bit SIMD, in Node and in a page. Threads are workers over one shared memory; where
 * those are not to be had it runs on one thread, from a build without shared memory.
 *
 * The caller's thread never sleeps within a kernel, so that it may be the main thread of a page: it takes its share of the
 * tasks and spins until the last one is done.
 */
import { ResourceError, UnsupportedError } from "../../errors.ts";
import type { Block } from "../../tensor/tensor.ts";
import type { Backend } from "../backend.ts";
import { bindKernels, type KernelLibrary, type Kernels } from "../kernels.ts";
import { INITIAL_PAGES, MAXIMUM_PAGES, type WasmVariant } from "./library.ts";
import { type KernelWorker, type SharedKernels, type StartWorker, startWorkers } from "./workers.ts";

export interface WasmOptions {
  /** Gives the compiled library: read from disk in Node, fetched in a page. */
  readonly load: (variant: WasmVariant) => Promise<BufferSource>;
  /** Threads, the caller's included. */
  readonly threads: number;
  readonly startWorker: StartWorker;
  /** Told in one line when there is only one thread although more were asked for. */
  readonly onNotice?: (message: string) => void;
}

interface WasmExports {
  olmoe_allocate(byteLength: number): number;
  olmoe_release(address: number): void;
}

/** A running library. */
interface WasmInstance {
  readonly exports: WasmExports;
  readonly memory: WebAssembly.Memory;
}

class WasmBlock implements Block {
  readonly address: number;
  readonly byteLength: number;
  readonly #instance: WasmInstance;

  constructor(instance: WasmInstance, byteLength: number) {
    // Sizes are signed 32-bit numbers there: a larger one would arrive as another.
    const possible = byteLength < 2 ** 31;
    this.address = possible ? instance.exports.olmoe_allocate(Math.max(byteLength, 64)) >>> 0 : 0;
    if (this.address === 0) {
      throw new ResourceError(`wasm memory: ${byteLength} bytes are not to be had, the limit is 4 GB in all`, {
        hint: "use a smaller model or batch, or the native backend",
      });
    }
    this.byteLength = byteLength;
    this.#instance = instance;
  }

  /** Growing the memory replaces its buffer. */
  get buffer(): ArrayBufferLike {
    const { memory } = this.#instance;
    // A worker may have grown the memory for its scratch; this thread sees that at once only when it asks.
    if (memory.buffer.byteLength < this.address + this.byteLength) memory.grow(0);
    return memory.buffer;
  }

  get byteOffset(): number {
    return this.address;
  }

  release(): void {
    this.#instance.exports.olmoe_release(this.address);
  }
}

/** Kernels that turn a fault of wasm into an error, and from then on refuse to run: their memory may be in disorder. */
function guardKernels(kernels: Kernels, onFault: () => void): Kernels {
  let fault: ResourceError | undefined;
  const guard =
    (name: string, call: (...values: number[]) => unknown) =>
    (...values: number[]) => {
      if (fault !== undefined) throw fault;
      try {
        return call(...values);
      } catch (cause) {
        onFault();
        fault = new ResourceError(`wasm: ${name} ended by a fault (${(cause as Error).message})`, {
          cause,
          hint: "most likely memory ran out, 4 GB in all: use a smaller model or batch, or the native backend",
        });
        throw fault;
      }
    };
  const entries = Object.entries(kernels).map(([name, call]) => [name, guard(name, call as never)]);
  return Object.fromEntries(entries) as unknown as Kernels;
}

function createBackend(instance: WasmInstance, workers: readonly KernelWorker[]): Backend {
  const bound = bindKernels(instance.exports as unknown as KernelLibrary);
  let available = workers.length + 1;
  const setThreads = (count: number) => bound.setThreads(Math.min(count, available));
  const close = () => {
    available = 1;
    bound.setThreads(1);
    for (const worker of workers) worker.terminate();
  };
  return {
    name: "wasm",
    isa: "simd128",
    precision: "f32",
    threads: setThreads(available),
    kernels: guardKernels({ ...bound, setThreads }, close),
    allocate: (byteLength) => new WasmBlock(instance, byteLength),
    close,
  };
}

async function openSingle(bytes: BufferSource): Promise<Backend> {
  const { instance } = await WebAssembly.instantiate(bytes);
  const exports = instance.exports as unknown as WasmExports & { readonly memory: WebAssembly.Memory };
  return createBackend({ exports, memory: exports.memory }, []);
}

async function openShared(bytes: BufferSource, threads: number, startWorker: StartWorker): Promise<Backend> {
  const memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: MAXIMUM_PAGES, shared: true });
  const { module, instance } = await WebAssembly.instantiate(bytes, { env: { memory } });
  const exports = instance.exports as unknown as WasmExports & SharedKernels["exports"];
  const workers = await startWorkers({ module, memory, exports }, threads - 1, startWorker);
  return createBackend({ exports, memory }, workers);
}

/** Opens the backend on as many threads as were asked for, or on one where workers can not share memory. */
export async function openWasm({ load, threads, startWorker, onNotice }: WasmOptions): Promise<Backend> {
  if (threads > 1) {
    try {
      // Pages may share memory only when their server sends the headers of cross-origin isolation.
      if (globalThis.crossOriginIsolated === false) throw new UnsupportedError("the page is not cross-origin isolated");
      if (globalThis.SharedArrayBuffer === undefined) throw new UnsupportedError("there is no SharedArrayBuffer");
      return await openShared(await load("simd128-threads"), threads, startWorker);
    } catch (error) {
      onNotice?.(`wasm: one thread instead of ${threads}: ${(error as Error).message.split("\n")[0]}`);
    }
  }
  return openSingle(await load("simd128"));
}
