/** File content to text: what one plain file, one page, one e-mail or one row holds. Reading files is in records.io.ts. */
import type { SourceRecipe } from "../../config/dataSources.ts";
import { type Document, normalizeLineEnds } from "../document.ts";
import { emailText } from "./email.ts";

/** How a file becomes documents. */
export type FileFormat = "text" | "html" | "email" | "jsonl" | "csv" | "parquet";

/** How the bytes of a file are packed. */
export type Compression = "gzip" | "zstd" | "bzip2";

const COMPRESSIONS: Readonly<Record<string, Compression>> = { gz: "gzip", zst: "zstd", bz2: "bzip2" };
const FORMATS: Readonly<Record<string, FileFormat>> = {
  jsonl: "jsonl",
  json: "jsonl",
  ndjson: "jsonl",
  csv: "csv",
  tsv: "csv",
  parquet: "parquet",
  html: "html",
  htm: "html",
};

/** The ending of a file's name, in lower case, and the one of its compression. */
function endings(file: string): { format: string | undefined; compression: Compression | undefined } {
  const [, inner, last = ""] = /(?:\.([^./]+))?\.([^./]+)$/.exec(file.toLowerCase()) ?? [];
  const compression = Object.hasOwn(COMPRESSIONS, last) ? COMPRESSIONS[last] : undefined;
  return { format: compression === undefined ? last : inner, compression };
}

/** The compression of a file, by its ending. */
export function compressionOf(file: string): Compression | undefined {
  return endings(file).compression;
}

/** The format of a file: the recipe's, or for `auto` the one of its ending. */
export function formatOf(file: string, format: SourceRecipe["format"]): FileFormat {
  if (format === "markdown") return "text";
  if (format === "dolma") return "jsonl";
  if (format !== "auto") return format;
  const { format: ending = "" } = endings(file);
  return Object.hasOwn(FORMATS, ending) ? (FORMATS[ending] as FileFormat) : "text";
}

/** Whether a file of this format has a document in each line or row. */
export function isByRow(format: FileFormat): boolean {
  return format === "jsonl" || format === "csv" || format === "parquet";
}

/** What separates the fields of a CSV file: a tab where the ending says so. */
export function delimiterOf(file: string): string {
  return endings(file).format === "tsv" ? "\t" : ",";
}

/** What a record holds of a document; where it is from is added by who reads the file. */
export type DocumentFields = Pick<Document, "text" | "added" | "created" | "metadata"> & { readonly id?: string };

/** A record that was read, or why there is no document in it. */
export type Reading = DocumentFields | { readonly fault: string };

/** A reading with its line or row in the file, from 1. */
export interface Located {
  readonly line: number;
  readonly reading: Reading;
}

/** Fields of a record that hold its text and its id. */
export interface FieldNames {
  readonly textField: string;
  readonly idField: string;
}

/** The fields that Dolma's documents have. */
export const DOLMA_FIELDS: FieldNames = { textField: "text", idField: "id" };

const UTF8 = new TextDecoder("utf-8", { fatal: true });

/** Bytes to text, without a byte order mark; undefined where they are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** A plain text file: UTF-8, line ends become LF. */
export function readText(bytes: Uint8Array): Reading {
  const text = decodeUtf8(bytes);
  return text === undefined ? { fault: "not UTF-8" } : { text: normalizeLineEnds(text) };
}

/** A page: its main text (see html.ts). */
export async function readHtml(bytes: Uint8Array): Promise<Reading> {
  const { htmlText } = await import("./html.ts"); // its parser takes a tenth of a second to load
  const html = decodeUtf8(bytes);
  if (html === undefined) return { fault: "not UTF-8" };
  try {
    return { text: htmlText(html) };
  } catch (cause) {
    return { fault: `HTML that can not be read, ${(cause as Error).message}` };
  }
}

/** One raw e-mail: its body, cleaned (see email.ts). */
export async function readEmail(bytes: Uint8Array): Promise<Reading> {
  try {
    const text = await emailText(bytes);
    return text === undefined ? { fault: "body does not fit its character set" } : { text };
  } catch (cause) {
    return { fault: `not an e-mail, ${(cause as Error).message}` };
  }
}

/** Deeper than any metadata, and far from where programs that walk through it recursively would fail. */
const MAX_DEPTH = 64;

/** Whether objects and lists are nested deeper than MAX_DEPTH. Level by level, so that depth costs no stack. */
function isNestedDeeply(value: object): boolean {
  let level: object[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === MAX_DEPTH) return true;
    const next: object[] = [];
    for (const one of level) {
      for (const inner of Object.values(one)) if (typeof inner === "object" && inner !== null) next.push(inner);
    }
    level = next;
  }
  return false;
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * The document that a record's fields give. The text stays as it is, line ends included. The id is used where it is a
 * string or a number; `added`, `created` and `metadata` are Dolma's fields.
 */
export function readFields(fields: Readonly<Record<string, unknown>>, { textField, idField }: FieldNames): Reading {
  const field = (name: string) => (Object.hasOwn(fields, name) ? fields[name] : undefined);
  const text = field(textField);
  if (typeof text !== "string") return { fault: `no text in field "${textField}"` };
  if (/\p{Surrogate}/u.test(text)) return { fault: "text has half a surrogate pair" };
  if (isNestedDeeply(fields)) return { fault: `nested deeper than ${MAX_DEPTH} levels` };
  const id = field(idField);
  const added = field("added");
  const created = field("created");
  const metadata = field("metadata");
  // Assigned one by one, because spreading would take most of the time of short documents.
  const reading: { -readonly [Key in keyof DocumentFields]: DocumentFields[Key] } = { text };
  if (typeof id === "string" || typeof id === "number") reading.id = String(id);
  if (typeof added === "string") reading.added = added;
  if (typeof created === "string") reading.created = created;
  if (isObject(metadata)) reading.metadata = metadata;
  return reading;
}

/** The object that a line of JSONL holds, or why it holds none. */
export function parseJsonLine(
  bytes: Uint8Array,
): { readonly value: Readonly<Record<string, unknown>> } | { readonly fault: string } {
  const line = decodeUtf8(bytes);
  if (line === undefined) return { fault: "not UTF-8" };
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? { value } : { fault: "not a JSON object" };
  } catch {
    return { fault: "not JSON" };
  }
}

/** One line of JSONL (see readFields). */
export function readJsonLine(bytes: Uint8Array, names: FieldNames): Reading {
  const parsed = parseJsonLine(bytes);
  return "fault" in parsed ? parsed : readFields(parsed.value, names);
}
