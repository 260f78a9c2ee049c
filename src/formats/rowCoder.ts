/**
 * Rows between the types they are stored in, by a backend's kernels. Nothing larger than the rows of one call is held.
 */
import type { Backend } from "../backend/backend.ts";
import { rowBytes, STORAGE_TYPES, type StorageType } from "../tensor/stored.ts";
import type { Block } from "../tensor/tensor.ts";

/** How far values are from what they were before they were stored. Of several parts: see `addErrors`. */
export interface CodingError {
  /** Sum of squared differences, and of the squares of the original values. */
  readonly squaredError: number;
  readonly squares: number;
  /** The largest difference. */
  readonly worst: number;
}

export const NO_ERROR: CodingError = { squaredError: 0, squares: 0, worst: 0 };

/** The error of two parts together. */
export function addErrors(a: CodingError, b: CodingError): CodingError {
  return {
    squaredError: a.squaredError + b.squaredError,
    squares: a.squares + b.squares,
    worst: Math.max(a.worst, b.worst),
  };
}

/** Root of the squared error relative to the values: 0 for what is exact. */
export function relativeError({ squaredError, squares }: CodingError): number {
  return squaredError === 0 ? 0 : Math.sqrt(squaredError / squares);
}

export interface CodedRows {
  /** The rows in their new type. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly error: CodingError;
}

/** What can not be stored: an element that is not finite, or that would not be any more. */
export interface CodingFault {
  readonly index: number;
  readonly value: number;
}

type Place = "stored" | "values" | "coded" | "decoded" | "sums";

/** Call `close` to give its memory back. */
export class RowCoder {
  readonly #backend: Backend;
  readonly #blocks = new Map<Place, Block>();

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Address of at least so many bytes that are kept from call to call. */
  #at(place: Place, byteLength: number): number {
    const block = this.#blocks.get(place);
    if (block !== undefined && block.byteLength >= byteLength) return block.address;
    block?.release();
    const larger = this.#backend.allocate(byteLength);
    this.#blocks.set(place, larger);
    return larger.address;
  }

  #bytes(place: Place, byteLength: number): Uint8Array {
    const { buffer, byteOffset } = this.#blocks.get(place) as Block;
    return new Uint8Array(buffer, byteOffset, byteLength);
  }

  #floats(place: Place, count: number): Float32Array {
    const { buffer, byteOffset } = this.#blocks.get(place) as Block;
    return new Float32Array(buffer, byteOffset, count);
  }

  /** Decodes `bytes`, whole blocks, to "values"; gives their address. */
  #decode(type: StorageType, bytes: Uint8Array, count: number): number {
    const stored = this.#at("stored", bytes.byteLength);
    const values = this.#at("values", 4 * count);
    this.#bytes("stored", bytes.byteLength).set(bytes);
    const { id, blockValues } = STORAGE_TYPES[type];
    this.#backend.kernels.decodeRows(id, stored, values, count / blockValues, blockValues);
    return values;
  }

  /**
   * Decodes whole blocks.
   * @param target has as many elements as the blocks have values.
   */
  decode = (type: StorageType, bytes: Uint8Array, target: Float32Array): void => {
    this.#decode(type, bytes, target.length);
    target.set(this.#floats("values", target.length));
  };

  /**
   * Takes rows from one type to another.
   * @param bytes whole rows of type `from`.
   * @param columns values of a row, which ends with a block in both types.
   * @returns the rows and their error, or the first value that can not be stored.
   */
  code(from: StorageType, bytes: Uint8Array, to: StorageType, columns: number): CodedRows | CodingFault {
    const { kernels } = this.#backend;
    const rows = bytes.byteLength / rowBytes(from, columns);
    const count = rows * columns;
    const codedBytes = rows * rowBytes(to, columns);
    const [coded, decoded, sums] = [
      this.#at("coded", codedBytes),
      this.#at("decoded", 4 * count),
      this.#at("sums", 32),
    ];
    const values = this.#decode(from, bytes, count);
    const bad = kernels.firstNonfinite(values, count);
    if (bad >= 0) return { index: bad, value: this.#floats("values", count)[bad]! };
    kernels.encodeRows(STORAGE_TYPES[to].id, values, coded, rows, columns);
    kernels.decodeRows(STORAGE_TYPES[to].id, coded, decoded, rows, columns);
    const lost = kernels.firstNonfinite(decoded, count);
    if (lost >= 0) return { index: lost, value: this.#floats("values", count)[lost]! };
    kernels.difference(values, decoded, sums, count);
    const { buffer, byteOffset } = this.#blocks.get("sums") as Block;
    const [squaredError = 0, squares = 0, worst = 0] = new Float64Array(buffer, byteOffset, 4);
    return { bytes: this.#bytes("coded", codedBytes).slice(), error: { squaredError, squares, worst } };
  }

  close(): void {
    for (const block of this.#blocks.values()) block.release();
    this.#blocks.clear();
  }
}
