/**
 * Locality-sensitive hashing: the bins of a signature are cut into bands of so many rows, and two documents are compared if
 * all rows of a band agree. With similarity s that happens with probability 1 - (1 - s^rows)^bands (Leskovec, Rajaraman and
 * Ullman, Mining of Massive Datasets, section 3.4).
 */

import { mix32 } from "../../util/mix32.ts";
import { SIGNATURE_BYTES } from "./minhash.ts";

export interface Bands {
  readonly bands: number;
  readonly rows: number;
}

/** Probability that documents whose similarity is just the threshold are compared; rows are as many as this allows. */
const LEAST_PROBABILITY = 0.9;
const MAX_ROWS = 32;

/** Probability that two documents of this Jaccard similarity are compared. */
export function comparedProbability(similarity: number, { bands, rows }: Bands): number {
  return 1 - (1 - similarity ** rows) ** bands;
}

/** Bands for a threshold: 16 of 8 rows for 0.8. More rows give fewer comparisons of documents that are unlike. */
export function bandsFor(threshold: number): Bands {
  for (let rows = MAX_ROWS; rows > 1; rows--) {
    const choice = { bands: Math.floor(SIGNATURE_BYTES / rows), rows };
    if (comparedProbability(threshold, choice) >= LEAST_PROBABILITY) return choice;
  }
  return { bands: SIGNATURE_BYTES, rows: 1 };
}

/** Writes a 64-bit key for each band, two words each, of the 128 `values` of a signature. */
export function bandKeys(values: Uint32Array, { bands, rows }: Bands, keys: Uint32Array): void {
  for (let band = 0; band < bands; band++) {
    let high = mix32(band + 1);
    let low = mix32(~band);
    for (let bin = band * rows; bin < (band + 1) * rows; bin++) {
      const value = values[bin] as number;
      high = mix32(high ^ value);
      low = mix32(Math.imul(low, 0x9e3779b1) + value);
    }
    keys[2 * band] = high;
    keys[2 * band + 1] = low;
  }
}
