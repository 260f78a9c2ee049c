/** Which experts serve which words: vocabulary specialisation. */
import { ConfigError } from "../errors.ts";
import { NO_EXPERT, type TraceChunk, type TraceRun } from "../formats/trace.ts";
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
import { forEachId, type IdCounts, IdTables } from "./idTables.ts";
import { bootstrap, checkResamples, type Interval, type ResampleOptions } from "./resample.ts";
import { intervalText } from "./sequenceGroups.ts";
import { type SampledTokens, type SequenceSample, SequenceSampler } from "./sequenceSample.ts";

/** Which id of a token is meant: the one it is, the one the model finds most probable next, or the one that comes next. */
export const ID_KINDS = ["input", "predicted", "truth"] as const;
export type IdKind = (typeof ID_KINDS)[number];

export interface VocabularyCounts {
  readonly kind: IdKind;
  readonly k: number;
  readonly layers: readonly number[];
  readonly numExperts: number;
  /** A table of [ids, E] for each layer: tokens with the id that had the expert among their first k. */
  readonly ids: IdCounts;
  /** Sequences that intervals are drawn from; missing where sequences are not known. */
  readonly sample?: SequenceSample;
}

export interface VocabularyOptions extends LayerOptions, ResampleOptions {
  /** Default "input". */
  readonly kind?: IdKind | undefined;
  /** Ids that occur less often are left out; default 10, as in the paper's table 8. */
  readonly leastOccurrences?: number | undefined;
  /**
   * "occurrences": an id counts as often as it occurs. "released": all ids count alike, those that occur once, whose share
   * is always 100 %, included, as in the released scripts' figure. Default "occurrences".
   */
  readonly mean?: "occurrences" | "released" | undefined;
  /** Ids that are listed for each expert; default 10. */
  readonly top?: number | undefined;
}

export interface TopId {
  readonly id: number;
  /** Of the id's tokens, the share that has the expert among the first k. */
  readonly share: number;
  readonly occurrences: number;
}

export interface VocabularyResult extends ResultHead {
  readonly analysis: "vocabulary";
  readonly kind: IdKind;
  readonly mean: "occurrences" | "released";
  readonly leastOccurrences: number;
  readonly perLayer: readonly {
    readonly layer: number;
    /** Ids that occur often enough, and their tokens. */
    readonly ids: number;
    readonly tokens: number;
    /** Mean over these ids of the largest share that an expert has of the id's tokens; NaN where there are none. */
    readonly specialisation: number;
    /**
     * 95 % bootstrap interval of it over sequences, with the ids and each one's busiest expert as they are. Missing where
     * the sequences are not known, and where ids count alike.
     */
    readonly interval?: Interval;
    /** [E] of the ids whose busiest expert it is (the first of equals). */
    readonly experts: readonly {
      readonly ids: number;
      /** Mean of its shares of them; NaN where there are none. */
      readonly specialisation: number;
      /** Those of the largest shares. */
      readonly top: readonly TopId[];
    }[];
  }[];
  /** Mean over layers of the specialisation, and its interval, as those of layers. */
  readonly overall: { readonly specialisation: number; readonly interval?: Interval };
}

const KIND_WORDS: Readonly<Record<IdKind, string>> = {
  input: "input",
  predicted: "predicted next",
  truth: "true next",
};

/** Vocabulary specialisation (paper section 5.4, equation 8). */
export function vocabularySpecialisation(
  options: VocabularyOptions = {},
): Analysis<VocabularyCounts, VocabularyResult> {
  return {
    name: "vocabulary",
    counting: vocabularyCounting(options),
    statistics: (counts) => vocabularyShares(counts, options),
  };
}

export function vocabularyCounting({ k, layers, kind = "input" }: VocabularyOptions = {}): Counting<VocabularyCounts> {
  return {
    key: countingKey("vocabulary", { k, layers, kind }),
    columns: kind === "predicted" ? ["experts", "predicted"] : ["experts", "ids"],
    start: (trace) => new VocabularyCounter(trace, chooseK(trace, k), layers, kind),
  };
}

/** The end or the start of a run whose neighbour has not been seen. */
type Loose = { readonly experts: Int16Array } | { readonly id: number };

/** Tokens that are counted together: tables of ids are larger than caches, and so each row is fetched once for all of them. */
const BATCH_TOKENS = 2 ** 16;

class VocabularyCounter implements Counter<VocabularyCounts> {
  readonly #k: number;
  readonly #kind: IdKind;
  readonly #trace: TraceInfo;
  readonly #chosen: ReturnType<typeof chooseLayers>;
  readonly #tables: IdTables;
  readonly #sampler: SequenceSampler;
  /** Rows of the tokens that are held, and their experts [L, BATCH_TOKENS, k]. */
  readonly #rows = new Int32Array(BATCH_TOKENS);
  readonly #experts: Int16Array;
  #held = 0;
  /** By sequence and position: the experts of the token before it, or the id there. Of the kind "truth" only. */
  readonly #loose = new Map<string, Loose>();

  constructor(trace: TraceInfo, k: number, layers: readonly number[] | undefined, kind: IdKind) {
    this.#trace = trace;
    this.#k = k;
    this.#kind = kind;
    this.#chosen = chooseLayers(trace, layers);
    const { numExperts, model, slots } = trace.header;
    this.#tables = new IdTables(model.vocabSize, this.#chosen.layers.length, numExperts);
    this.#sampler = new SequenceSampler({ places: this.#chosen.places, slots, k, numExperts });
    this.#experts = new Int16Array(this.#chosen.layers.length * BATCH_TOKENS * k);
  }

  add(chunk: TraceChunk): void {
    if (this.#kind !== "truth") {
      const ids = columnOf(chunk, this.#kind === "input" ? "ids" : "predicted");
      this.#count(chunk, 0, ids);
      let first = 0;
      for (const { sequence, tokens } of chunk.runs) {
        this.#sampler.add(sequence, ids.subarray(first, first + tokens), chunk, first);
        first += tokens;
      }
      return;
    }
    const ids = columnOf(chunk, "ids");
    let first = 0;
    for (const run of chunk.runs) {
      const next = ids.subarray(first + 1, first + run.tokens);
      this.#count(chunk, first, next);
      this.#sampler.add(run.sequence, next, chunk, first);
      this.#meet(`${run.sequence}/${run.position}`, { id: ids[first]! }, run);
      const last = this.#expertsOf(chunk, first + run.tokens - 1);
      this.#meet(`${run.sequence}/${run.position + run.tokens}`, { experts: last }, run);
      first += run.tokens;
    }
  }

  counts(): VocabularyCounts {
    this.#flush();
    return {
      kind: this.#kind,
      k: this.#k,
      layers: this.#chosen.layers,
      numExperts: this.#trace.header.numExperts,
      ids: this.#tables.result(),
      sample: this.#sampler.result(),
    };
  }

  /** Keeps the experts of the chunk's tokens from `first` on for the ids, to be counted with the next batch. */
  #count(chunk: TraceChunk, first: number, ids: Int32Array): void {
    const { slots } = this.#trace.header;
    const experts = columnOf(chunk, "experts");
    for (let done = 0; done < ids.length; ) {
      const tokens = Math.min(ids.length - done, BATCH_TOKENS - this.#held);
      for (let token = 0; token < tokens; token++) {
        const row = this.#tables.rowOf(ids[done + token]!);
        this.#tables.addOccurrence(row);
        this.#rows[this.#held + token] = row;
      }
      for (const [index, place] of this.#chosen.places.entries()) {
        const from = (place * chunk.tokens + first + done) * slots;
        const to = index * BATCH_TOKENS + this.#held;
        if (slots === this.#k) {
          this.#experts.set(experts.subarray(from, from + tokens * slots), to * slots);
          continue;
        }
        for (let token = 0; token < tokens; token++) {
          for (let slot = 0; slot < this.#k; slot++) {
            this.#experts[(to + token) * this.#k + slot] = experts[from + token * slots + slot]!;
          }
        }
      }
      done += tokens;
      this.#held += tokens;
      if (this.#held === BATCH_TOKENS) this.#flush();
    }
  }

  /** Counts what is held, row by row, so that a table is gone through from front to back. */
  #flush(): void {
    const rows = this.#rows.subarray(0, this.#held);
    const order = orderOf(rows, this.#tables.rows);
    const { numExperts } = this.#trace.header;
    for (let index = 0; index < this.#chosen.layers.length; index++) {
      const start = index * BATCH_TOKENS * this.#k;
      const layer = this.#experts.subarray(start, start + this.#held * this.#k);
      countRows(layer, this.#k, order, rows, numExperts, this.#tables, index);
    }
    this.#held = 0;
  }

  /** [L, k] experts of one token. */
  #expertsOf(chunk: TraceChunk, token: number): Int16Array {
    const { slots } = this.#trace.header;
    const experts = columnOf(chunk, "experts");
    const result = new Int16Array(this.#chosen.layers.length * this.#k);
    for (const [index, place] of this.#chosen.places.entries()) {
      const start = (place * chunk.tokens + token) * slots;
      result.set(experts.subarray(start, start + this.#k), index * this.#k);
    }
    return result;
  }

  /** Counts a token whose next one lies in another run, once both are there. */
  #meet(key: string, part: Loose, { sequence, position }: TraceRun): void {
    const other = this.#loose.get(key);
    const pair = { ...other, ...part };
    if ("experts" in pair && "id" in pair) {
      this.#loose.delete(key);
      const row = this.#tables.rowOf(pair.id);
      this.#tables.addOccurrence(row);
      this.#sampler.addToken(sequence, pair.id, pair.experts);
      const width = this.#trace.header.numExperts;
      for (let index = 0; index < this.#chosen.layers.length; index++) {
        const experts = pair.experts.subarray(index * this.#k, (index + 1) * this.#k);
        countRows(experts, this.#k, Int32Array.of(0), Int32Array.of(row), width, this.#tables, index);
      }
    } else if ("experts" in part || position > 0) this.#loose.set(key, part);
  }
}

/** Places of the tokens in rising order of their rows (a counting sort). */
function orderOf(rows: Int32Array, numRows: number): Int32Array {
  const starts = new Int32Array(numRows + 1);
  for (let token = 0; token < rows.length; token++) starts[rows[token]! + 1]! += 1;
  for (let row = 0; row < numRows; row++) starts[row + 1]! += starts[row]!;
  const order = new Int32Array(rows.length);
  for (let token = 0; token < rows.length; token++) {
    const row = rows[token]!;
    order[starts[row]!] = token;
    starts[row]! += 1;
  }
  return order;
}

/** @param experts [T, k]. @param order the tokens as they are counted. @param rows [T] of the table [rows, E]. */
function countRows(
  experts: Int16Array,
  k: number,
  order: Int32Array,
  rows: Int32Array,
  numExperts: number,
  tables: IdTables,
  index: number,
): void {
  const table = tables.table(index);
  for (let turn = 0; turn < order.length; turn++) {
    const token = order[turn]!;
    const row = rows[token]! * numExperts;
    const end = (token + 1) * k;
    if (tables.isSmall(rows[token]!)) {
      // Most ids: none of their counts can go through zero.
      for (let slot = token * k; slot < end; slot++) {
        const expert = experts[slot]!;
        if (expert !== NO_EXPERT) table[row + expert]! += 1;
      }
      continue;
    }
    for (let slot = token * k; slot < end; slot++) {
      const expert = experts[slot]!;
      if (expert === NO_EXPERT) continue;
      const place = row + expert;
      const count = table[place]! + 1;
      table[place] = count;
      if (count === 2 ** 16) tables.carry(index, place);
    }
  }
}

/** @throws ConfigError for a number that is not whole or too small. */
export function checkLeast(value: number): number {
  if (Number.isInteger(value) && value >= 1) return value;
  throw new ConfigError(`leastOccurrences: ${value}, expected a whole number from 1 on`);
}

/** Equation 8 of counts, wherever they are from. */
export function vocabularyShares(counts: VocabularyCounts, options: VocabularyOptions = {}): VocabularyResult {
  const { kind, k, layers } = counts;
  const { mean = "occurrences", top = 10 } = options;
  const least = mean === "released" ? 1 : checkLeast(options.leastOccurrences ?? 10);
  const which = least === 1 ? "all ids" : `ids that occur at least ${least} times`;
  const counted = layers.map((_, index) => layerShares(counts, index, least, mean, top));
  const means = counted.map(({ shares }) => shares.specialisation);
  const intervals = mean === "occurrences" ? wordIntervals(counts, counted, options) : undefined;
  const over = intervals === undefined ? "" : ` ${intervals.text}`;
  const intervalAt = (index: number) => (intervals === undefined ? {} : { interval: intervals.all[index]! });
  return {
    analysis: "vocabulary",
    definition:
      `Of the tokens with one ${KIND_WORDS[kind]} id, the share that has an expert among the first k (paper, equation 8); ` +
      `specialisation is the mean over ${which} of each one's largest share, ${mean === "released" ? "all alike" : "weighted by occurrences"}.${over}`,
    k,
    layers,
    tokens: sumOf(counts.ids.occurrences),
    kind,
    mean,
    leastOccurrences: least,
    perLayer: layers.map((layer, index) => ({ layer, ...counted[index]!.shares, ...intervalAt(index) })),
    overall: { specialisation: share(sumOf(means), layers.length), ...intervalAt(layers.length) },
  };
}

/** Sampled sequences at least, where there are more than are sampled: of fewer an interval would be too narrow. */
const LEAST_SAMPLED = 20;

/**
 * Intervals [L + 1] of the specialisation of each layer and of the mean over layers. By occurrences the specialisation is the
 * share of tokens that have the busiest expert of their id: a quotient of sums over sequences. Of a sample it varies more than of
 * all: the distances from its own value are made smaller by the root of its share of the tokens.
 */
function wordIntervals(
  { sample, kind }: VocabularyCounts,
  layers: readonly CountedLayer[],
  options: ResampleOptions,
): { readonly all: readonly Interval[]; readonly text: string } | undefined {
  if (sample === undefined || layers.length === 0 || checkResamples(options) === 0) return undefined;
  const { sequences, complete } = sample;
  if (!complete && sequences.length < LEAST_SAMPLED) return undefined;
  const busiest = layers.map((layer) => layer.busiest);
  const rows = sequences.map((pieces) => servedTokens(pieces, busiest)).filter((row) => row.at(-1)! > 0);
  const sums = Float64Array.from(layers, (_, index) => sumOf(rows.map((row) => row[index]!)));
  const tokens = sumOf(rows.map((row) => row.at(-1)!));
  const narrower = complete ? 1 : Math.sqrt(tokens / layers[0]!.shares.tokens);
  const divide = (drawn: Float64Array, values: Float64Array) => {
    for (const [index, { shares }] of layers.entries()) {
      const value = share(drawn[index]!, drawn[layers.length]!);
      const away = value - sums[index]! / tokens;
      values[index] = complete ? value : Math.min(1, shares.specialisation + narrower * away);
    }
    values[layers.length] = sumOf(values.subarray(0, -1)) / layers.length;
  };
  const all = bootstrap(rows, layers.length + 1, `vocabulary/${kind}`, divide, options);
  if (all === undefined) return undefined;
  const which = complete ? "" : ", a sample of all";
  return {
    all,
    text: `${intervalText([rows.length], false)}${which}, with the ids and each one's busiest expert as they are.`,
  };
}

/** [L + 1] tokens of one sequence that have the busiest expert of their id, and tokens whose ids are counted. */
function servedTokens(pieces: readonly SampledTokens[], busiest: readonly Int16Array[]): Float64Array {
  const row = new Float64Array(busiest.length + 1);
  for (const { ids, experts } of pieces) {
    const k = experts.length / (busiest.length * ids.length);
    for (const [index, expertOf] of busiest.entries()) {
      for (let token = 0; token < ids.length; token++) {
        const expert = expertOf[ids[token]!] ?? NO_EXPERT;
        if (expert === NO_EXPERT) continue;
        if (index === 0) row[busiest.length]! += 1;
        const start = (index * ids.length + token) * k;
        for (let slot = start; slot < start + k; slot++) if (experts[slot] === expert) row[index]! += 1;
      }
    }
  }
  return row;
}

/** A mean that grows. */
class Mean {
  ids = 0;
  tokens = 0;
  #sum = 0;
  #weights = 0;

  add(value: number, occurrences: number, weighted: boolean): void {
    const weight = weighted ? occurrences : 1;
    this.ids += 1;
    this.tokens += occurrences;
    this.#sum += weight * value;
    this.#weights += weight;
  }

  get value(): number {
    return share(this.#sum, this.#weights);
  }
}

interface CountedLayer {
  readonly shares: Omit<VocabularyResult["perLayer"][number], "layer" | "interval">;
  /** By id: its busiest expert, the first of equals; -1 where it does not count. */
  readonly busiest: Int16Array;
}

function layerShares(
  { numExperts, ids }: VocabularyCounts,
  table: number,
  least: number,
  mean: "occurrences" | "released",
  most: number,
): CountedLayer {
  const weighted = mean === "occurrences";
  const all = new Mean();
  const means = Array.from({ length: numExperts }, () => new Mean());
  const lists: TopId[][] = means.map(() => []);
  const busiestOf = new Int16Array((ids.ids.at(-1) ?? -1) + 1).fill(NO_EXPERT);
  forEachId(ids, table, (id, occurrences, row) => {
    if (occurrences < least) return;
    let busiest = 0;
    for (let expert = 1; expert < row.length; expert++) if (row[expert]! > row[busiest]!) busiest = expert;
    const value = row[busiest]! / occurrences;
    all.add(value, occurrences, weighted);
    means[busiest]!.add(value, occurrences, weighted);
    busiestOf[id] = busiest;
    lists[busiest]!.push({ id, share: value, occurrences });
  });
  const top = (list: TopId[]) =>
    list.sort((a, b) => b.share - a.share || b.occurrences - a.occurrences || a.id - b.id).slice(0, most);
  return {
    busiest: busiestOf,
    shares: {
      ids: all.ids,
      tokens: all.tokens,
      specialisation: all.value,
      experts: means.map((own, expert) => ({
        ids: own.ids,
        specialisation: own.value,
        top: top(lists[expert]!),
      })),
    },
  };
}
