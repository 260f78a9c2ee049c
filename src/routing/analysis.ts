/**
 * How routing is analysed: a trace is counted once, chunk by chunk, and statistics are made of the counts. Several
 * analyses share one pass, and those that need the same counts share these too. All of it runs in a page.
 */
import { ConfigError, DataError } from "../errors.ts";
import type { Trace, TraceChunk, TraceColumn } from "../formats/trace.ts";
import { turn } from "../util/turn.ts";

/** What is known of a trace before it is read. */
export type TraceInfo = Pick<Trace, "header" | "sources">;

/** Adds up chunks, in whatever order and however they are cut. */
export interface Counter<C> {
  add(chunk: TraceChunk): void;
  counts(): C;
}

/** A way of counting. Two with the same key count the same. */
export interface Counting<C> {
  readonly key: string;
  readonly columns: readonly TraceColumn[];
  start(trace: TraceInfo): Counter<C>;
}

/** What every result says of itself. */
export interface ResultHead {
  readonly analysis: string;
  /** What the numbers are, with the paper's equation where there is one. */
  readonly definition: string;
  /** Experts of each token that were counted: its first k. */
  readonly k: number;
  readonly layers: readonly number[];
  /** Tokens that were counted. */
  readonly tokens: number;
}

/** Counts and the statistics of them. `R` is plain data, fit for JSON (where a number that is not finite is null). */
export interface Analysis<C, R extends ResultHead> {
  readonly name: string;
  readonly counting: Counting<C>;
  statistics(counts: C): R;
}

/** What analyses of layers and ranks are asked. */
export interface LayerOptions {
  /** Experts of each token to count: the first k, the most probable first; default: all slots of the trace. */
  readonly k?: number | undefined;
  /** Layers to count, as the model numbers them; default: all of the trace. */
  readonly layers?: readonly number[] | undefined;
}

export interface AnalysisProgress {
  /** Tokens that are read. */
  readonly tokens: number;
  readonly of: number;
}

export interface AnalyseOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: AnalysisProgress) => void) | undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: counts differ from analysis to analysis, and only the analysis itself sees its own.
type AnyAnalysis = Analysis<any, ResultHead>;
export type ResultsOf<A extends readonly AnyAnalysis[]> = {
  readonly [I in keyof A]: A[I] extends { statistics(counts: never): infer R } ? R : never;
};

/**
 * Reads a trace once for all analyses.
 * @returns the results, in the order of the analyses.
 * @throws ConfigError for a column, a layer or a k that the trace does not have; the signal's reason when it is aborted.
 */
export async function analyse<const A extends readonly AnyAnalysis[]>(
  trace: Trace,
  analyses: A,
  { signal, onProgress }: AnalyseOptions = {},
): Promise<ResultsOf<A>> {
  const countings = new Map(analyses.map(({ counting }) => [counting.key, counting]));
  const counters = new Map(Array.from(countings, ([key, counting]) => [key, counting.start(trace)]));
  const columns = [...new Set([...countings.values()].flatMap((counting) => counting.columns))];
  let tokens = 0;
  for await (const chunk of trace.chunks({ columns, signal })) {
    for (const counter of counters.values()) counter.add(chunk);
    tokens += chunk.tokens;
    onProgress?.({ tokens, of: trace.tokens });
    await turn();
    signal?.throwIfAborted();
  }
  const counts = new Map(Array.from(counters, ([key, counter]) => [key, counter.counts()]));
  return analyses.map((analysis) => analysis.statistics(counts.get(analysis.counting.key))) as ResultsOf<A>;
}

/** Which layers are counted: their numbers, and their places in a trace's arrays. */
export interface ChosenLayers {
  readonly layers: readonly number[];
  readonly places: readonly number[];
}

/** @throws ConfigError for a layer that the trace does not have. */
export function chooseLayers({ header }: TraceInfo, layers: readonly number[] = header.layers): ChosenLayers {
  const places = layers.map((layer) => header.layers.indexOf(layer));
  const missing = layers.find((_, index) => places[index] === -1);
  if (missing !== undefined) {
    throw new ConfigError(`layers: ${missing}, the trace has ${header.layers.join(", ")}`);
  }
  return { layers, places };
}

/** @throws ConfigError for a k that is no whole number from 1 to the trace's slots. */
export function chooseK({ header }: TraceInfo, k: number = header.slots): number {
  if (Number.isInteger(k) && k >= 1 && k <= header.slots) return k;
  throw new ConfigError(
    `k: ${k}, expected a whole number from 1 to ${header.slots}, the experts of a token in the trace`,
  );
}

/** An array of a chunk. @throws DataError where the chunk lacks it, which is a fault of whoever reads the trace. */
export function columnOf<N extends TraceColumn>(chunk: TraceChunk, column: N): NonNullable<TraceChunk[N]> {
  const values = chunk[column];
  if (values === undefined) throw new DataError(`trace: the chunk at token ${chunk.start} has no ${column}`);
  return values as NonNullable<TraceChunk[N]>;
}

/** Distinguishes countings by what they were asked. */
export function countingKey(name: string, options: object): string {
  return `${name} ${JSON.stringify(options)}`;
}

/** A quotient; NaN where there is nothing to divide by. */
export function share(part: number, whole: number): number {
  return whole === 0 ? Number.NaN : part / whole;
}

export function sumOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += values[index]!;
  return sum;
}
