/** Several models' routing of the same text, token by token: router saturation and churn. */
import { ConfigError, DataError } from "../errors.ts";
import { cutChunk, NO_EXPERT, type Trace, type TraceChunk, type TraceColumn } from "../formats/trace.ts";
import { turn } from "../util/turn.ts";
import { type AnalyseOptions, chooseK, chooseLayers, columnOf, type LayerOptions } from "./analysis.ts";

/** A trace and what it is called in results. */
export interface NamedTrace {
  readonly name: string;
  readonly trace: Trace;
}

/** What one layer of two traces has in common, over some sequences. */
export interface OverlapCounts {
  tokens: number;
  /** Experts that were among the first k before. */
  before: number;
  /** Experts that are among the first k now. */
  now: number;
  /** Experts that are in both sets. */
  shared: number;
  /** Tokens whose sets differ. */
  changed: number;
}

export interface PairOverlap {
  /** Indices into the names. */
  readonly before: number;
  readonly now: number;
  /** [unit][L]: sequences whose numbers are equal modulo `UNITS` are one unit. */
  readonly units: readonly (readonly OverlapCounts[])[];
}

export interface OverlapResult {
  readonly names: readonly string[];
  readonly steps: readonly (number | undefined)[];
  readonly k: number;
  readonly layers: readonly number[];
  readonly numExperts: number;
  readonly tokens: number;
  readonly pairs: readonly PairOverlap[];
}

/** As many units as `expertCounts.ts` has of a source. */
const UNITS = 256;

/**
 * Reads traces of one text side by side, each once, and counts what the experts of each token have in common.
 * @param pairs which traces to compare, as indices: [before, now].
 * @throws ConfigError where the traces are not of one text, or not of models with as many experts and the same layers.
 */
export async function countOverlaps(
  traces: readonly NamedTrace[],
  pairs: readonly (readonly [before: number, now: number])[],
  { k: asked, layers: wanted, signal, onProgress }: LayerOptions & AnalyseOptions = {},
): Promise<OverlapResult> {
  const first = checkAlike(traces);
  // Of models of different k no more than all of them have.
  const narrowest = traces.reduce((one, other) => (other.trace.header.slots < one.trace.header.slots ? other : one));
  const k = chooseK(narrowest.trace, asked);
  const { layers, places } = chooseLayers(first, wanted);
  const counters = pairs.map(([before, now]) => ({ before, now, units: new Map<number, OverlapCounts[]>() }));
  let tokens = 0;
  for await (const chunks of sideBySide(traces, signal)) {
    checkIds(traces, chunks);
    const [chunk] = chunks as [TraceChunk];
    for (const { before, now, units } of counters) {
      const sides = [before, now].map((index) => sideOf(traces[index]!.trace, chunks[index]!));
      let from = 0;
      for (const run of chunk.runs) {
        const unit = unitOf(units, run.sequence % UNITS, layers.length);
        for (const [index, place] of places.entries()) {
          addOverlap(sides as [Side, Side], place * chunk.tokens + from, run.tokens, k, unit[index]!);
        }
        from += run.tokens;
      }
    }
    tokens += chunk.tokens;
    onProgress?.({ tokens, of: first.tokens });
    await turn();
  }
  return {
    names: traces.map(({ name }) => name),
    steps: traces.map(({ trace }) => trace.header.step),
    k,
    layers,
    numExperts: first.header.numExperts,
    tokens,
    pairs: counters.map(({ before, now, units }) => ({
      before,
      now,
      units: [...units].sort(([a], [b]) => a - b).map(([, unit]) => unit),
    })),
  };
}

function unitOf(units: Map<number, OverlapCounts[]>, number: number, layers: number): OverlapCounts[] {
  let unit = units.get(number);
  if (unit === undefined) {
    unit = Array.from({ length: layers }, () => ({ tokens: 0, before: 0, now: 0, shared: 0, changed: 0 }));
    units.set(number, unit);
  }
  return unit;
}

/** What can be told before reading. @returns the first trace. */
function checkAlike(traces: readonly NamedTrace[]): Trace {
  const [first, ...others] = traces;
  if (first === undefined || others.length === 0) {
    throw new ConfigError(`compare: ${traces.length} traces, expected at least 2 of the same text`);
  }
  for (const { name, trace } of others) {
    const differ = (mine: string, theirs: string) => {
      if (mine === theirs) return;
      throw new ConfigError(`compare: ${first.name} has ${mine}, ${name} has ${theirs}`, {
        hint: "record both with olmoe trace from the same input, with models of one shape",
      });
    };
    const [one, other] = [first.trace, trace];
    differ(`${one.tokens} tokens`, `${other.tokens} tokens`);
    differ(`${one.header.numExperts} experts`, `${other.header.numExperts} experts`);
    differ(`layers ${one.header.layers.join(", ")}`, `layers ${other.header.layers.join(", ")}`);
  }
  return first.trace;
}

function checkIds(traces: readonly NamedTrace[], chunks: readonly TraceChunk[]): void {
  const [first, ...others] = chunks as [TraceChunk, ...TraceChunk[]];
  const ids = columnOf(first, "ids");
  for (const [index, other] of others.entries()) {
    const theirs = columnOf(other, "ids");
    const token = ids.findIndex((id, place) => id !== theirs[place]);
    if (token === -1) continue;
    throw new ConfigError(
      `compare: token ${first.start + token} is id ${ids[token]} in ${traces[0]!.name} and id ${theirs[token]} in ${traces[index + 1]!.name}, expected traces of the same text`,
      { hint: "record both with olmoe trace from the same input, with one tokenizer" },
    );
  }
}

const COLUMNS: readonly TraceColumn[] = ["ids", "experts"];

/** Chunks of all traces, cut where any of them ends one. */
async function* sideBySide(
  traces: readonly NamedTrace[],
  signal: AbortSignal | undefined,
): AsyncGenerator<readonly TraceChunk[]> {
  const readers = traces.map(({ trace }) => trace.chunks({ columns: COLUMNS, signal })[Symbol.asyncIterator]());
  const current: (TraceChunk | undefined)[] = traces.map(() => undefined);
  try {
    for (let start = 0; start < traces[0]!.trace.tokens; ) {
      for (const [index, reader] of readers.entries()) {
        while (endOf(current[index]) <= start) {
          const { value, done } = await reader.next();
          if (done === true)
            throw new DataError(`trace: ${traces[index]!.name} ends at token ${start}, before its end`);
          current[index] = value;
        }
      }
      signal?.throwIfAborted();
      const end = Math.min(...current.map(endOf));
      yield current.map((chunk, index) =>
        cutChunk(chunk!, traces[index]!.trace.header.layers.length, { columns: COLUMNS, start, end }),
      );
      start = end;
    }
  } finally {
    for (const reader of readers) await reader.return?.();
  }
}

const endOf = (chunk: TraceChunk | undefined) => (chunk === undefined ? 0 : chunk.start + chunk.tokens);

interface Side {
  readonly experts: Int16Array;
  readonly slots: number;
}

function sideOf({ header }: Trace, chunk: TraceChunk): Side {
  return { experts: columnOf(chunk, "experts"), slots: header.slots };
}

/** Adds tokens from row `first` of [L * T, S] on. */
function addOverlap(
  sides: readonly [Side, Side],
  first: number,
  tokens: number,
  k: number,
  counts: OverlapCounts,
): void {
  const [{ experts: old, slots: oldSlots }, { experts: now, slots: nowSlots }] = sides;
  let [before, after, shared, changed] = [0, 0, 0, 0];
  for (let row = first; row < first + tokens; row++) {
    const oldStart = row * oldSlots;
    const nowStart = row * nowSlots;
    let oldSize = 0;
    let nowSize = 0;
    let both = 0;
    for (let slot = oldStart; slot < oldStart + k; slot++) if (old[slot] !== NO_EXPERT) oldSize++;
    for (let slot = nowStart; slot < nowStart + k; slot++) {
      const expert = now[slot]!;
      if (expert === NO_EXPERT) continue;
      nowSize++;
      for (let other = oldStart; other < oldStart + k; other++) {
        if (old[other] !== expert) continue;
        both++;
        break;
      }
    }
    before += oldSize;
    after += nowSize;
    shared += both;
    if (both !== nowSize || both !== oldSize) changed++;
  }
  counts.tokens += tokens;
  counts.before += before;
  counts.now += after;
  counts.shared += shared;
  counts.changed += changed;
}
