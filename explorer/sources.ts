/** Where a trace comes from. Such a description can be sent to a worker, which opens the same trace for itself. */
import { memoryTrace, type Trace, type TraceChunk, type TraceHeader } from "../src/formats/trace.ts";
import { type ByteSource, openTraceSource } from "../src/formats/traceReader.ts";
import { type ExampleSize, exampleTrace } from "./example.ts";

export type TraceSource =
  | { readonly kind: "file"; readonly name: string; readonly blob: Blob }
  /** Served: bytes are fetched as they are needed. */
  | { readonly kind: "address"; readonly name: string; readonly url: string; readonly bytes: number }
  | { readonly kind: "example"; readonly name: string; readonly size: ExampleSize; readonly step: number }
  | {
      readonly kind: "memory";
      readonly name: string;
      readonly header: TraceHeader;
      readonly chunks: readonly TraceChunk[];
      readonly sources: readonly string[];
      readonly vocabulary: ReadonlyMap<number, string>;
    };

/** With a number of its own among all that were ever opened in the page. */
export type KnownSource = TraceSource & { readonly key: number };

async function fetchRange(url: string, name: string, offset: number, length: number) {
  const response = await fetch(url, { headers: { range: `bytes=${offset}-${offset + length - 1}` } });
  if (response.status !== 206)
    throw new Error(`${name}: the server answered ${response.status}, expected a part of it`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes.length !== length) throw new Error(`${name}: ${bytes.length} bytes came, expected ${length}`);
  return bytes;
}

const nothing = new Uint8Array(0);

/** A trace in a file, of an unfinished one what is whole. */
async function openBytes(source: ByteSource): Promise<Trace> {
  const trace = await openTraceSource(source, { partial: true });
  if (trace.unfinished !== true || trace.tokens > 0) return trace;
  throw new Error(`${source.name}: unfinished, none of its ${source.bytes} bytes are a whole chunk of tokens`);
}

/** @throws DataError for what is no trace or damaged; an Error for an unfinished one in which no token is whole yet. */
export async function openSource(source: TraceSource): Promise<Trace> {
  const { name } = source;
  switch (source.kind) {
    case "example":
      return exampleTrace(source.size, source.step);
    case "memory":
      return memoryTrace(source.header, source.chunks, source);
    case "file": {
      const { blob } = source;
      const read = async (offset: number, length: number) =>
        new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      return openBytes({ name, bytes: blob.size, read });
    }
    case "address": {
      const { url, bytes } = source;
      const read = async (offset: number, length: number) =>
        length === 0 ? nothing : fetchRange(url, name, offset, length);
      return openBytes({ name, bytes, read });
    }
  }
}
