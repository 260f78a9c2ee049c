/** The wasm backend: the same kernels with 128-bit SIMD on one thread, in Node and in a page. */
import { ResourceError } from "../../errors.ts";
import type { Block } from "../../tensor/tensor.ts";
import type { Backend } from "../backend.ts";
import { bindKernels, type KernelLibrary } from "../kernels.ts";

interface WasmExports {
  readonly memory: WebAssembly.Memory;
  olmoe_allocate(byteLength: number): number;
  olmoe_release(address: number): void;
  _initialize?(): void;
}

class WasmBlock implements Block {
  readonly address: number;
  readonly byteLength: number;
  readonly #exports: WasmExports;

  constructor(exports: WasmExports, byteLength: number) {
    this.address = exports.olmoe_allocate(Math.max(byteLength, 64)) >>> 0;
    if (this.address === 0) {
      throw new ResourceError(`wasm memory: ${byteLength} bytes are not to be had, the limit is 4 GB in all`, {
        hint: "use a smaller model or batch, or the native backend",
      });
    }
    this.byteLength = byteLength;
    this.#exports = exports;
  }

  /** Growing the memory replaces its buffer. */
  get buffer(): ArrayBuffer {
    return this.#exports.memory.buffer;
  }

  get byteOffset(): number {
    return this.address;
  }

  release(): void {
    this.#exports.olmoe_release(this.address);
  }
}

/** WASI functions that libc refers to and these kernels never reach. */
function imports(module: WebAssembly.Module): WebAssembly.Imports {
  const stubs: Record<string, Record<string, () => never>> = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    stubs[from] ??= {};
    stubs[from][name] = () => {
      throw new Error(`internal: the kernels called ${name}`);
    };
  }
  return stubs;
}

/** @param bytes the compiled library: read from disk in Node, fetched in a page. */
export async function openWasm(bytes: BufferSource): Promise<Backend> {
  const module = await WebAssembly.compile(bytes);
  const instance = await WebAssembly.instantiate(module, imports(module));
  const exports = instance.exports as unknown as WasmExports;
  exports._initialize?.();
  return {
    name: "wasm",
    isa: "simd128",
    precision: "f32",
    threads: 1,
    kernels: bindKernels(exports as unknown as KernelLibrary),
    allocate: (byteLength) => new WasmBlock(exports, byteLength),
  };
}
