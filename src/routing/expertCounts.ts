/** How many tokens of each source each expert served: what load and domain specialisation are made of. */
import type { TraceChunk } from "../formats/trace.ts";
import {
  type Counter,
  type Counting,
  chooseK,
  chooseLayers,
  columnOf,
  countingKey,
  type LayerOptions,
  type TraceInfo,
} from "./analysis.ts";

/** Some sequences of one source that are resampled together. */
export interface CountUnit {
  readonly tokens: number;
  /** [L, E] tokens that had the expert among their first k. */
  readonly counts: Float64Array;
}

export interface SourceCounts {
  readonly name: string;
  readonly tokens: number;
  /** [L, E] tokens that had the expert among their first k. */
  readonly counts: Float64Array;
  /** Parts that add up to the whole; one part where sequences are not known. */
  readonly units: readonly CountUnit[];
}

export interface ExpertCounts {
  readonly k: number;
  readonly layers: readonly number[];
  /** E. */
  readonly numExperts: number;
  readonly sources: readonly SourceCounts[];
}

/**
 * Units of a source at most, so that memory does not grow with a trace: sequences whose numbers are equal modulo this
 * share one. With as many, intervals are as good as with all.
 */
const MOST_UNITS = 256;

/** Counts the first k experts of every token, by source. */
export function expertCounting({ k, layers }: LayerOptions = {}): Counting<ExpertCounts> {
  return {
    key: countingKey("experts", { k, layers }),
    columns: ["experts"],
    start: (trace) => new ExpertCounter(trace, chooseK(trace, k), layers),
  };
}

interface GrowingUnit {
  tokens: number;
  readonly counts: Float64Array;
}

class ExpertCounter implements Counter<ExpertCounts> {
  readonly #k: number;
  readonly #trace: TraceInfo;
  readonly #chosen: ReturnType<typeof chooseLayers>;
  /** [E + 1] counts of one run in one layer: see `countExperts`. */
  readonly #scratch: Int32Array;
  /** By source, by unit. */
  readonly #units: readonly Map<number, GrowingUnit>[];

  constructor(trace: TraceInfo, k: number, layers: readonly number[] | undefined) {
    this.#trace = trace;
    this.#k = k;
    this.#chosen = chooseLayers(trace, layers);
    this.#scratch = new Int32Array(trace.header.numExperts + 1);
    this.#units = trace.sources.map(() => new Map());
  }

  add(chunk: TraceChunk): void {
    const { numExperts, slots } = this.#trace.header;
    const experts = columnOf(chunk, "experts");
    let first = 0;
    for (const { source, sequence, tokens } of chunk.runs) {
      const unit = this.#unit(source, sequence);
      unit.tokens += tokens;
      for (const [index, place] of this.#chosen.places.entries()) {
        const start = (place * chunk.tokens + first) * slots;
        countExperts(experts.subarray(start, start + tokens * slots), slots, this.#k, this.#scratch);
        for (let expert = 0; expert < numExperts; expert++) {
          unit.counts[index * numExperts + expert]! += this.#scratch[expert + 1]!;
        }
        this.#scratch.fill(0);
      }
      first += tokens;
    }
  }

  counts(): ExpertCounts {
    const { numExperts } = this.#trace.header;
    const { layers } = this.#chosen;
    const sources = this.#trace.sources.map((name, source): SourceCounts => {
      const units = [...this.#units[source]!].sort(([a], [b]) => a - b).map(([, unit]) => unit);
      return { name, ...addUnits(units, layers.length * numExperts), units };
    });
    return { k: this.#k, layers, numExperts, sources: sources.filter(({ tokens }) => tokens > 0) };
  }

  #unit(source: number, sequence: number): GrowingUnit {
    const units = this.#units[source]!;
    const number = sequence % MOST_UNITS;
    let unit = units.get(number);
    if (unit === undefined) {
      unit = { tokens: 0, counts: new Float64Array(this.#chosen.layers.length * this.#trace.header.numExperts) };
      units.set(number, unit);
    }
    return unit;
  }
}

/**
 * @param experts [T, S].
 * @param counts [E + 1] gets the first k of each token: expert e at e + 1, slots without one at 0. Whole numbers and no
 *   branch, because this is run for every slot of a trace.
 */
function countExperts(experts: Int16Array, slots: number, k: number, counts: Int32Array): void {
  const fours = k - (k % 4);
  for (let start = 0; start < experts.length; start += slots) {
    const end = start + k;
    let slot = start;
    for (; slot < start + fours; slot += 4) {
      const [a, b, c, d] = [experts[slot]! + 1, experts[slot + 1]! + 1, experts[slot + 2]! + 1, experts[slot + 3]! + 1];
      counts[a]! += 1;
      counts[b]! += 1;
      counts[c]! += 1;
      counts[d]! += 1;
    }
    for (; slot < end; slot++) counts[experts[slot]! + 1]! += 1;
  }
}

/** Tokens and counts of several units together. */
export function addUnits(units: readonly CountUnit[], width: number): CountUnit {
  const sum = { tokens: 0, counts: new Float64Array(width) };
  for (const { tokens, counts } of units) {
    sum.tokens += tokens;
    for (let place = 0; place < width; place++) sum.counts[place]! += counts[place]!;
  }
  return sum;
}

/** All sources as one. */
export function allSources({ sources, layers, numExperts }: ExpertCounts): SourceCounts {
  const units = sources.flatMap((source) => source.units);
  return { name: "all", ...addUnits(units, layers.length * numExperts), units };
}
