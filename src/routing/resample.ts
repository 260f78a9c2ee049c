/**
 * How far counts would have come out otherwise with other text: bootstrap over units that are drawn again with
 * replacement. A unit is a sequence, because neighbouring tokens are not independent of each other.
 */
import { ConfigError } from "../errors.ts";
import { createRandom, uniform } from "../util/random.ts";

/** Seed and number of repetitions, of a bootstrap or of shuffles. */
export interface ResampleOptions {
  readonly seed?: number | undefined;
  /** Repetitions; default 1,000. 0: no intervals. */
  readonly resamples?: number | undefined;
}

/** The middle 95 % of the resampled values. */
export type Interval = readonly [low: number, high: number];

const DEFAULT_RESAMPLES = 1000;
const MOST_RESAMPLES = 100_000;
const TAIL = 0.025;

export function checkResamples({ resamples = DEFAULT_RESAMPLES }: ResampleOptions): number {
  if (Number.isInteger(resamples) && resamples >= 0 && resamples <= MOST_RESAMPLES) return resamples;
  throw new ConfigError(`resamples: ${resamples}, expected a whole number from 0 to ${MOST_RESAMPLES}`);
}

/**
 * @param units [units][width] counts of each unit.
 * @param purpose keeps apart what is drawn for different numbers.
 * @param statistic fills its second argument [outputs] from the resampled sums [width].
 * @returns [outputs] intervals; undefined where nothing was resampled, or there are fewer than two units.
 */
export function bootstrap(
  units: readonly ArrayLike<number>[],
  outputs: number,
  purpose: string,
  statistic: (sums: Float64Array, values: Float64Array) => void,
  options: ResampleOptions,
): Interval[] | undefined {
  const resamples = checkResamples(options);
  if (resamples === 0 || units.length < 2) return undefined;
  const random = createRandom(options.seed ?? 0, `bootstrap/${purpose}`);
  const sums = new Float64Array(units[0]!.length);
  const times = new Int32Array(units.length);
  const all = new Float64Array(outputs * resamples);
  const values = new Float64Array(outputs);
  for (let repetition = 0; repetition < resamples; repetition++) {
    times.fill(0);
    for (let drawn = 0; drawn < units.length; drawn++) times[Math.floor(uniform(random) * units.length)]! += 1;
    sums.fill(0);
    for (const [index, unit] of units.entries()) {
      const weight = times[index]!;
      if (weight === 0) continue;
      for (let place = 0; place < sums.length; place++) sums[place]! += weight * unit[place]!;
    }
    statistic(sums, values);
    for (let output = 0; output < outputs; output++) all[output * resamples + repetition] = values[output]!;
  }
  return Array.from({ length: outputs }, (_, output) =>
    intervalOf(all.subarray(output * resamples, (output + 1) * resamples)),
  );
}

function intervalOf(values: Float64Array): Interval {
  const sorted = values.filter(Number.isFinite).sort();
  return [quantile(sorted, TAIL), quantile(sorted, 1 - TAIL)];
}

/** @param sorted in rising order. @returns the value that a share of all does not exceed, between two by proportion; NaN of none. */
export function quantile(sorted: Float64Array, share: number): number {
  if (sorted.length === 0) return Number.NaN;
  const place = (sorted.length - 1) * share;
  const low = sorted[Math.floor(place)]!;
  const high = sorted[Math.ceil(place)]!;
  return low + (high - low) * (place - Math.floor(place));
}
