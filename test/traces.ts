/** Traces for tests: random ones, and files of them in memory. */
import { TRACE_COLUMNS, type TraceColumn, type TraceHeader } from "../src/formats/trace.ts";
import { TraceEncoder, type TraceRows } from "../src/formats/traceEncoder.ts";
import { createRandom, uniform } from "../src/util/random.ts";

/** Of a model of two layers (0 and 2 of three) with four experts, two for each token. */
export const TINY_HEADER: TraceHeader = {
  model: { name: "tiny", digest: "m1", vocabSize: 50 },
  tokenizer: { digest: "t1", vocabSize: 50 },
  numExperts: 4,
  topK: 2,
  slots: 2,
  layers: [0, 2],
  columns: ["ids", "experts", "weights"],
  origin: "score",
};

/** Rows of random values that a file holds exactly: halves and quarters, in every column. */
export function randomRows(header: TraceHeader, tokens: number, seed: number): TraceRows {
  const random = createRandom(seed, "test/traces");
  const below = (count: number) => Math.floor(uniform(random) * count);
  const [layers, { slots, numExperts }] = [header.layers.length, header];
  const make: Record<TraceColumn, () => Int16Array | Int32Array | Float32Array> = {
    ids: () => Int32Array.from({ length: tokens }, () => below(header.model.vocabSize)),
    experts: () => Int16Array.from({ length: layers * tokens * slots }, () => below(numExperts + 1) - 1),
    weights: () => Float32Array.from({ length: layers * tokens * slots }, () => below(1025) / 1024),
    predicted: () => Int32Array.from({ length: tokens }, () => below(header.model.vocabSize)),
    logprobs: () => Float32Array.from({ length: tokens }, () => (below(5) === 0 ? Number.NaN : -uniform(random))),
    probabilities: () => Float32Array.from({ length: layers * tokens * numExperts }, () => below(1025) / 1024),
    logits: () => Float32Array.from({ length: layers * tokens * numExperts }, () => uniform(random) - 0.5),
  };
  const columns = TRACE_COLUMNS.filter((column) => header.columns.includes(column));
  return { tokens, ...Object.fromEntries(columns.map((column) => [column, make[column]()])) };
}

export function joinBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let end = 0;
  for (const part of parts) {
    bytes.set(part, end);
    end += part.byteLength;
  }
  return bytes;
}

/** A file of sequences, each in one piece. */
export function traceBytes(
  header: TraceHeader,
  sequences: readonly { readonly source: string; readonly rows: TraceRows }[],
  options?: ConstructorParameters<typeof TraceEncoder>[1],
): Uint8Array<ArrayBuffer> {
  const encoder = new TraceEncoder(header, options);
  return joinBytes([
    ...encoder.begin(),
    ...sequences.flatMap(({ source, rows }, sequence) => encoder.add({ sequence, source, position: 0 }, rows)),
    ...encoder.end(),
  ]);
}
