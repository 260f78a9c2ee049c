/**
 * The bytes of a routing trace, version 1 (docs/routing.md). Everything is little-endian and begins at a multiple of 8:
 *
 *   "OLMOEtrc"  u32 version  u32 0
 *   records: u32 kind  u32 bytes of meta  u32 CRC-32C of meta  u32 bytes of body | meta, JSON padded with spaces | body
 *     HEAD  meta: the header
 *     CHNK  meta: place, runs, what sources and vocabulary it adds, a CRC-32C for each column; body: the columns, padded
 *     INDX  meta: where chunks are, and all sources and vocabulary
 *   u64 offset of INDX  "OLMOEend"
 *
 * A file without INDX is one that is still being written, or was cut off; its whole chunks can be read all the same.
 */
import { z } from "zod";
import { columnWidth, TRACE_COLUMNS, type TraceColumn, type TraceHeader } from "./trace.ts";

export const MAGIC = "OLMOEtrc";
export const END_MAGIC = "OLMOEend";
export const VERSION = 1;
export const HEAD_BYTES = 16;
export const RECORD_BYTES = 16;
export const TAIL_BYTES = 16;
/** No file of ours has more; a length beyond is damage. */
const MOST_CHUNK_TOKENS = 2 ** 16;
export const MOST_META_BYTES = 2 ** 28;

const fourCc = (name: string) => new DataView(new TextEncoder().encode(name).buffer).getUint32(0, true);
export const KINDS = { head: fourCc("HEAD"), chunk: fourCc("CHNK"), index: fourCc("INDX") } as const;

const natural = z.int().min(0);
const positive = z.int().min(1);
const digest = z.string().min(1);

export const headerSchema = z
  .strictObject({
    model: z.strictObject({ name: z.string(), digest, vocabSize: positive }),
    tokenizer: z.strictObject({ digest, vocabSize: positive }).optional(),
    numExperts: positive.max(2 ** 15),
    topK: positive,
    slots: positive.max(2 ** 15),
    layers: z.array(natural).min(1).max(4096),
    columns: z.array(z.enum(TRACE_COLUMNS)),
    origin: z.enum(["training", "evaluation", "score", "generate"]),
    step: natural.optional(),
    trainedTokens: natural.optional(),
    interventions: z.unknown().optional(),
  })
  .refine(({ columns }) => new Set(columns).size === columns.length, "columns: one is named twice")
  .refine(
    ({ columns }) => ["ids", "experts", "weights"].every((name) => columns.includes(name as TraceColumn)),
    "columns: ids, experts and weights must be among them",
  );

const vocabularySchema = z.array(z.tuple([natural, z.string()]));
export const chunkSchema = z.strictObject({
  start: natural,
  tokens: positive.max(MOST_CHUNK_TOKENS),
  /** Sequence, source, position, tokens. */
  runs: z.array(z.tuple([natural, natural, natural, positive])),
  sources: z.array(z.string()),
  vocabulary: vocabularySchema,
  crc: z.array(natural),
});
export const indexSchema = z.strictObject({
  tokens: natural,
  /** Offset, tokens. */
  chunks: z.array(z.tuple([positive, positive.max(MOST_CHUNK_TOKENS)])),
  sources: z.array(z.string()),
  vocabulary: vocabularySchema,
});
export type ChunkMeta = z.output<typeof chunkSchema>;
export type Index = z.output<typeof indexSchema>;

/** The whole chunks of a file without an index. */
export interface WholeChunks {
  readonly header: TraceHeader;
  readonly index: Index;
  /** Where the last of them ends. */
  readonly end: number;
}

export const padded = (bytes: number) => Math.ceil(bytes / 8) * 8;

/** Experts fit into a signed byte up to 127. */
export const expertBytes = (header: TraceHeader) => (header.numExperts <= 127 ? 1 : 2);

export function elementBytes(column: TraceColumn, header: TraceHeader): number {
  if (column === "experts") return expertBytes(header);
  return column === "weights" || column === "probabilities" ? 2 : 4;
}

/** Bytes of a column of T tokens, without padding. */
export function columnBytes(column: TraceColumn, header: TraceHeader, tokens: number): number {
  return tokens * columnWidth(column, header) * elementBytes(column, header);
}

/** Bytes that a token takes in a file, apart from what is said once for a chunk. */
export function traceBytesPerToken(header: TraceHeader): number {
  return header.columns.reduce((sum, column) => sum + columnBytes(column, header, 1), 0);
}

export type ColumnArray = Int16Array | Int32Array | Float32Array;

export function newColumn(column: TraceColumn, length: number): ColumnArray {
  if (column === "experts") return new Int16Array(length);
  return column === "ids" || column === "predicted" ? new Int32Array(length) : new Float32Array(length);
}
