/** Rates of generations from the moments at which their tokens arrived. */

/**
 * New tokens per second while all of several generations are running: from when the last of them gave its first token to
 * when the first of them ended.
 * @param arrivals of each generation, in milliseconds, rising.
 * @throws Error when they never ran together.
 */
export function togetherRate(arrivals: readonly (readonly number[])[]): number {
  const start = Math.max(...arrivals.map((times) => times[0] ?? Number.POSITIVE_INFINITY));
  const end = Math.min(...arrivals.map((times) => times.at(-1) ?? Number.NEGATIVE_INFINITY));
  if (!(end > start)) throw new Error(`internal: ${arrivals.length} generations never ran together`);
  const tokens = arrivals.reduce((sum, times) => sum + times.filter((time) => time > start && time <= end).length, 0);
  return tokens / ((end - start) / 1000);
}

/** Passes per second from the first token's arrival to the last one's. */
export function decodeRate(times: readonly number[]): number {
  return togetherRate([times]);
}

/** Index of the greatest value from `start` on, among `count`, and by how much it is above the value at `other`. */
export function bestOf(
  values: Float32Array,
  start: number,
  count: number,
  other: number,
): { readonly id: number; readonly margin: number } {
  let id = 0;
  for (let index = 1; index < count; index++) {
    if ((values[start + index] as number) > (values[start + id] as number)) id = index;
  }
  return { id, margin: (values[start + id] as number) - (values[start + other] as number) };
}
