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
  type TraceInfo,
} from "./analysis.ts";

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
  }[];
}

const DEFINITIONS: Readonly<Record<PairCounting, string>> = {
  pairs:
    "N_ij / N_i: of the tokens that have expert i among their first k, the share that has expert j there too (paper, equation 6). All pairs are counted.",
  "adjacent-ranks":
    "N_ij / N_i where N_ij counts only tokens in which i and j are next to each other in rank, k - 1 of the k (k - 1) / 2 pairs, as the released scripts do; equation 6 counts all.",
};

export interface CoactivationOptions extends LayerOptions {
  /** Default: all pairs. */
  readonly pairs?: PairCounting | undefined;
}

/** Expert co-activation (paper section 5.2, equation 6). */
export function coactivation(options: CoactivationOptions = {}): Analysis<CoactivationCounts, CoactivationResult> {
  return { name: "coactivation", counting: coactivationCounting(options), statistics: coactivationShares };
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

/** Tokens whose pairs are counted in 32-bit numbers before these are added to the sums. */
const BLOCK_TOKENS = 2 ** 24;

class PairCounter implements Counter<CoactivationCounts> {
  readonly #k: number;
  readonly #pairs: PairCounting;
  readonly #trace: TraceInfo;
  readonly #chosen: ReturnType<typeof chooseLayers>;
  /** [L] of [E + 1, E + 1] pairs by (earlier rank, later rank), expert e at e + 1, slots without one at 0. */
  readonly #ordered: readonly Int32Array[];
  readonly #sums: readonly Float64Array[];
  #blockTokens = 0;
  #tokens = 0;

  constructor(trace: TraceInfo, k: number, layers: readonly number[] | undefined, pairs: PairCounting) {
    this.#trace = trace;
    this.#k = k;
    this.#pairs = pairs;
    this.#chosen = chooseLayers(trace, layers);
    const side = trace.header.numExperts + 1;
    this.#ordered = this.#chosen.layers.map(() => new Int32Array(side * side));
    this.#sums = this.#chosen.layers.map(() => new Float64Array(side * side));
  }

  get #inSquares(): boolean {
    return this.#pairs === "pairs" && this.#k % 4 === 0;
  }

  add(chunk: TraceChunk): void {
    const { numExperts, slots } = this.#trace.header;
    const experts = columnOf(chunk, "experts");
    if (this.#blockTokens + chunk.tokens > BLOCK_TOKENS) this.#flush();
    this.#blockTokens += chunk.tokens;
    this.#tokens += chunk.tokens;
    const countAll = this.#inSquares ? countSquares : countPairs;
    const count = this.#pairs === "pairs" ? countAll : countAdjacent;
    for (const [index, place] of this.#chosen.places.entries()) {
      const start = place * chunk.tokens * slots;
      count(experts.subarray(start, start + chunk.tokens * slots), slots, this.#k, numExperts, this.#ordered[index]!);
    }
  }

  counts(): CoactivationCounts {
    this.#flush();
    const { numExperts } = this.#trace.header;
    return {
      k: this.#k,
      layers: this.#chosen.layers,
      numExperts,
      tokens: this.#tokens,
      pairs: this.#pairs,
      together: this.#sums.map((sums) => symmetric(sums, numExperts, this.#inSquares ? this.#k : undefined)),
    };
  }

  #flush(): void {
    for (const [index, ordered] of this.#ordered.entries()) {
      const sums = this.#sums[index]!;
      for (let place = 0; place < sums.length; place++) sums[place]! += ordered[place]!;
      ordered.fill(0);
    }
    this.#blockTokens = 0;
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

/** Equation 6 of counts, wherever they are from. */
export function coactivationShares(counts: CoactivationCounts): CoactivationResult {
  const { k, layers, numExperts, tokens, pairs, together } = counts;
  const experts = Array.from({ length: numExperts }, (_, expert) => expert);
  return {
    analysis: "coactivation",
    definition: DEFINITIONS[pairs],
    k,
    layers,
    tokens,
    pairs,
    perLayer: layers.map((layer, index) => {
      const at = (i: number, j: number) => together[index]![i * numExperts + j]!;
      return {
        layer,
        tokensOf: experts.map((i) => at(i, i)),
        shares: experts.map((i) => experts.map((j) => share(at(i, j), at(i, i)))),
      };
    }),
  };
}
