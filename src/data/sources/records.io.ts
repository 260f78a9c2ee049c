/** Records of one file of any format, in order. Finding and fetching files is in files.io.ts. */
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
import { readParquetRows } from "./parquet.io.ts";

export interface RecordsOptions extends FieldNames {
  readonly format: FileFormat;
  /** What messages call the file; its ending tells the compression. */
  readonly name: string;
  readonly signal?: AbortSignal | undefined;
}

const isBlank = (line: Uint8Array) => line.every((byte) => byte <= 0x20);

async function* readJsonLines(chunks: AsyncIterable<Uint8Array>, names: FieldNames): AsyncGenerator<Located> {
  let line = 0;
  for await (const lines of splitLines(chunks, MAX_RECORD_BYTES)) {
    for (const bytes of lines) {
      line++;
      if (bytes === undefined) yield { line, reading: { fault: `longer than ${MAX_RECORD_BYTES} bytes` } };
      else if (!isBlank(bytes)) yield { line, reading: readJsonLine(bytes, names) };
    }
  }
}

const DOCUMENT_READERS = { text: readText, html: readHtml, email: readEmail } as const;

async function readDocument(
  chunks: AsyncIterable<Uint8Array>,
  format: keyof typeof DOCUMENT_READERS,
): Promise<Reading> {
  const bytes = await readDocumentBytes(chunks);
  if (bytes === undefined) return { fault: `larger than ${MAX_DOCUMENT_BYTES} bytes` };
  return DOCUMENT_READERS[format](bytes);
}

/**
 * The records of a file. A line or row of more than 64 MiB and a document of more than 256 MiB are faults; memory is that
 * of one record.
 * @param file where the file is on disk.
 * @throws DataError for a file that is missing, cut off, damaged, or has no column for the text.
 */
export async function* readRecords(file: string, options: RecordsOptions): AsyncGenerator<Located> {
  const { format, name, signal } = options;
  if (format === "parquet") {
    yield* readParquetRows(file, options);
    return;
  }
  const chunks = readBytes(file, name, signal);
  if (format === "jsonl") yield* readJsonLines(chunks, options);
  else if (format === "csv") yield* readCsvRows(chunks, name, options, MAX_RECORD_BYTES);
  else yield { line: 1, reading: await readDocument(chunks, format) };
}
