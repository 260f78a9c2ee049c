/** Runs a model over texts and writes down where their tokens go. */
import { cutRows, type TraceHeader, type TraceRows } from "../formats/trace.ts";
import type { TraceRowsOf } from "../formats/traceEncoder.ts";
import type { Engine, TraceOptions } from "../infer/engine.ts";

/** Tokens to read from an empty context. */
export interface Sequence {
  /** Where the text is from. */
  readonly source: string;
  readonly ids: Int32Array;
}

/** What takes a trace's rows: a `TraceWriter`, or whoever wants them as they come. */
export interface TraceSink {
  readonly header: TraceHeader;
  add(of: TraceRowsOf, rows: TraceRows): Promise<void>;
}

export interface RecordOptions extends Omit<TraceOptions, "columns"> {
  /** Tokens that the sink has already: the first sequences, the last of them perhaps in part. */
  readonly done?: number | undefined;
  /** Told after each sequence of all tokens so far. */
  readonly onProgress?: ((tokens: number) => void) | undefined;
}

/** Sequences that are in the engine at once. */
const AT_ONCE = 16;

/**
 * Traces sequences, several at a time; rows come in the order of the sequences and do not depend on how many there are.
 * @returns tokens in all, those that were done before included.
 * @throws ShapeError for a sequence that is longer than the engine's context; the signal's reason when it is aborted.
 */
export async function recordTrace(
  engine: Pick<Engine, "trace">,
  sequences: AsyncIterable<Sequence> | Iterable<Sequence>,
  sink: TraceSink,
  { done = 0, onProgress, ...options }: RecordOptions = {},
): Promise<number> {
  const { columns } = sink.header;
  const running: { readonly of: TraceRowsOf; readonly rows: Promise<TraceRows> }[] = [];
  let [begun, written] = [0, done];
  const writeFirst = async () => {
    const first = running.shift();
    if (first === undefined) return;
    const all = await first.rows;
    const rows = cutRows(all, sink.header.layers.length, first.of.position, all.tokens);
    await sink.add(first.of, rows);
    written += rows.tokens;
    onProgress?.(written);
  };
  let sequence = 0;
  for await (const { source, ids } of sequences) {
    options.signal?.throwIfAborted();
    const position = Math.max(0, Math.min(done - begun, ids.length));
    begun += ids.length;
    if (position < ids.length) {
      const rows = engine.trace(ids, { ...options, columns });
      // It may fail while an earlier one is written, and where one has failed nobody waits for the others.
      rows.catch(() => undefined);
      running.push({ of: { sequence, source, position }, rows });
    }
    sequence += 1;
    if (running.length >= AT_ONCE) await writeFirst();
  }
  while (running.length > 0) await writeFirst();
  return written;
}
