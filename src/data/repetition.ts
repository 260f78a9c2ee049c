/**
 * Sequences of tokens that repeat back to back: what the paper drops documents for (section 2) and what OLMo's trainer
 * masks instances for (olmo/data/util.py, find_periodic_sequences).
 */

export interface Repetition {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  /** Tokens that are repeated. */
  readonly period: number;
  /** How many times they are there. */
  readonly times: number;
}

export interface RepetitionRule {
  readonly minPeriod: number;
  readonly maxPeriod: number;
  /** So many times, or more, are too many. */
  readonly maxCount: number;
}

/** The paper's and OLMo's: n-grams of up to 13 tokens, 32 times. */
export const OLMOE_REPETITION: RepetitionRule = { minPeriod: 1, maxPeriod: 13, maxCount: 32 };

/** Fewer times are not looked for: pairs are everywhere. */
const FEWEST_TIMES = 3;

/** First place from `place` on, below `end`, that differs from the one `period` before it. */
function runEnd(ids: ArrayLike<number>, period: number, place: number): number {
  let end = place;
  while (end < ids.length && ids[end] === ids[end - period]) end += 1;
  return end;
}

/** First place of the run of equal places that `place` belongs to. */
function runStart(ids: ArrayLike<number>, period: number, place: number): number {
  let start = place;
  while (start > period && ids[start - 1] === ids[start - 1 - period]) start -= 1;
  return start;
}

/**
 * The first run with at least `times` repetitions of one period that a look at `place`, or at later ones, finds. Such a run
 * has (times - 1) * period places that equal those a period before, so it is enough to look at every so many places and to
 * follow the run where they are equal.
 */
function nextRun(ids: ArrayLike<number>, period: number, times: number, place: number): Repetition | undefined {
  const stride = (times - 1) * period;
  for (let at = place; at < ids.length; ) {
    if (ids[at] !== ids[at - period]) {
      at += stride;
      continue;
    }
    const [start, end] = [runStart(ids, period, at) - period, runEnd(ids, period, at)];
    const found = Math.floor((end - start) / period);
    if (found >= times) return { start, end, period, times: found };
    at = end + stride;
  }
  return undefined;
}

/** Where a look for such runs begins, counted from where the last one ended or the sequence starts. */
function firstLook(period: number, times: number, end?: number): number {
  const stride = (times - 1) * period;
  return end === undefined ? period + stride - 1 : end + stride;
}

/** All sequences of three or more, by period and then by start. */
export function findRepetitions(
  ids: ArrayLike<number>,
  { minPeriod, maxPeriod }: Omit<RepetitionRule, "maxCount"> = OLMOE_REPETITION,
): Repetition[] {
  const found: Repetition[] = [];
  const last = Math.min(maxPeriod, Math.floor(ids.length / FEWEST_TIMES));
  for (let period = minPeriod; period <= last; period++) {
    let run: Repetition | undefined;
    do {
      run = nextRun(ids, period, FEWEST_TIMES, firstLook(period, FEWEST_TIMES, run?.end));
      if (run !== undefined) found.push(run);
    } while (run !== undefined);
  }
  return found;
}

/** Whether some n-gram is there too many times in a row. Looks at about a tenth of the tokens. */
export function isRepetitive(ids: ArrayLike<number>, rule: RepetitionRule = OLMOE_REPETITION): boolean {
  const { minPeriod, maxPeriod, maxCount } = rule;
  const times = Math.max(maxCount, FEWEST_TIMES);
  const last = Math.min(maxPeriod, Math.floor(ids.length / FEWEST_TIMES));
  for (let period = minPeriod; period <= last; period++) {
    if (nextRun(ids, period, times, firstLook(period, times)) !== undefined) return true;
  }
  return false;
}
