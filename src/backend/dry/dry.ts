/**
 * A backend that computes nothing and holds nothing: kernels return at once, and memory is only counted. Code that runs
 * over it asks for exactly the memory and makes exactly the kernel calls that it would anywhere else, so that what a
 * model takes is found out by running the trainer itself. Whatever it reads back is zero.
 */
import { ResourceError } from "../../errors.ts";
import type { Block } from "../../tensor/tensor.ts";
import type { Backend } from "../backend.ts";
import { KERNEL_NAMES, type Kernels } from "../kernels.ts";

/** What is read back or written from TypeScript shares one piece of memory of at most this size. */
const MOST_SHARED_BYTES = 2 ** 30;

/** What the native backend rounds blocks up to (kernels/machine.h): huge pages from 4 MB on. */
function roundedBytes(byteLength: number): number {
  const unit = byteLength >= 2 ** 22 ? 2 ** 21 : 64;
  return Math.ceil(Math.max(byteLength, 1) / unit) * unit;
}

export interface DryBackend extends Backend {
  /** Bytes of the blocks that are held now, as the native backend rounds them. */
  readonly heldBytes: number;
  /** The most that was held at once. */
  readonly peakBytes: number;
}

class DryMemory {
  heldBytes = 0;
  peakBytes = 0;
  #next = 64;
  #shared = new ArrayBuffer(2 ** 16);

  allocate(byteLength: number): Block {
    const bytes = roundedBytes(byteLength);
    const address = this.#next;
    this.#next += bytes;
    this.heldBytes += bytes;
    this.peakBytes = Math.max(this.peakBytes, this.heldBytes);
    let held = true;
    return {
      address,
      byteLength,
      buffer: new ArrayBuffer(0),
      byteOffset: 0,
      standIn: (part) => this.#standIn(part),
      release: () => {
        if (held) this.heldBytes -= bytes;
        held = false;
      },
    };
  }

  #standIn(byteLength: number): ArrayBuffer {
    if (byteLength > MOST_SHARED_BYTES) {
      throw new ResourceError(`dry run: ${byteLength} bytes read at once, at most ${MOST_SHARED_BYTES}`);
    }
    if (byteLength > this.#shared.byteLength) this.#shared = new ArrayBuffer(byteLength);
    else new Uint8Array(this.#shared, 0, byteLength).fill(0);
    return this.#shared;
  }
}

/** @param kernels what to do instead of nothing, by name: counting, for example. */
export function createDryBackend(kernels: Partial<Kernels> = {}): DryBackend {
  const memory = new DryMemory();
  const nothing = Object.fromEntries(KERNEL_NAMES.map((name) => [name, () => 0])) as unknown as Kernels;
  return {
    name: "dry",
    isa: "typescript",
    precision: "f32",
    threads: 1,
    kernels: { ...nothing, setThreads: () => 1, firstNonfinite: () => -1, ...kernels },
    allocate: (byteLength) => memory.allocate(byteLength),
    close: () => undefined,
    get heldBytes() {
      return memory.heldBytes;
    },
    get peakBytes() {
      return memory.peakBytes;
    },
  };
}
