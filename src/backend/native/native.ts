/** The native backend: kernels as a shared library, memory as array buffers over the machine's own. */
import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import { CheckpointError, ResourceError } from "../../errors.ts";
import type { Block } from "../../tensor/tensor.ts";
import type { Backend, InstructionSet, MappedFile, Precision } from "../backend.ts";
import { bindKernels, type KernelLibrary } from "../kernels.ts";

interface NativeLibrary {
  allocate(byteLength: number): [address: number, buffer: ArrayBuffer, owner: number] | undefined;
  release(buffer: ArrayBuffer, owner: number): void;
  /** Absent on systems that map files in another way. */
  mapFile?(descriptor: number, byteLength: number): [address: number, owner: number] | [errno: number];
  unmapFile(owner: number): void;
  mappingDamaged(owner: number): boolean;
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

/** Errno of a file that is not as long as it was; the number differs between systems. */
const STALE = "ESTALE";

class NativeMapping implements MappedFile {
  readonly address: number;
  readonly byteLength: number;
  readonly #library: NativeLibrary;
  readonly #owner: number;
  readonly #path: string;
  #held = true;

  constructor(library: NativeLibrary, descriptor: number, byteLength: number, path: string) {
    const [first, owner] = library.mapFile?.(descriptor, byteLength) ?? [0];
    if (owner === undefined) {
      const reason = getSystemErrorName(-first);
      if (reason === STALE) throw changed(path);
      throw new ResourceError(`map ${path}: ${byteLength} bytes can not be mapped (${reason})`, {
        hint: "check the limit on address space (ulimit -v), or copy the file to a local disk",
      });
    }
    this.address = first;
    this.byteLength = byteLength;
    this.#library = library;
    this.#owner = owner;
    this.#path = path;
  }

  check(): void {
    if (this.#held && this.#library.mappingDamaged(this.#owner)) throw changed(this.#path);
  }

  release(): void {
    if (this.#held) this.#library.unmapFile(this.#owner);
    this.#held = false;
  }
}

function changed(path: string): CheckpointError {
  return new CheckpointError(`${path}: the file was changed, cut short or became unreadable while it was in use`, {
    hint: "another program writes to this file, or its disk fails: open the model again when the file is whole",
  });
}

/** Bits of `cpuFeatures`, from the library that `buildFeatures` made. */
export function readFeatures(path: string): number {
  return createRequire(import.meta.url)(path) as number;
}

/** Loads a library that `buildNative` made. */
export function openNative(path: string, isa: InstructionSet, threads: number, precision: Precision = "f32"): Backend {
  const library = createRequire(import.meta.url)(path) as NativeLibrary & KernelLibrary;
  const kernels = bindKernels(library);
  const mapFile = (descriptor: number, byteLength: number, path: string) =>
    new NativeMapping(library, descriptor, byteLength, path);
  return {
    name: "native",
    isa,
    precision,
    threads: kernels.setThreads(threads),
    kernels,
    allocate: (byteLength) => new NativeBlock(library, byteLength),
    ...(library.mapFile === undefined ? {} : { mapFile }),
    // The pool belongs to the library, which other backends may have open.
    close: () => undefined,
  };
}
