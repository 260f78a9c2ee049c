/**
 * Counts that are too large to be kept for every sequence, such as those of pairs of experts, kept for groups of sequences:
 * the units that intervals are drawn from (`resample.ts`). Up to as many sequences as there are groups each is one of its own.
 */
import type { TraceRun } from "../formats/trace.ts";

/** Groups of a count. */
const MOST_GROUPS = 32;
/** Intervals of fewer would be too narrow: one group is kept then, and there are no intervals. */
const LEAST_GROUPS = 20;
/** All groups together: 32 groups of 16 layers of 64 x 64 pairs take 9 MB, 31 of 256 x 256 pairs 131 MB. */
const MOST_BYTES = 2 ** 27;

/** How many groups are kept, each of so many bytes. */
export function groupsFor(bytes: number): number {
  const groups = Math.min(MOST_GROUPS, Math.floor(MOST_BYTES / bytes));
  return groups < LEAST_GROUPS ? 1 : groups;
}

/**
 * Sequences are dealt in rounds, one to each group, from another group on in every round: where sequences of several sources
 * take turns, a group does not get those of one alone.
 */
export function groupOf(sequence: number, groups: number): number {
  const round = Math.floor(sequence / groups);
  // Fractions of multiples of the golden ratio are spread evenly.
  const start = Math.floor(((Math.imul(round, 0x9e3779b1) >>> 0) / 2 ** 32) * groups);
  return (sequence + start) % groups;
}

/** What intervals are made of, for definitions. @param units of each domain, where they differ. */
export function intervalText(units: readonly number[], grouped: boolean): string {
  const [least, most] = [Math.min(...units), Math.max(...units)];
  const many = least === most ? `${most}` : `${least} to ${most}`;
  return `Intervals: 95 %, bootstrap over ${many} ${grouped ? "groups of sequences" : "sequences"}`;
}

/** Counts of some sequences. */
export interface CountGroup {
  readonly tokens: number;
  /** A table [cells], made when it is asked for. */
  table(index: number): Float64Array;
}

/** What was counted by groups. */
export interface CountGroups {
  /** In order of their numbers; those without a sequence are left out. */
  readonly units: readonly CountGroup[];
  /** Whether a group may have several sequences. */
  readonly grouped: boolean;
}

export interface GroupShape {
  readonly groups: number;
  /** Tables of each group, and cells of each table. */
  readonly tables: number;
  readonly cells: number;
  /** What one token adds to one cell, at most. */
  readonly perToken: number;
}

/** What counts in 32 bits are sure to hold. */
const MOST_COUNT = 2 ** 31 - 1;
/** Cells that caches fetch together. */
const LINE_CELLS = 16;

class GrowingGroup implements CountGroup {
  tokens = 0;
  readonly counts: readonly Int32Array[];
  /** What 32 bits may not hold; undefined as long as they do. */
  #sums: readonly Float64Array[] | undefined;
  #counted = 0;

  constructor({ tables, cells }: GroupShape) {
    this.counts = Array.from({ length: tables }, () => new Int32Array(cells));
  }

  /** Makes room for the counts of some tokens. */
  reserve(tokens: number, perToken: number): void {
    if ((this.#counted + tokens) * perToken > MOST_COUNT) {
      this.#sums = this.counts.map((_, index) => this.table(index));
      for (const counts of this.counts) counts.fill(0);
      this.#counted = 0;
    }
    this.#counted += tokens;
    this.tokens += tokens;
  }

  table(index: number): Float64Array {
    const table = Float64Array.from(this.counts[index]!);
    const sums = this.#sums?.[index];
    if (sums !== undefined) for (let cell = 0; cell < table.length; cell++) table[cell]! += sums[cell]!;
    return table;
  }
}

type CountRun = (table: Int32Array, index: number) => void;

/** Tables of counts for each group of sequences. A group's are made with its first sequence. */
export class GroupedCounts {
  readonly #shape: GroupShape;
  readonly #groups = new Map<number, GrowingGroup>();
  /** [cells] a table that stays in the fastest cache: all of the groups' are too large for it. */
  readonly #near: Int32Array;
  #last = -1;

  constructor(shape: GroupShape) {
    this.#shape = shape;
    this.#near = new Int32Array(shape.cells);
  }

  /** Adds a run: calls with each table [cells], to which the counts of the run's tokens are to be added. */
  add({ sequence, tokens }: Pick<TraceRun, "sequence" | "tokens">, count: CountRun): void {
    const { groups, cells, perToken } = this.#shape;
    this.#last = Math.max(this.#last, sequence);
    const number = groupOf(sequence, groups);
    let group = this.#groups.get(number);
    if (group === undefined) {
      group = new GrowingGroup(this.#shape);
      this.#groups.set(number, group);
    }
    group.reserve(tokens, perToken);
    // Copied there and back in order, a table is fetched several times as fast as cell by cell at random.
    const far = tokens * perToken < cells / LINE_CELLS;
    for (const [index, table] of group.counts.entries()) {
      if (far) count(table, index);
      else {
        this.#near.set(table);
        count(this.#near, index);
        table.set(this.#near);
      }
    }
  }

  result(): CountGroups {
    const units = [...this.#groups].sort(([a], [b]) => a - b).map(([, group]) => group);
    return { units, grouped: this.#last >= this.#shape.groups };
  }

  /** A table [cells] of all sequences together. */
  sum(index: number): Float64Array {
    const sum = new Float64Array(this.#shape.cells);
    for (const group of this.#groups.values()) {
      const table = group.table(index);
      for (let cell = 0; cell < sum.length; cell++) sum[cell]! += table[cell]!;
    }
    return sum;
  }
}
