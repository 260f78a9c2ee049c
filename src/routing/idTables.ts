/** Counts for each token id that occurs: a table that grows with the ids there are, not with the vocabulary. */
import { DataError } from "../errors.ts";

/** Occurrences of ids, and for each id a row of `width` counts in each of several tables. */
export class IdTables {
  readonly #width: number;
  /** By id: its row, or -1. */
  readonly #rows: Int32Array;
  #ids: Int32Array;
  #occurrences: Float64Array;
  /** 16 bits each: what is touched at random should be small. The places that went through zero are in `#carries`. */
  #tables: Uint16Array[];
  readonly #carries: Map<number, number>[];
  #used = 0;

  constructor(vocabSize: number, tables: number, width: number) {
    this.#width = width;
    this.#rows = new Int32Array(vocabSize).fill(-1);
    const capacity = Math.min(vocabSize, 256);
    this.#ids = new Int32Array(capacity);
    this.#occurrences = new Float64Array(capacity);
    this.#tables = Array.from({ length: tables }, () => new Uint16Array(capacity * width));
    this.#carries = this.#tables.map(() => new Map());
  }

  /** @returns the row of an id, made where it is new. @throws DataError for an id outside of the vocabulary. */
  rowOf(id: number): number {
    const row = this.#rows[id];
    if (row === undefined) throw new DataError(`trace: id ${id}, the model has ${this.#rows.length} ids`);
    if (row !== -1) return row;
    if (this.#used === this.#ids.length) this.#grow();
    this.#ids[this.#used] = id;
    this.#rows[id] = this.#used;
    return this.#used++;
  }

  /** Rows that are made. */
  get rows(): number {
    return this.#used;
  }

  addOccurrence(row: number): void {
    this.#occurrences[row]! += 1;
  }

  /** Whether no count of a row can have come to 2^16: its id does not occur that often. */
  isSmall(row: number): boolean {
    return this.#occurrences[row]! < 2 ** 16;
  }

  /**
   * [rows, width] counts modulo 2^16; another array after `rowOf` has made a row. Whoever adds to one until it is 0 again
   * calls `carry`.
   */
  table(index: number): Uint16Array {
    return this.#tables[index]!;
  }

  carry(table: number, place: number): void {
    const carries = this.#carries[table]!;
    carries.set(place, (carries.get(place) ?? 0) + 1);
  }

  /** All that was counted, in rising order of ids. */
  result(): IdCounts {
    const rows = Int32Array.from({ length: this.#used }, (_, row) => row).sort((a, b) => this.#ids[a]! - this.#ids[b]!);
    return {
      ids: rows.map((row) => this.#ids[row]!),
      occurrences: Float64Array.from(rows, (row) => this.#occurrences[row]!),
      rows,
      tables: this.#tables,
      carries: this.#carries,
      width: this.#width,
    };
  }

  #grow(): void {
    const capacity = Math.min(this.#rows.length, 2 * this.#used);
    const larger = <A extends Int32Array | Float64Array | Uint16Array>(values: A, length: number): A => {
      const result = new (values.constructor as new (length: number) => A)(length);
      result.set(values);
      return result;
    };
    this.#ids = larger(this.#ids, capacity);
    this.#occurrences = larger(this.#occurrences, capacity);
    this.#tables = this.#tables.map((table) => larger(table, capacity * this.#width));
  }
}

export interface IdCounts {
  /** [X] in rising order. */
  readonly ids: Int32Array;
  /** [X] tokens with the id: N_x. */
  readonly occurrences: Float64Array;
  /** [X] row of each id in the tables. */
  readonly rows: Int32Array;
  /** [table] of [rows, width] counts. */
  readonly tables: readonly (Uint16Array | Float64Array)[];
  /** [table] by place: how often 2^16 is to be added to a count. */
  readonly carries?: readonly ReadonlyMap<number, number>[];
  readonly width: number;
}

/** Calls for each id, in rising order, with its occurrences and its row of a table, which is good until the next call. */
export function forEachId(
  { ids, occurrences, rows, tables, carries, width }: IdCounts,
  table: number,
  visit: (id: number, occurrences: number, counts: Float64Array) => void,
): void {
  const counts = new Float64Array(width);
  const carried = carries?.[table] ?? new Map<number, number>();
  for (const [index, id] of ids.entries()) {
    const start = rows[index]! * width;
    for (let place = 0; place < width; place++) {
      counts[place] = tables[table]![start + place]!;
      if (carried.size > 0) counts[place]! += 2 ** 16 * (carried.get(start + place) ?? 0);
    }
    visit(id, occurrences[index]!, counts);
  }
}

/** Counts of several texts as of one. All have as many tables of one width. */
export function mergeIds(parts: readonly IdCounts[]): IdCounts {
  const { width = 0, tables = [] } = parts[0] ?? {};
  const ids = Int32Array.from(new Set(parts.flatMap((part) => [...part.ids]))).sort();
  const rows = ids.map((_, row) => row);
  const rowOf = new Map(Array.from(ids, (id, row) => [id, row]));
  const occurrences = new Float64Array(ids.length);
  const merged = tables.map((_, table) => {
    const sums = new Float64Array(ids.length * width);
    for (const part of parts) {
      forEachId(part, table, (id, times, counts) => {
        const row = rowOf.get(id)!;
        if (table === 0) occurrences[row]! += times;
        for (let place = 0; place < width; place++) sums[row * width + place]! += counts[place]!;
      });
    }
    return sums;
  });
  return { ids, occurrences, rows, tables: merged, width };
}
