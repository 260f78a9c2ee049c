/**
 * Dense row-major tensors over memory that the kernels can address. No arithmetic here: a tensor is a place, a type and a
 * shape. Memory comes from an Allocator (a backend) or from an Arena over one.
 */
import { ShapeError } from "../errors.ts";

/** f32 for values, i32 for ids and offsets, f64 for sums that are read back by TypeScript. */
export type DType = "f32" | "i32" | "f64";

const ELEMENT_BYTES = { f32: 4, i32: 4, f64: 8 } as const satisfies Record<DType, number>;

interface TypedArrays {
  f32: Float32Array;
  i32: Int32Array;
  f64: Float64Array;
}

/** One piece of memory with a stable address. */
export interface Block {
  /** What a kernel is given: a machine address, or an offset into wasm memory. */
  readonly address: number;
  readonly byteLength: number;
  /** The array buffer that holds the block now: read it again after each allocation, because wasm memory moves. */
  readonly buffer: ArrayBufferLike;
  /** Where the block starts in `buffer`. */
  readonly byteOffset: number;
  /** For blocks without memory of their own: memory that stands for one part, read as zeros (backend/dry). */
  standIn?(byteLength: number): ArrayBufferLike;
  /** Gives the memory back. Tensors over it must not be used any more. */
  release(): void;
}

/** Source of memory. */
export interface Allocator {
  /**
   * @returns a zero-filled block, aligned to 64 bytes.
   * @throws ResourceError when there is no memory.
   */
  allocate(byteLength: number): Block;
}

/** Elements in a shape; 1 for a scalar. */
export function shapeSize(shape: readonly number[]): number {
  let product = 1;
  for (const dimension of shape) product *= dimension;
  return product;
}

/** A shape as people write it: [2, 3]. */
export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}

/** A typed, shaped view of a block. */
export class Tensor<D extends DType = "f32"> {
  readonly dtype: D;
  readonly shape: readonly number[];
  /** Elements. */
  readonly size: number;
  readonly #block: Block;
  readonly #byteOffset: number;

  /** @param byteOffset where in the block the first element is. */
  constructor(block: Block, dtype: D, shape: readonly number[], byteOffset = 0) {
    this.dtype = dtype;
    this.shape = shape;
    this.size = shapeSize(shape);
    this.#block = block;
    this.#byteOffset = byteOffset;
    if (byteOffset + this.byteLength > block.byteLength) {
      throw new ShapeError(
        `tensor: ${dtype} ${formatShape(shape)} at byte ${byteOffset} needs ${this.byteLength} bytes, the block has ${block.byteLength}`,
      );
    }
  }

  /** Address of the first element, for kernels. */
  get pointer(): number {
    return this.#block.address + this.#byteOffset;
  }

  get byteLength(): number {
    return this.size * ELEMENT_BYTES[this.dtype];
  }

  /** The elements in place. Valid until the next allocation: do not keep it. */
  get data(): TypedArrays[D] {
    const standIn = this.#block.standIn?.(this.byteLength);
    const offset = standIn === undefined ? this.#block.byteOffset + this.#byteOffset : 0;
    const buffer = standIn ?? this.#block.buffer;
    switch (this.dtype) {
      case "f32":
        return new Float32Array(buffer, offset, this.size) as TypedArrays[D];
      case "i32":
        return new Int32Array(buffer, offset, this.size) as TypedArrays[D];
      default:
        return new Float64Array(buffer, offset, this.size) as TypedArrays[D];
    }
  }

  /** Dimension `axis`; negative counts from the end. */
  dim(axis: number): number {
    const size = this.shape.at(axis);
    if (size === undefined) throw new ShapeError(`tensor: ${formatShape(this.shape)} has no axis ${axis}`);
    return size;
  }

  /** The same elements under another shape of equal size. */
  reshape(shape: readonly number[]): Tensor<D> {
    if (shapeSize(shape) !== this.size) {
      throw new ShapeError(`tensor: can not reshape ${formatShape(this.shape)} to ${formatShape(shape)}`);
    }
    return new Tensor(this.#block, this.dtype, shape, this.#byteOffset);
  }

  /** A contiguous part: `shape` elements from element `start` on. */
  slice(start: number, shape: readonly number[]): Tensor<D> {
    if (start < 0 || start + shapeSize(shape) > this.size) {
      throw new ShapeError(`tensor: ${formatShape(shape)} from element ${start} is outside ${formatShape(this.shape)}`);
    }
    return new Tensor(this.#block, this.dtype, shape, this.#byteOffset + start * ELEMENT_BYTES[this.dtype]);
  }
}

/** A tensor with a block of its own. */
export function allocateTensor<D extends DType>(allocator: Allocator, dtype: D, shape: readonly number[]): Tensor<D> {
  return new Tensor(allocator.allocate(shapeSize(shape) * ELEMENT_BYTES[dtype]), dtype, shape);
}

/** Bytes of one element. */
export function elementBytes(dtype: DType): number {
  return ELEMENT_BYTES[dtype];
}
