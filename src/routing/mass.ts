/** How much of the router's probability the chosen experts have. */
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

/** What the mass is taken of: all of the router's probabilities, or the weights of the chosen experts. */
export type MassColumn = "probabilities" | "weights";

export interface MassCounts {
  readonly of: MassColumn;
  readonly k: number;
  readonly layers: readonly number[];
  readonly tokens: number;
  /** [L, k] sum over tokens of the mass of each rank. */
  readonly byRank: Float64Array;
  /** [L] sum over tokens of the entropy of the router's probabilities, in nats; zeros of weights. */
  readonly entropy: Float64Array;
}

export interface MassResult extends ResultHead {
  readonly analysis: "mass";
  readonly of: MassColumn;
  readonly perLayer: readonly {
    readonly layer: number;
    /** [k] mean over tokens of the mass of the first 1, 2, ... k experts. */
    readonly cumulative: readonly number[];
    /** Mean over tokens of the entropy of the router's probabilities, in nats; missing where these are not in the trace. */
    readonly entropy?: number;
  }[];
}

const DEFINITIONS: Readonly<Record<MassColumn, string>> = {
  probabilities:
    "Mean over tokens of the router's probability (of all experts together 1) that the first 1 to k experts of the token have, and the mean entropy of these probabilities.",
  weights:
    "Mean over tokens of the sum of the weights that multiply the outputs of the first 1 to k experts: the same as the probability they have where the model does not normalise weights, and 1 for all of them where it does.",
};

export interface MassOptions extends LayerOptions {
  /** Default "weights", which every trace has. */
  readonly of?: MassColumn | undefined;
}

/** Share of the weight mass in the first experts. */
export function weightMass(options: MassOptions = {}): Analysis<MassCounts, MassResult> {
  return { name: "mass", counting: massCounting(options), statistics: massShares };
}

export function massCounting({ k, layers, of = "weights" }: MassOptions = {}): Counting<MassCounts> {
  return {
    key: countingKey("mass", { k, layers, of }),
    columns: of === "weights" ? ["experts", "weights"] : ["experts", "probabilities"],
    start: (trace) => new MassCounter(trace, chooseK(trace, k), layers, of),
  };
}

class MassCounter implements Counter<MassCounts> {
  readonly #trace: TraceInfo;
  readonly #k: number;
  readonly #of: MassColumn;
  readonly #chosen: ReturnType<typeof chooseLayers>;
  readonly #byRank: Float64Array;
  readonly #entropy: Float64Array;
  #tokens = 0;

  constructor(trace: TraceInfo, k: number, layers: readonly number[] | undefined, of: MassColumn) {
    this.#trace = trace;
    this.#k = k;
    this.#of = of;
    this.#chosen = chooseLayers(trace, layers);
    this.#byRank = new Float64Array(this.#chosen.layers.length * k);
    this.#entropy = new Float64Array(this.#chosen.layers.length);
  }

  add(chunk: TraceChunk): void {
    this.#tokens += chunk.tokens;
    for (const [index, place] of this.#chosen.places.entries()) {
      const row = this.#byRank.subarray(index * this.#k, (index + 1) * this.#k);
      if (this.#of === "weights") this.#addWeights(chunk, place, row);
      else this.#addProbabilities(chunk, place, row, index);
    }
  }

  #addWeights(chunk: TraceChunk, place: number, row: Float64Array): void {
    const { slots } = this.#trace.header;
    const [experts, weights] = [columnOf(chunk, "experts"), columnOf(chunk, "weights")];
    for (let token = place * chunk.tokens; token < (place + 1) * chunk.tokens; token++) {
      for (let rank = 0; rank < this.#k; rank++) {
        const slot = token * slots + rank;
        if (experts[slot] !== NO_EXPERT) row[rank]! += weights[slot]!;
      }
    }
  }

  #addProbabilities(chunk: TraceChunk, place: number, row: Float64Array, index: number): void {
    const { slots, numExperts } = this.#trace.header;
    const [experts, probabilities] = [columnOf(chunk, "experts"), columnOf(chunk, "probabilities")];
    for (let token = place * chunk.tokens; token < (place + 1) * chunk.tokens; token++) {
      const start = token * numExperts;
      for (let rank = 0; rank < this.#k; rank++) {
        const expert = experts[token * slots + rank]!;
        if (expert !== NO_EXPERT) row[rank]! += probabilities[start + expert]!;
      }
      let nats = 0;
      for (let expert = start; expert < start + numExperts; expert++) {
        const probability = probabilities[expert]!;
        if (probability > 0) nats -= probability * Math.log(probability);
      }
      // Token by token, so that the sum does not depend on how the trace is cut into chunks.
      this.#entropy[index]! += nats;
    }
  }

  counts(): MassCounts {
    return {
      of: this.#of,
      k: this.#k,
      layers: this.#chosen.layers,
      tokens: this.#tokens,
      byRank: this.#byRank,
      entropy: this.#entropy,
    };
  }
}

/** Means of counts, wherever they are from. */
export function massShares({ of, k, layers, tokens, byRank, entropy }: MassCounts): MassResult {
  return {
    analysis: "mass",
    definition: DEFINITIONS[of],
    k,
    layers,
    tokens,
    of,
    perLayer: layers.map((layer, index) => {
      let sum = 0;
      const cumulative = Array.from(byRank.subarray(index * k, (index + 1) * k), (mass) => {
        sum += mass;
        return share(sum, tokens);
      });
      return { layer, cumulative, ...(of === "probabilities" ? { entropy: share(entropy[index]!, tokens) } : {}) };
    }),
  };
}
