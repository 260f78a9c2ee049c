/** Where tokens go from the experts of one layer to those of another. */
import { NO_EXPERT, type TraceChunk } from "../formats/trace.ts";
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
    }[];
  }[];
}

const DEFINITIONS: Readonly<Record<PathCounting, string>> = {
  pairs:
    "Share of a domain's tokens that have expert i of one layer and expert j of the next chosen layer among their first k; at k = 1, a token's one path (paper, appendix on cross-layer routing).",
  "equal-ranks":
    "Share of a domain's tokens in which expert i of one layer and expert j of the next chosen layer have the same rank within the first k, k of the k x k pairs, as the released scripts count.",
};

export interface PathOptions extends LayerOptions {
  /** Default: every pair. */
  readonly paths?: PathCounting | undefined;
}

/** Cross-layer routing (paper, appendix). The default k is 1: paths. */
export function crossLayerRouting(options: PathOptions = {}): Analysis<PathCounts, PathResult> {
  return { name: "cross-layer", counting: pathCounting(options), statistics: pathShares };
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
  readonly #sources: { readonly name: string; tokens: number; readonly counts: readonly Float64Array[] }[];

  constructor(trace: TraceInfo, k: number, layers: readonly number[] | undefined, paths: PathCounting) {
    this.#trace = trace;
    this.#k = k;
    this.#paths = paths;
    this.#chosen = chooseLayers(trace, layers);
    const size = trace.header.numExperts ** 2;
    this.#sources = trace.sources.map((name) => ({
      name,
      tokens: 0,
      counts: this.#chosen.layers.slice(1).map(() => new Float64Array(size)),
    }));
  }

  add(chunk: TraceChunk): void {
    const { slots, numExperts } = this.#trace.header;
    const experts = columnOf(chunk, "experts");
    let first = 0;
    for (const { source, tokens } of chunk.runs) {
      const sums = this.#sources[source]!;
      sums.tokens += tokens;
      for (const [step, counts] of sums.counts.entries()) {
        const [from, to] = [this.#chosen.places[step]!, this.#chosen.places[step + 1]!];
        const rows = { from: from * chunk.tokens + first, to: to * chunk.tokens + first, tokens };
        const count = this.#paths === "pairs" ? countAll : countEqualRanks;
        count(experts, slots, this.#k, numExperts, rows, counts);
      }
      first += tokens;
    }
  }

  counts(): PathCounts {
    const { layers } = this.#chosen;
    return {
      k: this.#k,
      numExperts: this.#trace.header.numExperts,
      paths: this.#paths,
      steps: layers.slice(1).map((to, index) => [layers[index]!, to]),
      sources: this.#sources.filter(({ tokens }) => tokens > 0),
    };
  }
}

/** Rows of [L * T, S]: the same tokens in two layers. */
interface Rows {
  readonly from: number;
  readonly to: number;
  readonly tokens: number;
}

type CountPaths = (
  experts: Int16Array,
  slots: number,
  k: number,
  numExperts: number,
  rows: Rows,
  counts: Float64Array,
) => void;

const countAll: CountPaths = (experts, slots, k, numExperts, { from, to, tokens }, counts) => {
  for (let token = 0; token < tokens; token++) {
    const start = (from + token) * slots;
    const next = (to + token) * slots;
    for (let slot = start; slot < start + k; slot++) {
      const expert = experts[slot]!;
      if (expert === NO_EXPERT) continue;
      for (let other = next; other < next + k; other++) {
        const target = experts[other]!;
        if (target !== NO_EXPERT) counts[expert * numExperts + target]! += 1;
      }
    }
  }
};

const countEqualRanks: CountPaths = (experts, slots, k, numExperts, { from, to, tokens }, counts) => {
  for (let token = 0; token < tokens; token++) {
    const start = (from + token) * slots;
    const next = (to + token) * slots;
    for (let rank = 0; rank < k; rank++) {
      const expert = experts[start + rank]!;
      const target = experts[next + rank]!;
      if (expert !== NO_EXPERT && target !== NO_EXPERT) counts[expert * numExperts + target]! += 1;
    }
  }
};

/** Shares of counts, wherever they are from. */
export function pathShares({ k, numExperts, paths, steps, sources }: PathCounts): PathResult {
  return {
    analysis: "cross-layer",
    definition: DEFINITIONS[paths],
    k,
    layers: [...new Set(steps.flat())],
    tokens: sumOf(sources.map(({ tokens }) => tokens)),
    paths,
    steps,
    domains: sources.map(({ name, tokens, counts }) => ({
      name,
      tokens,
      perStep: counts.map((table) => {
        const shares = Array.from({ length: numExperts }, (_, row) =>
          Array.from(table.subarray(row * numExperts, (row + 1) * numExperts), (count) => share(count, tokens)),
        );
        const most = table.reduce((best, count, place) => (count > table[best]! ? place : best), 0);
        const [from, to] = [Math.floor(most / numExperts), most % numExperts];
        return { shares, strongest: [from, to, share(table[most]!, tokens)] as const };
      }),
    })),
  };
}
