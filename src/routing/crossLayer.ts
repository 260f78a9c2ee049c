/** Where tokens go from the experts of one layer to those of another. */
import type { TraceChunk } from "../formats/trace.ts";
import {
  type Analysis,
  type Counter,
  type Counting,
  chooseK,
  chooseLayers,
  columnOf,
  countingKey,
  type LayerOptions,
  type ResultHead,
  share,
  sumOf,
  type TraceInfo,
} from "./analysis.ts";
import { bootstrap, type Interval, type ResampleOptions } from "./resample.ts";
import { type CountGroups, GroupedCounts, groupsFor, intervalText } from "./sequenceGroups.ts";

/** "pairs": every expert of the one layer with every one of the other. "equal-ranks": only those of the same rank, as the released scripts count. */
export type PathCounting = "pairs" | "equal-ranks";

export interface PathCounts {
  readonly k: number;
  readonly numExperts: number;
  readonly paths: PathCounting;
  /** Each layer with the next of those that were chosen. */
  readonly steps: readonly (readonly [from: number, to: number])[];
  readonly sources: readonly {
    readonly name: string;
    readonly tokens: number;
    /** [step] of [E, E] tokens, row: the expert of the earlier layer. */
    readonly counts: readonly Float64Array[];
    /** Parts that add up to the whole, a table for each step; missing where sequences are not known. */
    readonly groups?: CountGroups;
  }[];
}

export interface PathResult extends ResultHead {
  readonly analysis: "cross-layer";
  readonly paths: PathCounting;
  readonly steps: readonly (readonly [from: number, to: number])[];
  readonly domains: readonly {
    readonly name: string;
    readonly tokens: number;
    readonly perStep: readonly {
      /** [E][E] share of the domain's tokens that go from row to column. */
      readonly shares: readonly (readonly number[])[];
      /** The largest: [from, to, share]. */
      readonly strongest: readonly [from: number, to: number, share: number];
      /** 95 % bootstrap interval of this path's share over sequences; missing where the sequences are not known. */
      readonly strongestInterval?: Interval;
    }[];
  }[];
}

const DEFINITIONS: Readonly<Record<PathCounting, string>> = {
  pairs:
    "Share of a domain's tokens that have expert i of one layer and expert j of the next chosen layer among their first k; at k = 1, a token's one path (paper, appendix on cross-layer routing).",
  "equal-ranks":
    "Share of a domain's tokens in which expert i of one layer and expert j of the next chosen layer have the same rank within the first k, k of the k x k pairs, as the released scripts count.",
};

export interface PathOptions extends LayerOptions, ResampleOptions {
  /** Default: every pair. */
  readonly paths?: PathCounting | undefined;
}

/** Cross-layer routing (paper, appendix). The default k is 1: paths. */
export function crossLayerRouting(options: PathOptions = {}): Analysis<PathCounts, PathResult> {
  return {
    name: "cross-layer",
    counting: pathCounting(options),
    statistics: (counts) => pathShares(counts, options),
  };
}

export function pathCounting({ k = 1, layers, paths = "pairs" }: PathOptions = {}): Counting<PathCounts> {
  return {
    key: countingKey("cross-layer", { k, layers, paths }),
    columns: ["experts"],
    start: (trace) => new PathCounter(trace, chooseK(trace, k), layers, paths),
  };
}

class PathCounter implements Counter<PathCounts> {
  readonly #k: number;
  readonly #paths: PathCounting;
  readonly #trace: TraceInfo;
  readonly #chosen: ReturnType<typeof chooseLayers>;
  /** Of each source a table [E + 1, E + 1] for each step: expert e at e + 1, slots without one at 0. */
  readonly #sources: { readonly name: string; tokens: number; readonly counts: GroupedCounts }[];

  constructor(trace: TraceInfo, k: number, layers: readonly number[] | undefined, paths: PathCounting) {
    this.#trace = trace;
    this.#k = k;
    this.#paths = paths;
    this.#chosen = chooseLayers(trace, layers);
    const { sources, header } = trace;
    const [tables, cells] = [Math.max(0, this.#chosen.layers.length - 1), (header.numExperts + 1) ** 2];
    const groups = groupsFor(sources.length * tables * cells * Int32Array.BYTES_PER_ELEMENT);
    const shape = { groups, tables, cells, perToken: k * k };
    this.#sources = sources.map((name) => ({ name, tokens: 0, counts: new GroupedCounts(shape) }));
  }

  add(chunk: TraceChunk): void {
    const { slots, numExperts } = this.#trace.header;
    const experts = columnOf(chunk, "experts");
    const count = this.#paths === "pairs" ? countAll : countEqualRanks;
    let first = 0;
    for (const run of chunk.runs) {
      const { tokens, source } = run;
      const sums = this.#sources[source]!;
      sums.tokens += tokens;
      sums.counts.add(run, (counts, step) => {
        const [from, to] = [this.#chosen.places[step]!, this.#chosen.places[step + 1]!];
        const rows = { from: from * chunk.tokens + first, to: to * chunk.tokens + first, tokens };
        count(experts, slots, this.#k, numExperts, rows, counts);
      });
      first += tokens;
    }
  }

  counts(): PathCounts {
    const { layers } = this.#chosen;
    const { numExperts } = this.#trace.header;
    const steps = layers.slice(1).map((to, index) => [layers[index]!, to] as const);
    return {
      k: this.#k,
      numExperts,
      paths: this.#paths,
      steps,
      sources: this.#sources
        .filter(({ tokens }) => tokens > 0)
        .map(({ name, tokens, counts }) => {
          const { units, grouped } = counts.result();
          const groups = units.map((unit) => ({
            tokens: unit.tokens,
            table: (index: number) => withoutEmpty(unit.table(index), numExperts),
          }));
          return {
            name,
            tokens,
            counts: steps.map((_, step) => withoutEmpty(counts.sum(step), numExperts)),
            groups: { units: groups, grouped },
          };
        }),
    };
  }
}

/** [E, E] of [E + 1, E + 1]: without the slots that had no expert. */
function withoutEmpty(table: Float64Array, numExperts: number): Float64Array {
  const result = new Float64Array(numExperts * numExperts);
  for (let row = 0; row < numExperts; row++) {
    const start = (row + 1) * (numExperts + 1) + 1;
    result.set(table.subarray(start, start + numExperts), row * numExperts);
  }
  return result;
}

/** Rows of [L * T, S]: the same tokens in two layers. */
interface Rows {
  readonly from: number;
  readonly to: number;
  readonly tokens: number;
}

/** Without a branch: slots without an expert are counted, too, at place 0. */
type CountPaths = (
  experts: Int16Array,
  slots: number,
  k: number,
  numExperts: number,
  rows: Rows,
  counts: Int32Array,
) => void;

const countAll: CountPaths = (experts, slots, k, numExperts, { from, to, tokens }, counts) => {
  const side = numExperts + 1;
  for (let token = 0; token < tokens; token++) {
    const start = (from + token) * slots;
    const next = (to + token) * slots;
    for (let slot = start; slot < start + k; slot++) {
      const row = (experts[slot]! + 1) * side + 1;
      for (let other = next; other < next + k; other++) counts[row + experts[other]!]! += 1;
    }
  }
};

const countEqualRanks: CountPaths = (experts, slots, k, numExperts, { from, to, tokens }, counts) => {
  const side = numExperts + 1;
  for (let token = 0; token < tokens; token++) {
    const start = (from + token) * slots;
    const next = (to + token) * slots;
    for (let rank = 0; rank < k; rank++) counts[(experts[start + rank]! + 1) * side + experts[next + rank]! + 1]! += 1;
  }
};

/** Shares of counts, wherever they are from. */
export function pathShares(
  { k, numExperts, paths, steps, sources }: PathCounts,
  options: ResampleOptions = {},
): PathResult {
  const units: number[] = [];
  const domains = sources.map(({ name, tokens, counts, groups }) => {
    const places = counts.map((table) =>
      table.reduce((best, count, place) => (count > table[best]! ? place : best), 0),
    );
    const intervals = pathIntervals(name, groups, places, options);
    if (intervals !== undefined) units.push(groups!.units.length);
    return {
      name,
      tokens,
      perStep: counts.map((table, step) => {
        const shares = Array.from({ length: numExperts }, (_, row) =>
          Array.from(table.subarray(row * numExperts, (row + 1) * numExperts), (count) => share(count, tokens)),
        );
        const most = places[step]!;
        const [from, to] = [Math.floor(most / numExperts), most % numExperts];
        const interval = intervals?.[step];
        return {
          shares,
          strongest: [from, to, share(table[most]!, tokens)] as const,
          ...(interval === undefined ? {} : { strongestInterval: interval }),
        };
      }),
    };
  });
  const grouped = sources.some(({ groups }) => groups?.grouped === true);
  const over =
    units.length === 0 ? "" : ` ${intervalText(units, grouped)} of a domain, of the strongest path as it is named.`;
  return {
    analysis: "cross-layer",
    definition: `${DEFINITIONS[paths]}${over}`,
    k,
    layers: [...new Set(steps.flat())],
    tokens: sumOf(sources.map(({ tokens }) => tokens)),
    paths,
    steps,
    domains,
  };
}

/** @param places [step] of the path in each table. @returns [step] intervals of its share. */
function pathIntervals(
  name: string,
  groups: CountGroups | undefined,
  places: readonly number[],
  options: ResampleOptions,
): Interval[] | undefined {
  if (groups === undefined || groups.units.length < 2) return undefined;
  const rows = groups.units.map((unit) =>
    Float64Array.of(...places.map((place, step) => unit.table(step)[place]!), unit.tokens),
  );
  const divide = (sums: Float64Array, shares: Float64Array) => {
    for (let step = 0; step < places.length; step++) shares[step] = sums[step]! / sums[places.length]!;
  };
  return bootstrap(rows, places.length, `cross-layer/${name}`, divide, options);
}
