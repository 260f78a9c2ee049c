/** Picking a few of many values without sorting them all. */

/** The first place from `start` on with a value above the bound: a loop of its own, which compiles to little more. */
function firstAbove(values: Float32Array, bound: number, start: number): number {
  let place = start;
  while (place < values.length && !((values[place] as number) > bound)) place += 1;
  return place;
}

/**
 * The places of the `count` largest values, largest first, ties to the lower place. A heap holds the best so far, its
 * worst at the root: nearly every value is compared once. A later place never goes before an equal value.
 */
export function largest(values: Float32Array, count: number): Int32Array {
  const heap = new Int32Array(Math.min(count, values.length));
  const valueAt = (place: number) => values[heap[place] as number] as number;
  /** Of two members of the heap, whether the one at `a` goes before the one at `b`. */
  const worse = (a: number, b: number) =>
    valueAt(a) < valueAt(b) || (valueAt(a) === valueAt(b) && (heap[a] as number) > (heap[b] as number));
  const sink = (from: number, end: number) => {
    for (let at = from; ; ) {
      let least = 2 * at + 1;
      if (least >= end) return;
      if (least + 1 < end && worse(least + 1, least)) least += 1;
      if (!worse(least, at)) return;
      const moved = heap[at] as number;
      heap[at] = heap[least] as number;
      heap[least] = moved;
      at = least;
    }
  };
  if (heap.length === 0) return heap;
  for (let place = 0; place < heap.length; place++) heap[place] = place;
  for (let at = (heap.length >> 1) - 1; at >= 0; at--) sink(at, heap.length);
  let place = firstAbove(values, valueAt(0), heap.length);
  while (place < values.length) {
    heap[0] = place;
    sink(0, heap.length);
    place = firstAbove(values, valueAt(0), place + 1);
  }
  for (let end = heap.length - 1; end > 0; end--) {
    const worst = heap[0] as number;
    heap[0] = heap[end] as number;
    heap[end] = worst;
    sink(0, end);
  }
  return heap;
}

/** Items of one bin are sorted, all others only counted. */
const BINS = 2048;
/** Keys from here on share the last bin. */
const LARGEST_KEY = 64;

const binMasses = new Float64Array(BINS);

/** Where a series of items ends. */
export interface Cut {
  /** Items with a key above this are left out. */
  readonly last: number;
  /** How many of the items with exactly this key belong to it, the first ones. */
  readonly ties: number;
}

/**
 * The fewest items, in rising order of their keys, that hold the mass `needed`. Their keys are put in bins, and only the
 * bin in which the mass is reached is sorted.
 * @param keys at least 0; @param masses of the same items; @param count how many items there are.
 */
export function cut(keys: Float64Array, masses: Float64Array, count: number, needed: number): Cut {
  let range = 0;
  for (let item = 0; item < count; item++) {
    const key = keys[item] as number;
    if (key > range) range = key;
  }
  const scale = range > 0 ? BINS / Math.min(range, LARGEST_KEY) : 0;
  binMasses.fill(0);
  for (let item = 0; item < count; item++) {
    const bin = Math.min(BINS - 1, (keys[item] as number) * scale) | 0;
    binMasses[bin] = (binMasses[bin] as number) + (masses[item] as number);
  }
  let held = 0;
  let bin = 0;
  for (; bin < BINS && held + (binMasses[bin] as number) < needed; bin++) held += binMasses[bin] as number;
  // Rounding can leave a little missing at the end.
  if (bin === BINS) return { last: Infinity, ties: count };
  const items: number[] = [];
  for (let item = 0; item < count; item++) {
    if ((Math.min(BINS - 1, (keys[item] as number) * scale) | 0) === bin) items.push(item);
  }
  items.sort((a, b) => (keys[a] as number) - (keys[b] as number) || a - b);
  let [last, ties] = [Infinity, 0];
  for (const item of items) {
    const key = keys[item] as number;
    ties = key === last ? ties + 1 : 1;
    last = key;
    held += masses[item] as number;
    if (held >= needed) break;
  }
  return { last, ties };
}

/** Steps of the table of exponentials in a unit. */
const STEPS = 32;
const exponentials = Float64Array.from({ length: LARGEST_KEY * STEPS }, (_, step) => Math.exp(-step / STEPS));

/**
 * exp(-distance) within 3e-10 of its size: a third of the time of Math.exp, which is most of what a draw takes.
 * @param distance at least 0.
 */
export function expOfMinus(distance: number): number {
  if (!(distance < LARGEST_KEY)) return Math.exp(-distance);
  const step = (distance * STEPS) | 0;
  const rest = distance - step / STEPS;
  const near = 1 - rest * (1 - rest * (1 / 2 - rest * (1 / 6 - rest * (1 / 24))));
  return (exponentials[step] as number) * near;
}

/**
 * A value at or below which no logit is among the fewest that hold `share` of the probability, and the sum of all
 * weights exp((logit - most) / temperature).
 */
export function nucleusBound(
  logits: Float32Array,
  most: number,
  temperature: number,
  share: number,
): { readonly bound: number; readonly total: number } {
  const scale = BINS / LARGEST_KEY;
  binMasses.fill(0);
  for (let id = 0; id < logits.length; id++) {
    const distance = (most - (logits[id] as number)) / temperature;
    const bin = Math.min(BINS - 1, distance * scale) | 0;
    binMasses[bin] = (binMasses[bin] as number) + expOfMinus(distance);
  }
  let total = 0;
  for (const mass of binMasses) total += mass;
  let held = 0;
  let bin = 0;
  // One bin more than needed: rounding must not take a token away that belongs to them.
  for (; bin < BINS && held < share * total; bin++) held += binMasses[bin] as number;
  return { bound: bin + 1 >= BINS ? -Infinity : most - ((bin + 1) / scale) * temperature, total };
}

/** Ids whose weights are added up together. */
const RUN = 256;

/**
 * The id at a place in 0 .. 1 of the probability of all ids, which have the weights exp((logit - most) / temperature).
 * Weights are added up in runs and not kept: those of one run are computed again.
 */
export function drawOfAll(logits: Float32Array, most: number, temperature: number, place: number): number {
  const sums = new Float64Array(Math.ceil(logits.length / RUN));
  let total = 0;
  for (let run = 0, id = 0; run < sums.length; run++) {
    let sum = 0;
    for (const end = Math.min(logits.length, id + RUN); id < end; id++) {
      sum += expOfMinus((most - (logits[id] as number)) / temperature);
    }
    sums[run] = sum;
    total += sum;
  }
  let rest = place * total;
  let run = 0;
  while (run + 1 < sums.length && rest >= (sums[run] as number)) rest -= sums[run++] as number;
  // Where rounding leaves a little over, it is the last id of the run that can be drawn.
  let chosen = logits.indexOf(most);
  for (let id = run * RUN; id < Math.min(logits.length, (run + 1) * RUN) && rest >= 0; id++) {
    const weight = expOfMinus((most - (logits[id] as number)) / temperature);
    if (weight > 0) chosen = id;
    rest -= weight;
  }
  return chosen;
}
