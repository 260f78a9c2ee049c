/** Reads the sources of a recipe: files of a folder, a package or a dataset, in a fixed order, as documents. */
import type { SourceRecipe } from "../../config/dataSources.ts";
import type { Attributes } from "../attributes.ts";
import { type Document, documentsOf } from "../document.ts";
import { readLines } from "./bytes.io.ts";
import { AttributeRows } from "./dolma.ts";
import { checkFaults, countRecord, type Faults, NO_FAULTS } from "./faults.ts";
import { placeOnDisk } from "./files.io.ts";
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

/** What reading files found; counts grow while they are read. */
export interface ReadReport {
  files: number;
  /** Records of the files, and what is wrong with some. */
  faults: Faults;
  /** Records without text. */
  empty: number;
}

/** A report of nothing yet. */
export function newReadReport(): ReadReport {
  return { files: 0, faults: NO_FAULTS, empty: 0 };
}

/** A document of the corpus, with the attributes that its source brings. */
export type SourceDocument = Omit<Extract<SourceRecord, { document: Document }>, "line">;

/**
 * Documents of files in their order: stripped, long ones cut, those without text left out. Broken records, up to the
 * share that the source allows, are skipped and counted.
 * @param source as listSource has pinned it.
 * @throws DataError for too many broken records, or as readSourceFile does.
 */
export async function* readDocuments(
  files: readonly SourceFile[],
  source: SourceRecipe,
  options: SourceOptions & { readonly report: ReadReport },
): AsyncGenerator<SourceDocument> {
  const { report, signal } = options;
  for (const file of files) {
    signal?.throwIfAborted();
    report.files++;
    const byRow = isByRow(formatOf(file.path, source.format));
    for await (const record of readSourceFile(file, source, options)) {
      if ("fault" in record) {
        const place = byRow ? `${file.path}:${record.line}` : file.path;
        report.faults = countRecord(report.faults, `${place}: ${record.fault}`);
        continue;
      }
      report.faults = countRecord(report.faults);
      const { document, ...rest } = record;
      const pieces = documentsOf(document, source.maxDocumentChars);
      if (pieces.length === 0) report.empty++;
      // Spans of attributes are of the whole text: pieces go without.
      const whole = pieces.length === 1 && pieces[0]?.text === document.text;
      for (const piece of pieces) yield whole ? { document: piece, ...rest } : { document: piece };
    }
  }
  checkFaults(report.faults, `source "${source.name}"`, source.maxBrokenShare);
}
