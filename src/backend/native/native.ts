/** The native backend: kernels as a shared library, memory as array buffers over the machine's own. */
import { createRequire } from "node:module";
import { ResourceError } from "../../errors.ts";
import type { Block } from "../../tensor/tensor.ts";
import type { Backend, InstructionSet, Precision } from "../backend.ts";
import { bindKernels, type KernelLibrary } from "../kernels.ts";

interface NativeLibrary {
  allocate(byteLength: number): [address: number, buffer: ArrayBuffer, owner: number] | undefined;
  release(buffer: ArrayBuffer, owner: number): void;
}

class NativeBlock implements Block {
  readonly address: number;
  readonly byteLength: number;
  readonly buffer: ArrayBuffer;
  readonly byteOffset = 0;
  readonly #library: NativeLibrary;
  readonly #owner: number;
  #held = true;

  constructor(library: NativeLibrary, byteLength: number) {
    const allocated = library.allocate(Math.max(byteLength, 64));
    if (allocated === undefined) {
      throw new ResourceError(`memory: ${byteLength} bytes are not to be had`, {
        hint: "use a smaller model, batch or micro-batch",
      });
    }
    [this.address, this.buffer, this.#owner] = allocated;
    this.byteLength = byteLength;
    this.#library = library;
  }

  release(): void {
    if (this.#held) this.#library.release(this.buffer, this.#owner);
    this.#held = false;
  }
}

/** Loads a library that `buildNative` made. */
export function openNative(path: string, isa: InstructionSet, threads: number, precision: Precision = "f32"): Backend {
  const library = createRequire(import.meta.url)(path) as NativeLibrary & KernelLibrary;
  const kernels = bindKernels(library);
  return {
    name: "native",
    isa,
    precision,
    threads: kernels.setThreads(threads),
    kernels,
    allocate: (byteLength) => new NativeBlock(library, byteLength),
    // The pool belongs to the library, which other backends may have open.
    close: () => undefined,
  };
}
