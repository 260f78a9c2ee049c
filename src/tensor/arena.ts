/**
 * Memory of one step: tensors are taken in turn, given back early where possible, and all dropped together by `reset`.
 * After the first few steps no memory is asked of the machine any more, and nothing waits for garbage collection.
 */
import { type Allocator, type Block, type DType, elementBytes, shapeSize, Tensor } from "./tensor.ts";

const ALIGNMENT = 64;
const CHUNK_BYTES = 8 * 2 ** 20;

interface Place {
  readonly block: Block;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Knows by itself where its memory goes back to: a table of all of them would take longer than the work on small ones. */
class TakenTensor<D extends DType> extends Tensor<D> {
  /** The arena's pass that it was taken in. */
  readonly pass: object;
  /** Until it is released. */
  place: Place | undefined;

  constructor(pass: object, place: Place, dtype: D, shape: readonly number[]) {
    super(place.block, dtype, shape, place.byteOffset);
    this.pass = pass;
    this.place = place;
  }
}

export class Arena {
  readonly #allocator: Allocator;
  #chunks: Block[] = [];
  #chunk = 0;
  #used = 0;
  /** Bytes taken in this pass, what was taken again after a release not counted. */
  #bumped = 0;
  #free = new Map<number, Place[]>();
  /** Another one for each pass. */
  #pass: object = {};

  constructor(allocator: Allocator) {
    this.#allocator = allocator;
  }

  /** Bytes asked of the allocator so far: flat once the largest step has been seen. */
  get reservedBytes(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  }

  /** A tensor with undefined content, valid until `release` or `reset`. */
  take<D extends DType = "f32">(shape: readonly number[], dtype: D = "f32" as D): Tensor<D> {
    const byteLength = Math.ceil((shapeSize(shape) * elementBytes(dtype)) / ALIGNMENT) * ALIGNMENT;
    const place = this.#free.get(byteLength)?.pop() ?? this.#bump(byteLength);
    return new TakenTensor(this.#pass, place, dtype, shape);
  }

  /** Gives one tensor's memory back within the step. Views of it must not be used any more. */
  release(tensor: Tensor<DType>): void {
    if (!(tensor instanceof TakenTensor) || tensor.pass !== this.#pass || tensor.place === undefined) return;
    const { place } = tensor;
    tensor.place = undefined;
    const list = this.#free.get(place.byteLength);
    if (list) list.push(place);
    else this.#free.set(place.byteLength, [place]);
  }

  /** Drops all tensors; the memory stays for the next step. */
  reset(): void {
    if (this.#chunks.length > 1) {
      // Several chunks become one that holds the same step without the gaps between them.
      const bytes = Math.max(CHUNK_BYTES, this.#bumped);
      this.dispose();
      this.#chunks.push(this.#allocator.allocate(bytes));
    } else this.#restart();
  }

  /** Gives all memory back to the machine. */
  dispose(): void {
    for (const chunk of this.#chunks) chunk.release();
    this.#chunks = [];
    this.#restart();
  }

  #restart(): void {
    this.#chunk = 0;
    this.#used = 0;
    this.#bumped = 0;
    this.#free.clear();
    this.#pass = {};
  }

  #bump(byteLength: number): Place {
    for (;;) {
      const block = this.#chunks[this.#chunk];
      if (block === undefined) {
        this.#chunks.push(this.#allocator.allocate(Math.max(CHUNK_BYTES, byteLength)));
      } else if (this.#used + byteLength <= block.byteLength) {
        const byteOffset = this.#used;
        this.#used += byteLength;
        this.#bumped += byteLength;
        return { block, byteOffset, byteLength };
      } else {
        this.#chunk += 1;
        this.#used = 0;
      }
    }
  }
}
