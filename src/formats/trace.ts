/**
 * A routing trace: which experts every token of some text was sent to, in every layer, with which weights. This file has
 * what a trace consists of; `traceFile.ts` has its bytes, `trace.io.ts` files of them. docs/routing.md describes both.
 *
 * Letters: T tokens, L layers with experts, S slots of a token (K, the experts of each token, where tokens choose theirs),
 * E experts of a layer.
 */
import { ConfigError } from "../errors.ts";

/** Arrays that a trace may have. The first three are always there; the others say what their names say, and no two are alike. */
export const TRACE_COLUMNS = [
  /** [T] the token that was read. */
  "ids",
  /** [L, T, S] the experts that served it, the most probable first. */
  "experts",
  /** [L, T, S] what multiplied their outputs. */
  "weights",
  /** [T] the token that the model finds most probable next. */
  "predicted",
  /** [T] natural logarithm of the probability of the token that comes next in the sequence; NaN where none is known. */
  "logprobs",
  /** [L, T, E] the router's probabilities, before any expert is chosen. */
  "probabilities",
  /** [L, T, E] the router's logits: what the softmax is taken of. */
  "logits",
] as const;
export type TraceColumn = (typeof TRACE_COLUMNS)[number];

/** In a slot that holds no expert. */
export const NO_EXPERT = -1;

/** What a trace was made of, and how it is laid out. */
export interface TraceHeader {
  readonly model: {
    /** As its user calls it. */
    readonly name: string;
    /** Tells models apart: see `modelDigest` in docs/routing.md. */
    readonly digest: string;
    readonly vocabSize: number;
  };
  /** Undefined where ids were traced that no tokenizer made. */
  readonly tokenizer?: { readonly digest: string; readonly vocabSize: number } | undefined;
  /** E. */
  readonly numExperts: number;
  /** K. */
  readonly topK: number;
  /** S: K, or more where an intervention or a router whose experts choose gives a token more. */
  readonly slots: number;
  /** The layers that have experts, numbered from 0, in order: L of them. */
  readonly layers: readonly number[];
  readonly columns: readonly TraceColumn[];
  /** What was run. */
  readonly origin: "training" | "evaluation" | "score" | "generate";
  /** Of a checkpoint of a training run. */
  readonly step?: number | undefined;
  /** Tokens the model was trained on by then. */
  readonly trainedTokens?: number | undefined;
  /** The interventions that were in force, as data. */
  readonly interventions?: unknown;
}

/** Neighbouring tokens of one sequence. */
export interface TraceRun {
  /** Numbered from 0 in the order in which they were begun. A sequence may be in several runs, in order of positions. */
  readonly sequence: number;
  /** Where its text is from, such as a source of the data or a file: an index into the trace's `sources`. */
  readonly source: number;
  /** Position of the first token in its sequence. */
  readonly position: number;
  readonly tokens: number;
}

/** Some neighbouring tokens of a trace. Arrays of columns that were not asked for, or that the trace lacks, are missing. */
export interface TraceChunk {
  /** The first token's place in the trace. */
  readonly start: number;
  /** T. */
  readonly tokens: number;
  /** Of all its tokens, in order. */
  readonly runs: readonly TraceRun[];
  readonly ids?: Int32Array;
  /** [L, T, S]; NO_EXPERT in a slot that holds none. */
  readonly experts?: Int16Array;
  readonly weights?: Float32Array;
  readonly predicted?: Int32Array;
  readonly logprobs?: Float32Array;
  readonly probabilities?: Float32Array;
  readonly logits?: Float32Array;
}

/** Columns of neighbouring tokens of one sequence, as in a chunk. */
export type TraceRows = Pick<TraceChunk, "tokens" | TraceColumn>;

export interface TraceSelection {
  /** Arrays that are wanted; default: all that there are. Those that are not wanted are not read. */
  readonly columns?: readonly TraceColumn[];
  /** First token; default 0. */
  readonly start?: number;
  /** The token after the last one; default: the trace's end. */
  readonly end?: number;
  readonly signal?: AbortSignal | undefined;
}

/** A trace that can be read any number of times, from any token on, in memory that does not grow with its length. */
export interface Trace {
  readonly header: TraceHeader;
  readonly tokens: number;
  /** Set where more tokens were to come: a file that is still being written or was cut off, of which this is what is whole. */
  readonly unfinished?: true;
  /** Names that runs refer to. */
  readonly sources: readonly string[];
  /** How tokens are written in the tokenizer's vocabulary (each byte a printable letter, as GPT-2 has it), of those ids that the trace has. */
  readonly vocabulary: ReadonlyMap<number, string>;
  /** Chunks in order, cut to the selection. @throws ConfigError for a column that the trace lacks, or a range beyond it. */
  chunks(selection?: TraceSelection): AsyncIterable<TraceChunk>;
}

/** Whether a column has values for each layer: all of one layer, then those of the next. */
export function isLayered(column: TraceColumn): boolean {
  return column === "experts" || column === "weights" || column === "probabilities" || column === "logits";
}

/** Elements of one token in each column. */
export function columnWidth(column: TraceColumn, { layers, slots, numExperts }: TraceHeader): number {
  switch (column) {
    case "experts":
    case "weights":
      return layers.length * slots;
    case "probabilities":
    case "logits":
      return layers.length * numExperts;
    default:
      return 1;
  }
}

/** A selection with its defaults filled in. @throws as `Trace.chunks`. */
export function checkSelection(
  { header, tokens }: Pick<Trace, "header" | "tokens">,
  { columns = header.columns, start = 0, end = tokens }: TraceSelection,
): { readonly columns: readonly TraceColumn[]; readonly start: number; readonly end: number } {
  const missing = columns.find((column) => !header.columns.includes(column));
  if (missing !== undefined) {
    throw new ConfigError(`trace: it has no ${missing}, only ${header.columns.join(", ")}`, {
      hint: `record one with --columns ${[...header.columns, missing].join(",")}`,
    });
  }
  if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= tokens)) {
    throw new ConfigError(`trace: tokens ${start}..${end}, it has 0..${tokens}`);
  }
  return { columns, start, end };
}

/**
 * The part of a chunk that lies in [start, end) of the trace and has the columns that are wanted; arrays are views where
 * nothing is cut off, and copies elsewhere.
 */
export function cutChunk(
  chunk: TraceChunk,
  layers: number,
  { columns, start, end }: { readonly columns: readonly TraceColumn[]; readonly start: number; readonly end: number },
): TraceChunk {
  const from = Math.max(0, start - chunk.start);
  const to = Math.min(chunk.tokens, end - chunk.start);
  const tokens = Math.max(0, to - from);
  const whole = tokens === chunk.tokens;
  const cut = <A extends Int16Array | Int32Array | Float32Array>(values: A, parts: number): A => {
    if (whole) return values;
    const width = values.length / parts / chunk.tokens;
    const result = new (values.constructor as new (length: number) => A)(parts * tokens * width);
    for (let part = 0; part < parts; part++) {
      const row = part * chunk.tokens;
      result.set(values.subarray((row + from) * width, (row + to) * width), part * tokens * width);
    }
    return result;
  };
  const arrays = columns.flatMap((column) => {
    const values = chunk[column];
    return values === undefined ? [] : [[column, cut(values, isLayered(column) ? layers : 1)]];
  });
  return { start: chunk.start + from, tokens, runs: cutRuns(chunk.runs, from, to), ...Object.fromEntries(arrays) };
}

/** Rows `start` to before `end`. @param layers L. */
export function cutRows(rows: TraceRows, layers: number, start: number, end: number): TraceRows {
  const {
    start: _,
    runs: __,
    ...cut
  } = cutChunk({ start: 0, runs: [], ...rows }, layers, {
    columns: TRACE_COLUMNS,
    start,
    end,
  });
  return cut;
}

function cutRuns(runs: readonly TraceRun[], from: number, to: number): TraceRun[] {
  const result: TraceRun[] = [];
  let first = 0;
  for (const run of runs) {
    const [begin, end] = [Math.max(from, first), Math.min(to, first + run.tokens)];
    if (begin < end) result.push({ ...run, position: run.position + begin - first, tokens: end - begin });
    first += run.tokens;
  }
  return result;
}

/** A trace of chunks in memory, whose `start`s follow one another from 0. */
export function memoryTrace(
  header: TraceHeader,
  chunks: readonly TraceChunk[],
  { sources = ["text"], vocabulary = new Map() }: Partial<Pick<Trace, "sources" | "vocabulary">> = {},
): Trace {
  const trace = {
    header,
    sources,
    vocabulary,
    tokens: chunks.reduce((sum, { tokens }) => sum + tokens, 0),
    async *chunks({ signal, ...selection }: TraceSelection = {}) {
      const checked = checkSelection(trace, selection);
      for (const chunk of chunks) {
        signal?.throwIfAborted();
        if (chunk.start >= checked.end || chunk.start + chunk.tokens <= checked.start) continue;
        yield cutChunk(chunk, header.layers.length, checked);
      }
    },
  };
  return trace;
}
