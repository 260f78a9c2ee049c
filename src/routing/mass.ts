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
import { bootstrap, type Interval, type ResampleOptions } from "./resample.ts";
import { groupOf, groupsFor, intervalText } from "./sequenceGroups.ts";

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
  /** The same of groups of sequences; missing where sequences are not known. */
  readonly groups?: {
    /** Whether a unit may have several sequences. */
    readonly grouped: boolean;
    /** In order of their numbers. */
    readonly units: readonly MassSums[];
  };
}

export type MassSums = Pick<MassCounts, "tokens" | "byRank" | "entropy">;

export interface MassResult extends ResultHead {
  readonly analysis: "mass";
  readonly of: MassColumn;
  readonly perLayer: readonly {
    readonly layer: number;
    /** [k] mean over tokens of the mass of the first 1, 2, ... k experts. */
    readonly cumulative: readonly number[];
    /** [k] 95 % bootstrap intervals of it over sequences; missing where the sequences are not known. */
    readonly intervals?: readonly Interval[];
    /** Mean over tokens of the entropy of the router's probabilities, in nats; missing where these are not in the trace. */
    readonly entropy?: number;
    /** Its interval, as those of the mass. */
    readonly entropyInterval?: Interval;
  }[];
}

const DEFINITIONS: Readonly<Record<MassColumn, string>> = {
  probabilities:
    "Mean over tokens of the router's probability (of all experts together 1) that the first 1 to k experts of the token have, and the mean entropy of these probabilities.",
  weights:
    "Mean over tokens of the sum of the weights that multiply the outputs of the first 1 to k experts: the same as the probability they have where the model does not normalise weights, and 1 for all of them where it does.",
};

export interface MassOptions extends LayerOptions, ResampleOptions {
  /** Default "weights", which every trace has. */
  readonly of?: MassColumn | undefined;
}

/** Share of the weight mass in the first experts. */
export function weightMass(options: MassOptions = {}): Analysis<MassCounts, MassResult> {
  return { name: "mass", counting: massCounting(options), statistics: (counts) => massShares(counts, options) };
}

export function massCounting({ k, layers, of = "weights" }: MassOptions = {}): Counting<MassCounts> {
  return {
    key: countingKey("mass", { k, layers, of }),
    columns: of === "weights" ? ["experts", "weights"] : ["experts", "probabilities"],
    start: (trace) => new MassCounter(trace, chooseK(trace, k), layers, of),
  };
}

interface GrowingSums extends MassSums {
  tokens: number;
}

class MassCounter implements Counter<MassCounts> {
  readonly #trace: TraceInfo;
  readonly #k: number;
  readonly #of: MassColumn;
  readonly #chosen: ReturnType<typeof chooseLayers>;
  /** Not added up of the groups: sums of numbers that are not whole depend on their order. */
  readonly #all: GrowingSums;
  readonly #groups = new Map<number, GrowingSums>();
  readonly #numGroups: number;
  #last = -1;

  constructor(trace: TraceInfo, k: number, layers: readonly number[] | undefined, of: MassColumn) {
    this.#trace = trace;
    this.#k = k;
    this.#of = of;
    this.#chosen = chooseLayers(trace, layers);
    this.#all = this.#sums();
    this.#numGroups = groupsFor(this.#all.byRank.byteLength + this.#all.entropy.byteLength);
  }

  #sums(): GrowingSums {
    const { length } = this.#chosen.layers;
    return { tokens: 0, byRank: new Float64Array(length * this.#k), entropy: new Float64Array(length) };
  }

  add(chunk: TraceChunk): void {
    let first = 0;
    for (const { sequence, tokens } of chunk.runs) {
      this.#last = Math.max(this.#last, sequence);
      const number = groupOf(sequence, this.#numGroups);
      const group = this.#groups.get(number) ?? this.#sums();
      this.#groups.set(number, group);
      group.tokens += tokens;
      this.#all.tokens += tokens;
      for (const [index, place] of this.#chosen.places.entries()) {
        const start = place * chunk.tokens + first;
        if (this.#of === "weights") this.#addWeights(chunk, start, start + tokens, index, group);
        else this.#addProbabilities(chunk, start, start + tokens, index, group);
      }
      first += tokens;
    }
  }

  /** Tokens are those of [L * T]. */
  #addWeights(chunk: TraceChunk, start: number, end: number, index: number, group: GrowingSums): void {
    const { slots } = this.#trace.header;
    const [experts, weights] = [columnOf(chunk, "experts"), columnOf(chunk, "weights")];
    const row = index * this.#k;
    for (let token = start; token < end; token++) {
      for (let rank = 0; rank < this.#k; rank++) {
        const slot = token * slots + rank;
        if (experts[slot] !== NO_EXPERT) this.#add(group, row + rank, weights[slot]!);
      }
    }
  }

  #addProbabilities(chunk: TraceChunk, start: number, end: number, index: number, group: GrowingSums): void {
    const { slots, numExperts } = this.#trace.header;
    const [experts, probabilities] = [columnOf(chunk, "experts"), columnOf(chunk, "probabilities")];
    const row = index * this.#k;
    for (let token = start; token < end; token++) {
      const own = token * numExperts;
      for (let rank = 0; rank < this.#k; rank++) {
        const expert = experts[token * slots + rank]!;
        if (expert !== NO_EXPERT) this.#add(group, row + rank, probabilities[own + expert]!);
      }
      let nats = 0;
      for (let expert = own; expert < own + numExperts; expert++) {
        const probability = probabilities[expert]!;
        if (probability > 0) nats -= probability * Math.log(probability);
      }
      // Token by token, so that the sum does not depend on how the trace is cut into chunks.
      this.#all.entropy[index]! += nats;
      group.entropy[index]! += nats;
    }
  }

  #add(group: GrowingSums, place: number, mass: number): void {
    this.#all.byRank[place]! += mass;
    group.byRank[place]! += mass;
  }

  counts(): MassCounts {
    return {
      of: this.#of,
      k: this.#k,
      layers: this.#chosen.layers,
      ...this.#all,
      groups: {
        grouped: this.#last >= this.#numGroups,
        units: [...this.#groups].sort(([a], [b]) => a - b).map(([, group]) => group),
      },
    };
  }
}

/** Means of counts, wherever they are from. */
export function massShares(counts: MassCounts, options: ResampleOptions = {}): MassResult {
  const { of, k, layers, tokens, groups } = counts;
  const width = layers.length * k;
  // [L, k] cumulative mass, then [L] entropy.
  const means = (byRank: Float64Array, entropy: Float64Array, tokens: number, values: Float64Array) => {
    for (let index = 0; index < layers.length; index++) {
      let sum = 0;
      for (let rank = 0; rank < k; rank++) {
        sum += byRank[index * k + rank]!;
        values[index * k + rank] = share(sum, tokens);
      }
      values[width + index] = share(entropy[index]!, tokens);
    }
  };
  const values = new Float64Array(width + layers.length);
  means(counts.byRank, counts.entropy, tokens, values);
  const rows = (groups?.units ?? []).map((unit) => Float64Array.of(...unit.byRank, ...unit.entropy, unit.tokens));
  const ofSums = (sums: Float64Array, drawn: Float64Array) => {
    means(sums.subarray(0, width), sums.subarray(width, -1), sums.at(-1)!, drawn);
  };
  const intervals = bootstrap(rows, values.length, `mass/${of}`, ofSums, options);
  const over = intervals && groups ? ` ${intervalText([groups.units.length], groups.grouped)}.` : "";
  return {
    analysis: "mass",
    definition: `${DEFINITIONS[of]}${over}`,
    k,
    layers,
    tokens,
    of,
    perLayer: layers.map((layer, index) => {
      const [from, to] = [index * k, (index + 1) * k];
      return {
        layer,
        cumulative: Array.from(values.subarray(from, to)),
        ...(intervals === undefined ? {} : { intervals: intervals.slice(from, to) }),
        ...(of === "probabilities" ? { entropy: values[width + index]! } : {}),
        ...(of === "probabilities" && intervals !== undefined ? { entropyInterval: intervals[width + index]! } : {}),
      };
    }),
  };
}
