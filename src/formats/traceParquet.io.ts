/** A trace as a Parquet file, one row for each token and layer, by DuckDB. */
import { rm } from "node:fs/promises";
import { resolve } from "node:path";
import {
  DuckDBDataChunk,
  DuckDBInstance,
  type DuckDBType,
  type DuckDBValue,
  FLOAT,
  INTEGER,
  LIST,
  listValue,
  SMALLINT,
  VARCHAR,
} from "@duckdb/node-api";
import { DataError, ResourceError } from "../errors.ts";
import { isMissing, openRegular } from "../util/files.io.ts";
import { columnWidth, isLayered, type Trace, type TraceChunk, type TraceColumn } from "./trace.ts";

export interface ExportTraceOptions {
  /** Replace a file that is there; default: refuse. */
  readonly overwrite?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told of the tokens so far. */
  readonly onProgress?: ((tokens: number) => void) | undefined;
}

/** Rows that go to DuckDB at a time: its vectors have no more. */
const VECTOR_ROWS = 2048;
const MEMORY_LIMIT = "1GB";

/** What Parquet calls a column, and how it holds it. */
const COLUMNS: Readonly<Record<TraceColumn, readonly [name: string, type: DuckDBType]>> = {
  ids: ["id", INTEGER],
  experts: ["experts", LIST(SMALLINT)],
  weights: ["weights", LIST(FLOAT)],
  predicted: ["predicted", INTEGER],
  logprobs: ["logprob", FLOAT],
  probabilities: ["probabilities", LIST(FLOAT)],
  logits: ["logits", LIST(FLOAT)],
};

/**
 * Writes `token` (its place in the trace), `sequence`, `source`, `position`, `layer`, `text` (as the vocabulary has it) and the
 * trace's columns: `id`, `experts`, `weights` and what else it has. Memory stays the same however long the trace is.
 * @throws DataError for a file that is there already; ResourceError where the disk is full; the signal's reason.
 */
export async function exportTrace(
  trace: Trace,
  path: string,
  { overwrite = false, signal, onProgress }: ExportTraceOptions = {},
): Promise<void> {
  if (!overwrite) await refuseExisting(path);
  const scratch = `${resolve(path)}.${process.pid}.tmp`;
  const types: DuckDBType[] = [INTEGER, INTEGER, VARCHAR, INTEGER, SMALLINT, VARCHAR];
  const names = ["token", "sequence", "source", "position", "layer", "text"];
  for (const column of trace.header.columns) {
    names.push(COLUMNS[column][0]);
    types.push(COLUMNS[column][1]);
  }
  const instance = await DuckDBInstance.create(scratch, {
    memory_limit: MEMORY_LIMIT,
    autoload_known_extensions: "false",
  });
  const connection = await instance.connect();
  try {
    await connection.run(`CREATE TABLE trace (${names.map((name, index) => `"${name}" ${types[index]}`).join(", ")})`);
    const appender = await connection.createAppender("trace");
    for await (const chunk of trace.chunks({ signal })) {
      for (const rows of batches(rowsOf(trace, chunk))) {
        const vectors = DuckDBDataChunk.create(types, rows.length);
        vectors.setRows(rows);
        appender.appendDataChunk(vectors);
      }
      onProgress?.(chunk.start + chunk.tokens);
    }
    appender.closeSync();
    signal?.throwIfAborted();
    const target = resolve(path).replaceAll("'", "''");
    await connection.run(`COPY (SELECT * FROM trace) TO '${target}' (FORMAT parquet, COMPRESSION zstd)`);
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof DataError) throw cause;
    const [reason = ""] = (cause as Error).message.split("\n");
    throw new ResourceError(`${path}: can not be written as Parquet, ${reason}`, { hint: "check the disk", cause });
  } finally {
    connection.closeSync();
    instance.closeSync();
    await rm(scratch, { force: true });
    await rm(`${scratch}.wal`, { force: true });
  }
}

async function refuseExisting(path: string): Promise<void> {
  const there = await openRegular(path).catch((error: Error) => {
    if (isMissing(error.cause)) return undefined;
    throw error;
  });
  if (there === undefined) return;
  await there.file.close();
  throw new DataError(`${path}: is there already`, { hint: "choose another name, or replace it with --force" });
}

function* batches(rows: Iterable<DuckDBValue[]>): Generator<DuckDBValue[][]> {
  let batch: DuckDBValue[][] = [];
  for (const row of rows) {
    batch.push(row);
    if (batch.length < VECTOR_ROWS) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

function* rowsOf({ header, sources, vocabulary }: Trace, chunk: TraceChunk): Generator<DuckDBValue[]> {
  const layers = header.layers.length;
  const value = (column: TraceColumn, layer: number, token: number): DuckDBValue => {
    const values = chunk[column] as Int16Array | Int32Array | Float32Array;
    if (!isLayered(column)) return values[token] as number;
    const width = columnWidth(column, header) / layers;
    const start = (layer * chunk.tokens + token) * width;
    return listValue(Array.from(values.subarray(start, start + width)));
  };
  let first = 0;
  for (const { sequence, source, position, tokens } of chunk.runs) {
    for (let token = first; token < first + tokens; token++) {
      const id = chunk.ids?.[token] as number;
      const place = [chunk.start + token, sequence, sources[source] as string, position + token - first];
      for (const [layer, number] of header.layers.entries()) {
        const columns = header.columns.map((column) => value(column, layer, token));
        yield [...place, number, vocabulary.get(id) ?? null, ...columns];
      }
    }
    first += tokens;
  }
}
