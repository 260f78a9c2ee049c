/** Documents and paragraphs that deduplication points at, as rows of 32-bit words. */

/** Words of a pair: task and document of the later one, then of the earlier one. */
export const PAIR_WORDS = 4;

/** Words of a cut: task, document and paragraph. */
export const CUT_WORDS = 3;

/** Rows of equal length that are collected into one array. */
export class Rows {
  #words = new Uint32Array(256);
  #length = 0;

  push(...row: number[]): void {
    if (this.#length + row.length > this.#words.length) {
      const longer = new Uint32Array(2 * this.#words.length);
      longer.set(this.#words);
      this.#words = longer;
    }
    for (const word of row) this.#words[this.#length++] = word;
  }

  get words(): Uint32Array {
    return this.#words.subarray(0, this.#length);
  }
}
