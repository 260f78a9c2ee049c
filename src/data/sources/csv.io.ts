/** Rows of a CSV file (RFC 4180) whose first row names the columns, by csv-parse. */
import { pipeline, Readable } from "node:stream";
import { type CsvError, type Info, parse } from "csv-parse";
import { DataError } from "../../errors.ts";
import { MAX_RECORD_BYTES } from "./bytes.io.ts";
import { decodeUtf8, delimiterOf, type FieldNames, type Located, type Reading, readFields } from "./formats.ts";

const FAULTS: Readonly<Record<string, string>> = {
  CSV_RECORD_INCONSISTENT_FIELDS_LENGTH: "has more or fewer fields than the first row",
  CSV_QUOTE_NOT_CLOSED: "quote is not closed",
  CSV_INVALID_CLOSING_QUOTE: "text after a closing quote",
  INVALID_OPENING_QUOTE: "quote inside a field that does not begin with one",
  CSV_MAX_RECORD_SIZE: `longer than ${MAX_RECORD_BYTES} bytes`,
};

/** A row as csv-parse gives it: with the line it ends at. */
interface ParsedRow {
  readonly record: readonly Buffer[];
  readonly info: Info;
}

function readRow(fields: readonly Buffer[], columns: readonly string[], names: FieldNames): Reading {
  const wanted = new Set([names.textField, names.idField, "added", "created"]);
  const values: Record<string, string> = {};
  for (const [index, column] of columns.entries()) {
    if (!wanted.has(column)) continue;
    const value = decodeUtf8(fields[index] as Buffer);
    if (value === undefined) return { fault: "not UTF-8" };
    if (value !== "" || column === names.textField) values[column] = value;
  }
  return readFields(values, names);
}

function readColumns(record: readonly Buffer[], file: string, textField: string): string[] {
  const columns = record.map((name) => decodeUtf8(name) ?? "");
  if (columns.includes(textField)) return columns;
  throw new DataError(`${file}: no column "${textField}"`, { hint: "set textField of the source" });
}

/**
 * The readings of a file, each with the line at which its row ends. Holds one row in memory.
 * @param file the name for messages.
 * @throws DataError where no column has the text, and whatever `chunks` throws.
 */
export async function* readCsvRows(
  chunks: AsyncIterable<Uint8Array>,
  file: string,
  names: FieldNames,
): AsyncGenerator<Located> {
  const faults: Located[] = [];
  let faultyLine = 0;
  const parser = parse({
    bom: true,
    delimiter: delimiterOf(file),
    // Fields as bytes, so that text that is not UTF-8 is noticed.
    encoding: null,
    info: true,
    max_record_size: MAX_RECORD_BYTES,
    skip_empty_lines: true,
    skip_records_with_error: true,
    // A row that is too long is reported for each of its pieces.
    on_skip: (error: CsvError | undefined) => {
      const { code = "", lines = 0 } = (error ?? {}) as { code?: string; lines?: number };
      if (lines === faultyLine) return undefined;
      faultyLine = lines;
      faults.push({ line: lines, reading: { fault: FAULTS[code] ?? `not CSV (${code})` } });
      return undefined;
    },
  });
  const rows: AsyncIterable<ParsedRow> = pipeline(Readable.from(chunks), parser, () => {});
  let columns: readonly string[] | undefined;
  for await (const { record, info } of rows) {
    // The parser is ahead of the rows by as many as it likes.
    while (faults[0] !== undefined && faults[0].line <= info.lines) yield faults.shift() as Located;
    if (columns === undefined) columns = readColumns(record, file, names.textField);
    else yield { line: info.lines, reading: readRow(record, columns, names) };
  }
  yield* faults;
}
