/** How an expert's share of each token id is distributed, domain by domain: histograms over ids (paper, figure 32). */
import { ConfigError } from "../errors.ts";
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
  sumOf,
  type TraceInfo,
} from "./analysis.ts";
import { forEachId, type IdCounts, IdTables } from "./idTables.ts";
import { checkLeast } from "./vocabulary.ts";

export interface TokenIdCounts {
  readonly k: number;
  readonly layers: readonly number[];
  readonly numExperts: number;
  /** Those that are counted. */
  readonly experts: readonly number[];
  /** A table of [ids, counted experts] for each layer. */
  readonly sources: readonly { readonly name: string; readonly ids: IdCounts }[];
}

export interface TokenIdOptions extends LayerOptions {
  /** Default: 0, 4 and 7, as in the figure, as far as the model has them. */
  readonly experts?: readonly number[] | undefined;
  /** Ids that occur less often in a domain are left out there; default 8. */
  readonly leastOccurrences?: number | undefined;
  /** Bars from 0 to 1; default 20. */
  readonly bins?: number | undefined;
}

export interface TokenIdResult extends ResultHead {
  readonly analysis: "token-ids";
  readonly leastOccurrences: number;
  /** k / E: where every id would be without specialisation. */
  readonly uniform: number;
  readonly histograms: readonly {
    readonly layer: number;
    readonly expert: number;
    readonly domain: string;
    /** Ids that occur often enough. */
    readonly ids: number;
    /** [bins] ids whose share lies in each; 1 is in the last. */
    readonly counts: readonly number[];
    /** Mean over these ids, all alike. */
    readonly mean: number;
  }[];
}

/** The layers are those of the options; of a large model choose few. */
export function tokenIdRouting(options: TokenIdOptions = {}): Analysis<TokenIdCounts, TokenIdResult> {
  return {
    name: "token-ids",
    counting: tokenIdCounting(options),
    statistics: (counts) => tokenIdHistograms(counts, options),
  };
}

export function tokenIdCounting({ k, layers, experts }: TokenIdOptions = {}): Counting<TokenIdCounts> {
  return {
    key: countingKey("token-ids", { k, layers, experts }),
    columns: ["ids", "experts"],
    start: (trace) => new TokenIdCounter(trace, chooseK(trace, k), layers, experts),
  };
}

/** The experts of the paper's figure, as far as the model has them. */
export function figureExperts(numExperts: number): number[] {
  return [0, 4, 7].filter((expert) => expert < numExperts);
}

function chooseExperts(numExperts: number, experts?: readonly number[]): readonly number[] {
  if (experts === undefined) return figureExperts(numExperts);
  const fault = experts.find((expert) => !(Number.isInteger(expert) && expert >= 0 && expert < numExperts));
  if (fault === undefined) return experts;
  throw new ConfigError(`experts: ${fault}, the model has 0 to ${numExperts - 1}`);
}

class TokenIdCounter implements Counter<TokenIdCounts> {
  readonly #k: number;
  readonly #trace: TraceInfo;
  readonly #chosen: ReturnType<typeof chooseLayers>;
  readonly #experts: readonly number[];
  /** [E] place among the counted ones, or -1. */
  readonly #place: Int32Array;
  readonly #sources: readonly { readonly name: string; readonly tables: IdTables }[];

  constructor(
    trace: TraceInfo,
    k: number,
    layers: readonly number[] | undefined,
    experts: readonly number[] | undefined,
  ) {
    const { numExperts, model } = trace.header;
    this.#trace = trace;
    this.#k = k;
    this.#chosen = chooseLayers(trace, layers);
    this.#experts = chooseExperts(numExperts, experts);
    this.#place = Int32Array.from({ length: numExperts }, (_, expert) => this.#experts.indexOf(expert));
    this.#sources = trace.sources.map((name) => ({
      name,
      tables: new IdTables(model.vocabSize, this.#chosen.layers.length, this.#experts.length),
    }));
  }

  add(chunk: TraceChunk): void {
    const [ids, experts] = [columnOf(chunk, "ids"), columnOf(chunk, "experts")];
    let first = 0;
    for (const { source, tokens } of chunk.runs) {
      const { tables } = this.#sources[source]!;
      const rows = new Int32Array(tokens);
      for (let token = 0; token < tokens; token++) {
        rows[token] = tables.rowOf(ids[first + token]!);
        tables.addOccurrence(rows[token]!);
      }
      for (const [index, place] of this.#chosen.places.entries()) {
        this.#count(experts, place * chunk.tokens + first, rows, tables, index);
      }
      first += tokens;
    }
  }

  #count(experts: Int16Array, first: number, rows: Int32Array, tables: IdTables, index: number): void {
    const { slots } = this.#trace.header;
    const table = tables.table(index);
    const width = this.#experts.length;
    for (let token = 0; token < rows.length; token++) {
      const start = (first + token) * slots;
      for (let slot = start; slot < start + this.#k; slot++) {
        const expert = experts[slot]!;
        if (expert === NO_EXPERT) continue;
        const column = this.#place[expert]!;
        if (column === -1) continue;
        const place = rows[token]! * width + column;
        const count = table[place]! + 1;
        table[place] = count;
        if (count === 2 ** 16) tables.carry(index, place);
      }
    }
  }

  counts(): TokenIdCounts {
    return {
      k: this.#k,
      layers: this.#chosen.layers,
      numExperts: this.#trace.header.numExperts,
      experts: this.#experts,
      sources: this.#sources
        .map(({ name, tables }) => ({ name, ids: tables.result() }))
        .filter(({ ids }) => ids.ids.length > 0),
    };
  }
}

/** Histograms of counts, wherever they are from. */
export function tokenIdHistograms(counts: TokenIdCounts, options: TokenIdOptions = {}): TokenIdResult {
  const { k, layers, numExperts, experts, sources } = counts;
  const { bins = 20 } = options;
  const least = checkLeast(options.leastOccurrences ?? 8);
  if (!(Number.isInteger(bins) && bins >= 1)) {
    throw new ConfigError(`bins: ${bins}, expected a whole number from 1 on`);
  }
  return {
    analysis: "token-ids",
    definition: `Of each id that occurs at least ${least} times in a domain, the share of its tokens that has the expert among the first k; the histogram counts ids (paper, figure 32).`,
    k,
    layers,
    tokens: sumOf(sources.map(({ ids }) => sumOf(ids.occurrences))),
    leastOccurrences: least,
    uniform: k / numExperts,
    histograms: layers.flatMap((layer, table) =>
      experts.flatMap((expert, column) =>
        sources.map(({ name, ids }) => ({
          layer,
          expert,
          domain: name,
          ...histogram(ids, table, column, least, bins),
        })),
      ),
    ),
  };
}

function histogram(ids: IdCounts, table: number, column: number, least: number, bins: number) {
  const counts = Array<number>(bins).fill(0);
  let [found, sum] = [0, 0];
  forEachId(ids, table, (_, occurrences, row) => {
    if (occurrences < least) return;
    const value = row[column]! / occurrences;
    counts[Math.min(bins - 1, Math.floor(value * bins))]! += 1;
    found += 1;
    sum += value;
  });
  return { ids: found, counts, mean: found === 0 ? Number.NaN : sum / found };
}
