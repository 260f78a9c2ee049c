/** Reads the sources of a recipe: files of a folder, a package or a dataset, in a fixed order, as documents. */
import { createHash } from "node:crypto";
import type { SourceRecipe } from "../../config/dataSources.ts";
import { DataError } from "../../errors.ts";
import type { Attributes } from "../attributes.ts";
import { type Document, documentsOf, utf8Bytes } from "../document.ts";
import { readLines } from "./bytes.io.ts";
import { AttributeRows } from "./dolma.ts";
import { checkFaults, countRecord, type Faults, mergeFaults, NO_FAULTS } from "./faults.ts";
import { listSource, placeOnDisk } from "./files.io.ts";
import { formatOf, isByRow } from "./formats.ts";
import { readRecords } from "./records.io.ts";
import type { SourceFile, SourceOptions } from "./sourceFile.ts";

/** One record of a file: a document, with its attributes where the source names some, or what is wrong with it. */
export type SourceRecord =
  | { readonly line: number; readonly document: Document; readonly attributes?: Attributes }
  | { readonly line: number; readonly fault: string };

/** The attribute files of a file of documents. */
async function openAttributes(file: SourceFile, source: SourceRecipe, options: SourceOptions) {
  const rows: AttributeRows[] = [];
  for (const attributeFile of file.attributes ?? []) {
    const { file: place, name } = await placeOnDisk(attributeFile, source, options);
    rows.push(new AttributeRows(readLines(place, name, options.signal), name));
  }
  return rows;
}

async function attributesOf(document: Document, attributeRows: readonly AttributeRows[]): Promise<Attributes> {
  const attributes: Attributes[] = [];
  for (const rows of attributeRows) attributes.push(await rows.next(document));
  return Object.fromEntries(attributes.flatMap(Object.entries));
}

/**
 * The records of one file that listSource has named, as they are: not cut, not stripped, empty ones too. Lines without a
 * record are passed over. Memory is that of one record, and files of datasets are fetched before they are read.
 * @throws DataError for a file that is gone, changed, cut off or damaged, or whose attributes do not fit its documents.
 */
export async function* readSourceFile(
  file: SourceFile,
  source: SourceRecipe,
  options: SourceOptions,
): AsyncGenerator<SourceRecord> {
  const { file: place, name } = await placeOnDisk(file, source, options);
  const format = formatOf(file.path, source.format);
  const attributeRows = await openAttributes(file, source, options);
  const { textField, idField } = source;
  const records = readRecords(place, { format, name, textField, idField, signal: options.signal });
  try {
    for await (const batch of records) {
      for (const { line, reading } of batch) {
        if ("fault" in reading) {
          yield { line, fault: reading.fault };
          continue;
        }
        const id = isByRow(format) ? `${file.path}:${line}` : file.path;
        const document = Object.assign({ id, source: source.name, path: file.path, line }, reading);
        if (attributeRows.length === 0) yield { line, document };
        else yield { line, document, attributes: await attributesOf(document, attributeRows) };
      }
    }
  } finally {
    for (const rows of attributeRows) await rows.close();
  }
}

/** What reading a source found; counts grow while it is read. */
export interface SourceReport {
  /** The npm package with its version, the dataset with its commit, or the path as the recipe gives it. */
  resolved: string;
  files: number;
  documents: number;
  /** UTF-8 bytes of the documents. */
  bytes: number;
  duplicates: number;
  empty: number;
  invalidFiles: number;
  lines: number;
  brokenLines: number;
  /** The first faults, as "file:line: fault". */
  faults: string[];
}

/** A report of nothing yet. */
export function newSourceReport(): SourceReport {
  return {
    resolved: "",
    files: 0,
    documents: 0,
    bytes: 0,
    duplicates: 0,
    empty: 0,
    invalidFiles: 0,
    lines: 0,
    brokenLines: 0,
    faults: [],
  };
}

export interface ReadSourceOptions extends SourceOptions {
  readonly onProgress?: ((report: Readonly<SourceReport>) => void) | undefined;
  /** Is filled while the source is read. */
  readonly report?: SourceReport;
}

/** Faults of lines and rows, which are limited, and of whole files, which are not. */
interface SourceFaults {
  rows: Faults;
  files: Faults;
}

function reportFaults(report: SourceReport, { rows, files }: SourceFaults): void {
  report.lines = rows.records;
  report.brokenLines = rows.broken;
  report.invalidFiles = files.broken;
  report.faults = [...mergeFaults([rows, files]).first];
}

function checkNotEmpty(source: SourceRecipe, report: SourceReport): void {
  if (report.documents > 0) return;
  const broken = report.invalidFiles + report.brokenLines;
  const why = broken > 0 ? `${broken} could not be read\n${report.faults.join("\n")}` : "all are empty";
  throw new DataError(`source "${source.name}": no text in the ${report.files} files of ${report.resolved}, ${why}`);
}

/**
 * Documents of a source in a fixed order: files sorted by path, lines in order. Exact duplicates and empty documents are
 * left out, long ones cut. Files that are not text in their format, and up to 1 % (but at least 10) of the lines or rows,
 * are skipped and counted in the report.
 *
 * @throws DataError for a missing source, too many broken lines, a damaged file or no text at all.
 */
export async function* readSource(source: SourceRecipe, options: ReadSourceOptions): AsyncGenerator<Document> {
  const report = options.report ?? newSourceReport();
  const listed = await listSource(source, options);
  report.resolved = listed.resolved;
  const seen = new Set<string>();
  const faults: SourceFaults = { rows: NO_FAULTS, files: NO_FAULTS };
  for (const file of listed.files) {
    options.signal?.throwIfAborted();
    const kind = isByRow(formatOf(file.path, source.format)) ? "rows" : "files";
    report.files++;
    for await (const record of readSourceFile(file, listed.source, options)) {
      if ("fault" in record) {
        const place = kind === "rows" ? `${file.path}:${record.line}` : file.path;
        faults[kind] = countRecord(faults[kind], `${place}: ${record.fault}`);
        continue;
      }
      faults[kind] = countRecord(faults[kind]);
      const documents = documentsOf(record.document, source.maxDocumentChars);
      if (documents.length === 0) report.empty++;
      for (const document of documents) {
        const digest = createHash("sha256").update(document.text).digest("base64");
        if (seen.has(digest)) {
          report.duplicates++;
          continue;
        }
        seen.add(digest);
        report.documents++;
        report.bytes += utf8Bytes(document.text);
        yield document;
      }
    }
    reportFaults(report, faults);
    checkFaults(faults.rows, `source "${source.name}"`);
    options.onProgress?.(report);
  }
  checkNotEmpty(source, report);
}
