/** Memory that is used again for the next document, because making a typed array costs as much as going through a paragraph. */

/** Larger arrays, of very long documents, are not kept. */
const MAX_KEPT = 2 ** 18;

/** One array for one purpose. What it holds is good until it is taken again. */
export class Scratch {
  #kept = new Int32Array(1024);

  /** At least so many places, with whatever is in them. */
  take(size: number): Int32Array {
    if (size <= this.#kept.length) return this.#kept;
    const larger = new Int32Array(Math.max(size, 2 * this.#kept.length));
    if (size <= MAX_KEPT) this.#kept = larger;
    return larger;
  }

  /** So many places of zeros, and perhaps more places behind them. */
  takeZeros(size: number): Int32Array {
    return this.take(size).fill(0, 0, size);
  }
}
