/** Seeded mutations of valid files, and what may come of reading one: success, or a deliberate error. */
import fc from "fast-check";
import { OlmoeError } from "../../src/errors.ts";

const long = process.env.OLMOE_LONG_TESTS !== undefined;
const SEED = 6198;
export const TIMEOUT_MS = 600_000;

/** Runs of one target, out of 3,000 or 100,000 in all. */
export const runs = (share: number) => ({ seed: SEED, numRuns: Math.round(share * (long ? 100_000 : 3000)) });

/** Pieces that parsers trip over. */
const NASTY = [
  ...'-1 0 1e999 1e15 9007199254740993 4294967296 0.5 null true [] {} "" \\u0000 \\ud800 , : { } [ ] [[[[[[[['.split(
    " ",
  ),
  '"__proto__"',
  '"__metadata__"',
  '"constructor"',
  '"x":1,',
  '"BF16"',
  "\xff\xfe",
  "\uFEFF",
];

export interface Edit {
  /** Place as a share of the length. */
  readonly at: number;
  readonly removed: number;
  readonly inserted: Uint8Array;
}

const edit: fc.Arbitrary<Edit> = fc.record({
  at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  removed: fc.nat({ max: 12 }),
  inserted: fc.oneof(
    fc.uint8Array({ maxLength: 4 }),
    fc.constantFrom(...NASTY).map((text) => new TextEncoder().encode(text)),
  ),
});
export const edits = fc.array(edit, { minLength: 1, maxLength: 4 });

export function mutate(file: Uint8Array, changes: readonly Edit[]): Uint8Array {
  return changes.reduce<Uint8Array>((bytes, { at, removed, inserted }) => {
    const place = Math.floor(at * bytes.length);
    return Buffer.concat([bytes.subarray(0, place), inserted, bytes.subarray(place + removed)]);
  }, file);
}

/** Resolves where the action works or fails with a deliberate error. */
export async function survives(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof OlmoeError) || error.message.startsWith("internal:")) throw error;
  }
}
