/** Which experts of a layer are active for the same tokens. */
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
import { bootstrap, type Interval, type ResampleOptions } from "./resample.ts";
import { GroupedCounts, groupsFor, intervalText } from "./sequenceGroups.ts";

/** "pairs": all pairs of a token's experts. "adjacent-ranks": only those next to each other in rank, as the released scripts count. */
export type PairCounting = "pairs" | "adjacent-ranks";

export interface CoactivationCounts {
  readonly k: number;
  readonly layers: readonly number[];
  readonly numExperts: number;
  readonly tokens: number;
  readonly pairs: PairCounting;
  /** [L] of [E, E]: N_ij; on the diagonal N_i, tokens that had the expert among their first k. */
  readonly together: readonly Float64Array[];
  /** Parts that add up to the whole, by groups of sequences; missing where sequences are not known. */
  readonly groups?: PairGroups;
}

export interface PairGroups {
  /** Whether a unit may have several sequences. */
  readonly grouped: boolean;
  /** Each gives [E, E] of a layer, as `together`. */
  readonly units: readonly ((index: number) => Float64Array)[];
}

/** Two experts, and how often the tokens of the one have the other too. */
export interface StrongPair {
  readonly expert: number;
  readonly other: number;
  /** N_ij / N_i. */
  readonly share: number;
  /** 95 % bootstrap interval over sequences; missing where the sequences are not known. */
  readonly interval?: Interval;
}

export interface CoactivationResult extends ResultHead {
  readonly analysis: "coactivation";
  readonly pairs: PairCounting;
  readonly perLayer: readonly {
    readonly layer: number;
    /** [E] N_i. */
    readonly tokensOf: readonly number[];
    /** [E][E] N_ij / N_i, row i; 1 on the diagonal, NaN in the row of an expert that was never used. */
    readonly shares: readonly (readonly number[])[];
    /** The pairs of the largest shares, up to ten; of equal ones those of the first experts. */
    readonly strongest: readonly StrongPair[];
    /** Mean over the experts that were used of their largest share with another one; NaN where there is none. */
    readonly meanLargest: number;
    /** 95 % bootstrap interval of it over sequences, with each expert's partner as it is; missing as those of pairs. */
    readonly meanLargestInterval?: Interval;
  }[];
}

const DEFINITIONS: Readonly<Record<PairCounting, string>> = {
  pairs:
    "N_ij / N_i: of the tokens that have expert i among their first k, the share that has expert j there too (paper, equation 6). All pairs are counted.",
  "adjacent-ranks":
    "N_ij / N_i where N_ij counts only tokens in which i and j are next to each other in rank, k - 1 of the k (k - 1) / 2 pairs, as the released scripts do; equation 6 counts all.",
};

export interface CoactivationOptions extends LayerOptions, ResampleOptions {
  /** Default: all pairs. */
  readonly pairs?: PairCounting | undefined;
}

/** Expert co-activation (paper section 5.2, equation 6). */
export function coactivation(options: CoactivationOptions = {}): Analysis<CoactivationCounts, CoactivationResult> {
  return {
    name: "coactivation",
    counting: coactivationCounting(options),
    statistics: (counts) => coactivationShares(counts, options),
  };
}

export function coactivationCounting({
  k,
  layers,
  pairs = "pairs",
}: CoactivationOptions = {}): Counting<CoactivationCounts> {
  return {
    key: countingKey("coactivation", { k, layers, pairs }),
    columns: ["experts"],
    start: (trace) => new PairCounter(trace, chooseK(trace, k), layers, pairs),
  };
}

class PairCounter implements Counter<CoactivationCounts> {
  readonly #k: number;
  readonly #pairs: PairCounting;
  readonly #trace: TraceInfo;
  readonly #chosen: ReturnType<typeof chooseLayers>;
  /** A table [E + 1, E + 1] for each layer: pairs by (earlier rank, later rank), expert e at e + 1, slots without one at 0. */
  readonly #counts: GroupedCounts;
  #tokens = 0;

  constructor(trace: TraceInfo, k: number, layers: readonly number[] | undefined, pairs: PairCounting) {
    this.#trace = trace;
    this.#k = k;
    this.#pairs = pairs;
    this.#chosen = chooseLayers(trace, layers);
    const [tables, cells] = [this.#chosen.layers.length, (trace.header.numExperts + 1) ** 2];
    const groups = groupsFor(tables * cells * Int32Array.BYTES_PER_ELEMENT);
    this.#counts = new GroupedCounts({ groups, tables, cells, perToken: k * k });
  }

  get #inSquares(): boolean {
    return this.#pairs === "pairs" && this.#k % 4 === 0;
  }

  add(chunk: TraceChunk): void {
    const { numExperts, slots } = this.#trace.header;
    const experts = columnOf(chunk, "experts");
    this.#tokens += chunk.tokens;
    const countAll = this.#inSquares ? countSquares : countPairs;
    const count = this.#pairs === "pairs" ? countAll : countAdjacent;
    let first = 0;
    for (const run of chunk.runs) {
      this.#counts.add(run, (table, index) => {
        const start = (this.#chosen.places[index]! * chunk.tokens + first) * slots;
        count(experts.subarray(start, start + run.tokens * slots), slots, this.#k, numExperts, table);
      });
      first += run.tokens;
    }
  }

  counts(): CoactivationCounts {
    const { numExperts } = this.#trace.header;
    const { layers } = this.#chosen;
    const square = (ordered: Float64Array) => symmetric(ordered, numExperts, this.#inSquares ? this.#k : undefined);
    const { units, grouped } = this.#counts.result();
    return {
      k: this.#k,
      layers,
      numExperts,
      tokens: this.#tokens,
      pairs: this.#pairs,
      together: layers.map((_, index) => square(this.#counts.sum(index))),
      groups: { grouped, units: units.map((unit) => (index) => square(unit.table(index))) },
    };
  }
}

/**
 * All pairs of the first k slots of each token, for k a multiple of 4: in squares of four ranks by four, whose experts stay in
 * registers, which makes this three times as fast as two plain loops. Slots without an expert count for place 0. A slot
 * with itself is not counted: `symmetric` knows it from the pairs.
 */
function countSquares(experts: Int16Array, slots: number, k: number, numExperts: number, ordered: Int32Array): void {
  const side = numExperts + 1;
  for (let start = 0; start < experts.length; start += slots) {
    const end = start + k;
    for (let one = start; one < end; one += 4) {
      const [a, b] = [experts[one]! + 1, experts[one + 1]! + 1];
      const [c, d] = [experts[one + 2]! + 1, experts[one + 3]! + 1];
      const [rowA, rowB, rowC, rowD] = [a * side, b * side, c * side, d * side];
      ordered[rowA + b]! += 1;
      ordered[rowA + c]! += 1;
      ordered[rowA + d]! += 1;
      ordered[rowB + c]! += 1;
      ordered[rowB + d]! += 1;
      ordered[rowC + d]! += 1;
      for (let other = one + 4; other < end; other++) {
        const e = experts[other]! + 1;
        ordered[rowA + e]! += 1;
        ordered[rowB + e]! += 1;
        ordered[rowC + e]! += 1;
        ordered[rowD + e]! += 1;
      }
    }
  }
}

/** The same for any k, each slot with itself included. */
function countPairs(experts: Int16Array, slots: number, k: number, numExperts: number, ordered: Int32Array): void {
  const side = numExperts + 1;
  for (let start = 0; start < experts.length; start += slots) {
    for (let one = start; one < start + k; one++) {
      const row = (experts[one]! + 1) * side;
      for (let other = one; other < start + k; other++) ordered[row + experts[other]! + 1]! += 1;
    }
  }
}

function countAdjacent(experts: Int16Array, slots: number, k: number, numExperts: number, ordered: Int32Array): void {
  const side = numExperts + 1;
  for (let start = 0; start < experts.length; start += slots) {
    let before = 0;
    for (let slot = start; slot < start + k; slot++) {
      if (experts[slot] === NO_EXPERT) continue;
      const expert = experts[slot]! + 1;
      ordered[expert * side + expert]! += 1;
      ordered[before * side + expert]! += 1;
      before = expert;
    }
  }
}

/**
 * [E, E] of ordered pairs [E + 1, E + 1].
 * @param k where the diagonal was not counted: an expert of a token is in k - 1 of its pairs.
 */
function symmetric(ordered: Float64Array, numExperts: number, k: number | undefined): Float64Array {
  const side = numExperts + 1;
  const result = new Float64Array(numExperts * numExperts);
  for (let i = 0; i < numExperts; i++) {
    let pairs = 0;
    for (let j = -1; j < numExperts; j++) {
      if (j === i) continue;
      const both = ordered[(i + 1) * side + j + 1]! + ordered[(j + 1) * side + i + 1]!;
      pairs += both;
      if (j >= 0) result[i * numExperts + j] = both;
    }
    result[i * numExperts + i] = k === undefined ? ordered[(i + 1) * side + i + 1]! : pairs / (k - 1);
  }
  return result;
}

/** Pairs of a layer that are listed. */
const MOST_PAIRS = 10;

interface NamedPair {
  readonly i: number;
  readonly j: number;
}

/** What is told of a layer besides its shares. */
interface LayerPairs {
  readonly strongest: readonly NamedPair[];
  /** Each expert that was used with the one that its tokens have most often; of equal ones the first. */
  readonly partners: readonly NamedPair[];
}

function pairsOf(shares: readonly (readonly number[])[]): LayerPairs {
  const at = ({ i, j }: NamedPair) => shares[i]![j]!;
  const rows = shares.map((row, i) => row.flatMap((_, j) => (i === j ? [] : [{ i, j }])));
  const strongest = rows
    .flat()
    .filter((pair) => at(pair) > 0)
    .sort((a, b) => at(b) - at(a) || a.i - b.i || a.j - b.j)
    .slice(0, MOST_PAIRS);
  const used = rows.filter((row) => row.length > 0 && Number.isFinite(at(row[0]!)));
  return { strongest, partners: used.map((row) => row.reduce((best, pair) => (at(pair) > at(best) ? pair : best))) };
}

/** Mean of the shares that there are. */
function meanShare(shares: readonly number[]): number {
  const finite = shares.filter(Number.isFinite);
  return share(sumOf(finite), finite.length);
}

/** Equation 6 of counts, wherever they are from. */
export function coactivationShares(counts: CoactivationCounts, options: ResampleOptions = {}): CoactivationResult {
  const { k, layers, numExperts, tokens, pairs, together, groups } = counts;
  const experts = Array.from({ length: numExperts }, (_, expert) => expert);
  const perLayer = layers.map((layer, index) => {
    const at = (i: number, j: number) => together[index]![i * numExperts + j]!;
    const shares = experts.map((i) => experts.map((j) => share(at(i, j), at(i, i))));
    return { layer, tokensOf: experts.map((i) => at(i, i)), shares, pairs: pairsOf(shares) };
  });
  const intervals = pairIntervals(
    counts,
    perLayer.map((one) => one.pairs),
    options,
  );
  const over = intervals && groups ? ` ${intervalText([groups.units.length], groups.grouped)}; ${PAIRS_STAY}` : "";
  return {
    analysis: "coactivation",
    definition: `${DEFINITIONS[pairs]}${over}`,
    k,
    layers,
    tokens,
    pairs,
    perLayer: perLayer.map(({ layer, tokensOf, shares, pairs: { strongest, partners } }, index) => {
      const own = intervals?.[index];
      return {
        layer,
        tokensOf,
        shares,
        strongest: strongest.map(({ i, j }, place) => ({
          expert: i,
          other: j,
          share: shares[i]![j]!,
          ...(own === undefined ? {} : { interval: own.strongest[place]! }),
        })),
        meanLargest: meanShare(partners.map(({ i, j }) => shares[i]![j]!)),
        ...(own === undefined ? {} : { meanLargestInterval: own.mean }),
      };
    }),
  };
}

const PAIRS_STAY = "of the strongest pairs, and of the mean of each expert's largest share, as they are named.";

/** [L] intervals of the pairs of each layer. */
function pairIntervals(
  { groups, numExperts }: CoactivationCounts,
  layers: readonly LayerPairs[],
  options: ResampleOptions,
): { readonly strongest: readonly Interval[]; readonly mean: Interval }[] | undefined {
  if (groups === undefined || groups.units.length < 2) return undefined;
  // Of each layer N_ij and N_i of the strongest pairs, then of the partners; of its results those of the pairs, then the mean.
  const listed = layers.map(({ strongest, partners }) => [...strongest, ...partners]);
  const rows = groups.units.map((tableOf) =>
    Float64Array.from(
      listed.flatMap((pairs, index) => {
        const table = tableOf(index);
        return pairs.flatMap(({ i, j }) => [table[i * numExperts + j]!, table[i * numExperts + i]!]);
      }),
    ),
  );
  const outputs = sumOf(layers.map(({ strongest }) => strongest.length + 1));
  const divide = (sums: Float64Array, values: Float64Array) => {
    let [place, output] = [0, 0];
    const next = () => {
      place += 2;
      return share(sums[place - 2]!, sums[place - 1]!);
    };
    for (const { strongest, partners } of layers) {
      for (const _ of strongest) values[output++] = next();
      values[output++] = meanShare(partners.map(next));
    }
  };
  const all = bootstrap(rows, outputs, "coactivation", divide, options);
  if (all === undefined) return undefined;
  let output = 0;
  return layers.map(({ strongest }) => {
    const own = all.slice(output, output + strongest.length + 1);
    output += own.length;
    return { strongest: own.slice(0, -1), mean: own.at(-1)! };
  });
}
