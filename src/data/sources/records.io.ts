/** Records of one file of any format, in order. Finding and fetching files is in files.io.ts. */
import path from "node:path";
import { MAX_DOCUMENT_BYTES } from "../readFile.io.ts";
import { MAX_RECORD_BYTES, readBytes, readDocumentBytes } from "./bytes.io.ts";
import { readCsvRows } from "./csv.ts";
import {
  type FieldNames,
  type FileFormat,
  type Located,
  type Reading,
  readEmail,
  readHtml,
  readJsonLine,
  readText,
} from "./formats.ts";
import { splitLines } from "./lines.ts";

export interface RecordsOptions extends FieldNames {
  readonly format: FileFormat;
  /** What messages call the file; its ending tells the compression. */
  readonly name: string;
  readonly signal?: AbortSignal | undefined;
}

const isBlank = (line: Uint8Array) => line.every((byte) => byte <= 0x20);

async function* readJsonLines(chunks: AsyncIterable<Uint8Array>, names: FieldNames): AsyncGenerator<Iterable<Located>> {
  let line = 0;
  const readings = function* (lines: readonly (Uint8Array | undefined)[]): Generator<Located> {
    for (const bytes of lines) {
      line++;
      if (bytes === undefined) yield { line, reading: { fault: `longer than ${MAX_RECORD_BYTES} bytes` } };
      else if (!isBlank(bytes)) yield { line, reading: readJsonLine(bytes, names) };
    }
  };
  for await (const lines of splitLines(chunks, MAX_RECORD_BYTES)) yield readings(lines);
}

/** DuckDB takes a fifth of a second to load, which only those wait for who have such files. */
async function* readParquet(file: string, options: RecordsOptions): AsyncGenerator<Iterable<Located>> {
  const { readParquetRows } = await import("./parquet.io.ts");
  yield* readParquetRows(file, options);
}

const DOCUMENT_READERS = { text: readText, html: readHtml, email: readEmail } as const;

async function* readDocument(
  chunks: AsyncIterable<Uint8Array>,
  format: keyof typeof DOCUMENT_READERS,
): AsyncGenerator<Iterable<Located>> {
  const bytes = await readDocumentBytes(chunks);
  const reading: Reading =
    bytes === undefined ? { fault: `larger than ${MAX_DOCUMENT_BYTES} bytes` } : await DOCUMENT_READERS[format](bytes);
  yield [{ line: 1, reading }];
}

/**
 * The records of a file, in batches that are read one after the other: waiting for each record of a million would take
 * longer than reading it. A line or row of more than 32 MiB and a document of more than 64 MiB are faults; memory is that
 * of one record.
 * @param file where the file is on disk.
 * @throws DataError for a file that is missing, cut off, damaged, or has no column for the text.
 */
export function readRecords(file: string, options: RecordsOptions): AsyncGenerator<Iterable<Located>> {
  const { format, name, signal } = options;
  if (format === "parquet") return readParquet(path.resolve(file), options);
  const chunks = readBytes(file, name, signal);
  if (format === "jsonl") return readJsonLines(chunks, options);
  if (format === "csv") return readCsvRows(chunks, name, options, MAX_RECORD_BYTES);
  return readDocument(chunks, format);
}
