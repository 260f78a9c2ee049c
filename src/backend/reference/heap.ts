/**
 * Memory of the reference backend: one growable ArrayBuffer in which a pointer is a byte offset. Offset 0 is null, so the
 * first bytes are never given out. The buffer is replaced when it grows, as wasm memory is: views must not be kept.
 */
import { ResourceError } from "../../errors.ts";
import type { Allocator, Block } from "../../tensor/tensor.ts";
import type { Pointer } from "../kernels.ts";

/** Floats behind a pointer. The reference kernels do not depend on their width, so tests may run them in f64. */
export type Floats = Float32Array | Float64Array;

/** What the reference kernels see of memory: arrays that start at a pointer and have no end of their own, as in C. */
export interface Memory {
  f32(pointer: Pointer): Floats;
  i32(pointer: Pointer): Int32Array;
  f64(pointer: Pointer): Float64Array;
  bytes(pointer: Pointer): Uint8Array;
}

const ALIGNMENT = 64;
const INITIAL_BYTES = 2 ** 16;
/** The longest typed array that every supported engine offers. */
const LIMIT_BYTES = 2 ** 32;

interface Hole {
  readonly start: number;
  readonly end: number;
}

export class Heap implements Allocator, Memory {
  #buffer = new ArrayBuffer(INITIAL_BYTES);
  /** Free ranges in order of address; no two touch. */
  #holes: Hole[] = [{ start: ALIGNMENT, end: INITIAL_BYTES }];

  f32(pointer: Pointer): Float32Array {
    return new Float32Array(this.#buffer, pointer);
  }

  i32(pointer: Pointer): Int32Array {
    return new Int32Array(this.#buffer, pointer);
  }

  f64(pointer: Pointer): Float64Array {
    return new Float64Array(this.#buffer, pointer, Math.floor((this.#buffer.byteLength - pointer) / 8));
  }

  bytes(pointer: Pointer): Uint8Array {
    return new Uint8Array(this.#buffer, pointer);
  }

  /** First fit: the first hole that is large enough, after growing when there is none. */
  allocate(byteLength: number): Block {
    if (!Number.isSafeInteger(byteLength) || byteLength < 0) {
      throw new ResourceError(`reference heap: can not allocate ${byteLength} bytes, expected a count`);
    }
    const size = Math.max(ALIGNMENT, Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT);
    let index = this.#holes.findIndex((hole) => hole.end - hole.start >= size);
    if (index < 0) index = this.#grow(size);
    const { start, end } = this.#holes[index]!;
    this.#holes.splice(index, 1, ...(end - start > size ? [{ start: start + size, end }] : []));
    new Uint8Array(this.#buffer, start, size).fill(0);
    return this.#block(start, size, byteLength);
  }

  #block(start: number, size: number, byteLength: number): Block {
    const heap = this;
    let held = true;
    return {
      address: start,
      byteLength,
      byteOffset: start,
      get buffer() {
        return heap.#buffer;
      },
      release() {
        if (held) heap.#free(start, start + size);
        held = false;
      },
    };
  }

  /** Makes a hole of at least `size` bytes at the end and returns its index. */
  #grow(size: number): number {
    const used = this.#buffer.byteLength;
    const wanted = used + size;
    let larger: ArrayBuffer;
    try {
      if (wanted > LIMIT_BYTES) throw new RangeError("over the limit of one heap");
      larger = new ArrayBuffer(Math.min(LIMIT_BYTES, Math.max(2 * used, wanted)));
    } catch (cause) {
      throw new ResourceError(
        `reference heap: out of memory, ${size} bytes asked, heap has ${used}, limit is ${LIMIT_BYTES}`,
        { cause, hint: "use a smaller model or batch, or the native backend" },
      );
    }
    new Uint8Array(larger).set(new Uint8Array(this.#buffer));
    this.#buffer = larger;
    this.#free(used, larger.byteLength);
    return this.#holes.length - 1;
  }

  /** Adds a hole and joins it with its neighbours. */
  #free(start: number, end: number): void {
    const before = this.#holes.filter((hole) => hole.end < start);
    const after = this.#holes.filter((hole) => hole.start > end);
    const touching = this.#holes.filter((hole) => hole.end >= start && hole.start <= end);
    for (const hole of touching) {
      start = Math.min(start, hole.start);
      end = Math.max(end, hole.end);
    }
    this.#holes = [...before, { start, end }, ...after];
  }
}

/** The floats at a pointer that may be null. */
export function floatsOrNull(memory: Memory, pointer: Pointer): Floats | null {
  return pointer === 0 ? null : memory.f32(pointer);
}
