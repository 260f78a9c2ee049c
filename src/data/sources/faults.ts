/** Counts records and what is wrong with some of them. A few broken records are skipped; many stop the run. */
import { DataError } from "../../errors.ts";

/** Faults that are kept word for word. */
const KEPT_FAULTS = 10;
/** Broken records that never stop a run, and the share of all records above that. */
const ALLOWED_BROKEN = 10;
const ALLOWED_BROKEN_SHARE = 0.01;

/** Counts of one file, one task or a whole source. */
export interface Faults {
  readonly records: number;
  readonly broken: number;
  /** The first faults, as "file:line: fault". */
  readonly first: readonly string[];
}

export const NO_FAULTS: Faults = { records: 0, broken: 0, first: [] };

/** With one record more, which is broken where a fault is given. */
export function countRecord({ records, broken, first }: Faults, fault?: string): Faults {
  if (fault === undefined) return { records: records + 1, broken, first };
  return { records: records + 1, broken: broken + 1, first: first.length < KEPT_FAULTS ? [...first, fault] : first };
}

/** Counts of several parts, given in their order. */
export function mergeFaults(parts: readonly Faults[]): Faults {
  return {
    records: parts.reduce((sum, { records }) => sum + records, 0),
    broken: parts.reduce((sum, { broken }) => sum + broken, 0),
    first: parts.flatMap(({ first }) => first).slice(0, KEPT_FAULTS),
  };
}

/**
 * Nothing where the records that were skipped are few: at most 10, or 1 % of all.
 * @param place what was read, for the message.
 * @throws DataError with the first faults.
 */
export function checkFaults({ records, broken, first }: Faults, place: string): void {
  const allowed = Math.max(ALLOWED_BROKEN, Math.floor(records * ALLOWED_BROKEN_SHARE));
  if (broken <= allowed) return;
  throw new DataError(
    `${place}: ${broken} of ${records} records are broken, at most ${allowed} are skipped\n${first.join("\n")}`,
    { hint: "check format and textField of the source" },
  );
}
