/** Counts records and what is wrong with some of them. A few broken records are skipped; many stop the run. */
import { DataError } from "../../errors.ts";

/** Faults that are kept word for word. */
const KEPT_FAULTS = 10;
/** Broken records that never stop a run. */
const ALLOWED_BROKEN = 10;

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

/**
 * Nothing where the records that were skipped are few: at most 10, or a share of all.
 * @param place what was read, for the message.
 * @throws DataError with the first faults.
 */
export function checkFaults({ records, broken, first }: Faults, place: string, maxBrokenShare: number): void {
  const allowed = Math.max(ALLOWED_BROKEN, Math.floor(records * maxBrokenShare));
  if (broken <= allowed) return;
  throw new DataError(
    `${place}: ${broken} of ${records} records are broken, at most ${allowed} are skipped\n${first.join("\n")}`,
    { hint: "check format, include and textField of the source, or raise its maxBrokenShare" },
  );
}
