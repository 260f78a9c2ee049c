/** Opens the wasm backend in a page or in one of its workers. */
import { ResourceError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { WASM_FILES, type WasmVariant } from "./wasm/library.ts";
import { openWasm } from "./wasm/wasm.ts";
import type { StartWorker } from "./wasm/workers.ts";

export interface BrowserBackendOptions {
  /** Default: one for each processor. More than one needs a page that is cross-origin isolated. */
  readonly threads?: number;
  /**
   * Folder, ending in a slash, from which kernels.wasm and kernels-threads.wasm of the package are served. Default: where
   * the package's compiled code lies, which bundlers that know `new URL(file, import.meta.url)` keep right.
   */
  readonly baseUrl?: string | URL;
  /** Told in one line when there is only one thread although there could be more. */
  readonly onNotice?: (message: string) => void;
}

/** Written out, because bundlers look for exactly this. */
const PACKAGE_URLS: Readonly<Record<WasmVariant, () => URL>> = {
  simd128: () => new URL("../kernels.wasm", import.meta.url),
  "simd128-threads": () => new URL("../kernels-threads.wasm", import.meta.url),
};

async function fetchKernels(url: URL): Promise<ArrayBuffer> {
  const response = await fetch(url);
  if (response.ok) return response.arrayBuffer();
  throw new ResourceError(`kernels: ${url}: HTTP status ${response.status}, expected the compiled kernels`, {
    hint: "serve kernels.wasm and kernels-threads.wasm of the package, and pass their folder as baseUrl",
  });
}

/** A page's worker takes its script from an address: a blob has one without being a file of the server. */
const startPageWorker: StartWorker = (source, { onMessage, onError }) => {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url, { name: "olmoe kernels" });
  worker.onmessage = ({ data }) => {
    URL.revokeObjectURL(url);
    onMessage(data);
  };
  worker.onerror = ({ message }) => {
    URL.revokeObjectURL(url);
    onError(message ?? "refused by the page");
  };
  return {
    postMessage: (message) => worker.postMessage(message),
    terminate: () => worker.terminate(),
    unref: () => undefined,
  };
};

/** More than this many workers for each processor only cost memory. */
const THREADS_PER_PROCESSOR = 4;

/**
 * Opens the wasm backend: on several threads where the page is cross-origin isolated (its server sends
 * `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`) and may start workers from
 * blobs, else on one. Kernels block the thread that calls them until they are done: a page that has to stay responsive
 * opens the backend in a worker of its own.
 * @throws ResourceError when the kernels can not be fetched.
 */
export async function openBackend(options: BrowserBackendOptions = {}): Promise<Backend> {
  const processors = navigator.hardwareConcurrency ?? 1;
  const { threads = processors, baseUrl, onNotice } = options;
  const urlOf = (variant: WasmVariant) =>
    baseUrl === undefined ? PACKAGE_URLS[variant]() : new URL(WASM_FILES[variant], new URL(baseUrl, location.href));
  return openWasm({
    load: (variant) => fetchKernels(urlOf(variant)),
    threads: Math.min(threads, THREADS_PER_PROCESSOR * processors),
    startWorker: startPageWorker,
    ...(onNotice === undefined ? {} : { onNotice }),
  });
}
