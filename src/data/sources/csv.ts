/**
 * Rows of a CSV file (RFC 4180) whose first row names the columns. Own code, because the readers at hand do not find their
 * way back after a broken row: csv-parse 7 stays inside the quotes and loses the next rows, DuckDB gives up the file.
 */
import { DataError } from "../../errors.ts";
import { decodeUtf8, delimiterOf, type FieldNames, type Located, type Reading, readFields } from "./formats.ts";
import { joinBytes } from "./lines.ts";

const LF = 10;
const CR = 13;
const QUOTE = 34;
const MAX_FIELDS = 65_536;

/** A row's fields, or what is wrong with it, and the line it begins at. */
type Row = { readonly line: number } & ({ readonly fields: readonly Uint8Array[] } | { readonly fault: string });

/**
 * Where the scanner is: before a field, in one without or with quotes, behind a quote that closes a field or is the first
 * of two, or in the rest of a line that is passed over.
 */
type Place = "start" | "plain" | "quoted" | "quote" | "broken";

/** Splits chunks into rows, whatever borders the chunks have. Holds one row. */
class RowScanner {
  readonly #delimiter: number;
  readonly #most: number;
  #place: Place = "start";
  #fields: Uint8Array[] = [];
  #parts: Uint8Array[] = [];
  #size = 0;
  #line = 1;
  #rowLine = 1;
  #fault: string | undefined;

  constructor(delimiter: string, most: number) {
    this.#delimiter = delimiter.charCodeAt(0);
    this.#most = most;
  }

  /** The rows that end in a chunk. */
  scan(chunk: Uint8Array): Row[] {
    const rows: Row[] = [];
    // Bytes of the field that are not kept yet begin here.
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at] as number;
      if (this.#place === "quoted") {
        if (byte === LF) this.#line++;
        if (byte !== QUOTE) continue;
        this.#keep(chunk.subarray(from, at));
        if (this.#fault === undefined) this.#place = "quote";
      } else if (byte === LF) {
        if (this.#place === "plain") this.#keep(chunk.subarray(from, at));
        this.#line++;
        rows.push(...this.#endRow());
      } else if (this.#place === "broken" || (this.#place === "plain" && byte !== this.#delimiter)) {
        continue;
      } else if (byte === this.#delimiter) {
        if (this.#place === "plain") this.#keep(chunk.subarray(from, at));
        this.#endField();
      } else if (this.#place === "quote") {
        from = this.#afterQuote(byte, at);
        continue;
      } else {
        this.#place = byte === QUOTE ? "quoted" : "plain";
        from = byte === QUOTE ? at + 1 : at;
        continue;
      }
      from = at + 1;
    }
    if (this.#place === "plain" || this.#place === "quoted") this.#keep(chunk.subarray(from));
    return rows;
  }

  /** The last row, where no line end follows it. */
  finish(): Row[] {
    if (this.#place === "quoted") this.#fail("quote is not closed");
    return this.#endRow();
  }

  /** A second quote stands for one; a carriage return belongs to the line end. @returns where the field goes on. */
  #afterQuote(byte: number, at: number): number {
    if (byte === QUOTE) {
      this.#place = "quoted";
      return at;
    }
    if (byte !== CR) this.#fail("text after a closing quote");
    return at + 1;
  }

  #keep(part: Uint8Array): void {
    if (this.#fault !== undefined) return;
    this.#size += part.length;
    if (this.#size > this.#most) this.#fail(`longer than ${this.#most} bytes`);
    else this.#parts.push(part);
  }

  #fail(fault: string): void {
    this.#fault = fault;
    this.#place = "broken";
    this.#fields = [];
    this.#parts = [];
  }

  #endField(): void {
    if (this.#place === "broken") return;
    if (this.#fields.length === MAX_FIELDS) {
      this.#fail(`more than ${MAX_FIELDS} fields`);
      return;
    }
    this.#fields.push(joinBytes(this.#parts));
    this.#parts = [];
    this.#place = "start";
  }

  #endRow(): Row[] {
    const isPlain = this.#place === "plain" || this.#place === "start";
    this.#endField();
    const { fields, fault, line } = { fields: this.#fields, fault: this.#fault, line: this.#rowLine };
    const last = fields.at(-1);
    if (isPlain && last?.at(-1) === CR) fields[fields.length - 1] = last.subarray(0, -1);
    this.#fields = [];
    this.#fault = undefined;
    this.#place = "start";
    this.#size = 0;
    this.#rowLine = this.#line;
    if (fault !== undefined) return [{ line, fault }];
    const isBlank = isPlain && fields.length === 1 && fields[0]?.length === 0;
    return isBlank ? [] : [{ line, fields }];
  }
}

function readColumns(row: Row, file: string, textField: string): string[] {
  const columns = "fault" in row ? [] : row.fields.map((field) => decodeUtf8(field) ?? "");
  if (columns.includes(textField)) return columns;
  throw new DataError(`${file}: no column "${textField}"`, { hint: "set textField of the source" });
}

function readRow(row: Row, columns: readonly string[], names: FieldNames): Reading {
  if ("fault" in row) return { fault: row.fault };
  const { fields } = row;
  if (fields.length !== columns.length)
    return { fault: `${fields.length} fields, the first row has ${columns.length}` };
  const wanted = [names.textField, names.idField, "added", "created"];
  const values: Record<string, string> = {};
  for (const [index, column] of columns.entries()) {
    if (!wanted.includes(column)) continue;
    const value = decodeUtf8(fields[index] as Uint8Array);
    if (value === undefined) return { fault: "not UTF-8" };
    if (value !== "" || column === names.textField) values[column] = value;
  }
  return readFields(values, names);
}

/**
 * The readings of a file, each with the line at which its row begins. An empty field is none, but for the text.
 * @param file the name, for messages and for the delimiter.
 * @param most bytes of a row; a longer one is a fault.
 * @throws DataError where no column has the text, and whatever `chunks` throws.
 */
export async function* readCsvRows(
  chunks: AsyncIterable<Uint8Array>,
  file: string,
  names: FieldNames,
  most: number,
): AsyncGenerator<Iterable<Located>> {
  const scanner = new RowScanner(delimiterOf(file), most);
  let columns: readonly string[] | undefined;
  const readings = function* (rows: readonly Row[]): Generator<Located> {
    for (const row of rows) {
      if (columns === undefined) columns = readColumns(row, file, names.textField);
      else yield { line: row.line, reading: readRow(row, columns, names) };
    }
  };
  let first = true;
  for await (const chunk of chunks) {
    const isMarked = first && chunk[0] === 0xef && chunk[1] === 0xbb && chunk[2] === 0xbf;
    first = false;
    yield readings(scanner.scan(isMarked ? chunk.subarray(3) : chunk));
  }
  yield readings(scanner.finish());
}
