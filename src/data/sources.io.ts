/** Reads the sources of a recipe: files of a folder or of an npm package, in a fixed order, as documents. */
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import path from "node:path";
import { glob } from "tinyglobby";
import type { SourceRecipe } from "../config/dataSources.ts";
import { DataError } from "../errors.ts";
import { type Document, documentsOf, utf8Bytes } from "./document.ts";
import { formatOf, type Reading, readEmail, readJsonLine, readText } from "./formats.ts";
import { fetchPackage } from "./npmPackage.io.ts";
import { fileError, readLines, readWholeFile } from "./readFile.io.ts";

/** What reading a source found; counts grow while it is read. */
export interface SourceReport {
  /** The npm package with its version, or the path as the recipe gives it. */
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

export interface ReadSourceOptions {
  /** Relative paths start here: the recipe's folder. */
  readonly baseDirectory: string;
  readonly cacheDirectory: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((report: Readonly<SourceReport>) => void) | undefined;
  /** Is filled while the source is read. */
  readonly report?: SourceReport;
}

/** Faults that are kept word for word. */
const KEPT_FAULTS = 10;
/** Broken lines that never stop a run, and the share of lines above that. */
const ALLOWED_BROKEN_LINES = 10;
const ALLOWED_BROKEN_SHARE = 0.01;

export interface SourceFiles {
  readonly folder: string;
  /** Paths inside the folder, with "/", sorted by UTF-16 code unit. */
  readonly files: string[];
  readonly resolved: string;
}

/**
 * The files of a source; fetches an npm package that is not there yet.
 * @throws DataError if the folder is missing or no file matches.
 */
export async function sourceFiles(source: SourceRecipe, options: ReadSourceOptions): Promise<SourceFiles> {
  const place = `source "${source.name}"`;
  const { folder, resolved } =
    source.npm === undefined
      ? { folder: path.resolve(options.baseDirectory, source.path ?? "."), resolved: source.path ?? "." }
      : await fetchPackage(source.npm, options);
  const status = await stat(folder).catch((cause) => {
    if (cause.code !== "ENOENT") throw fileError(folder, cause);
    throw new DataError(`${place}: ${folder} does not exist`, {
      hint: `a relative path starts at ${options.baseDirectory}`,
      cause,
    });
  });
  if (status.isFile()) return { folder: path.dirname(folder), files: [path.basename(folder)], resolved };
  const files = await glob(source.include, { cwd: folder, ignore: source.exclude, onlyFiles: true });
  if (files.length === 0) {
    throw new DataError(`${place}: no file in ${folder} matches ${source.include.join(", ")}`, {
      hint: "change include or exclude of the source",
    });
  }
  return { folder, files: files.sort(), resolved };
}

type Located = { readonly line: number; readonly reading: Reading };

/** The texts of one file. */
async function* fileTexts(file: string, source: SourceRecipe, signal?: AbortSignal): AsyncGenerator<Located> {
  const format = formatOf(file, source.format);
  if (format !== "jsonl") {
    const bytes = await readWholeFile(file);
    yield { line: 1, reading: format === "email" ? await readEmail(bytes) : readText(bytes) };
    return;
  }
  let line = 0;
  for await (const bytes of readLines(file, signal)) {
    line++;
    if (bytes.every((byte) => byte <= 0x20)) continue;
    yield { line, reading: readJsonLine(bytes, source.textField) };
  }
}

/** Counts a fault; too many broken lines stop the run at the end of the file. */
function countFault(report: SourceReport, format: "jsonl" | "text" | "email", fault: string): void {
  if (format === "jsonl") report.brokenLines++;
  else report.invalidFiles++;
  if (report.faults.length < KEPT_FAULTS) report.faults.push(fault);
}

function checkFaults(source: SourceRecipe, report: SourceReport): void {
  const allowed = Math.max(ALLOWED_BROKEN_LINES, report.lines * ALLOWED_BROKEN_SHARE);
  if (report.brokenLines > allowed) {
    throw new DataError(
      `source "${source.name}": ${report.brokenLines} of ${report.lines} lines are broken, at most ${Math.floor(allowed)} are skipped\n${report.faults.join("\n")}`,
      { hint: "check format and textField of the source" },
    );
  }
}

function checkNotEmpty(source: SourceRecipe, report: SourceReport, folder: string): void {
  if (report.documents > 0) return;
  const broken = report.invalidFiles + report.brokenLines;
  const why = broken > 0 ? `${broken} could not be read\n${report.faults.join("\n")}` : "all are empty";
  throw new DataError(`source "${source.name}": no text in the ${report.files} files of ${folder}, ${why}`);
}

/**
 * Documents of a source in a fixed order: files sorted by path, lines in order. Exact duplicates and empty documents are
 * left out, long ones cut. Files that are not text in their format, and up to 1 % (but at least 10) of the lines of JSONL,
 * are skipped and counted in the report.
 *
 * @throws DataError for a missing source, too many broken lines, a damaged file or no text at all.
 */
export async function* readSource(source: SourceRecipe, options: ReadSourceOptions): AsyncGenerator<Document> {
  const report = options.report ?? newSourceReport();
  const { folder, files, resolved } = await sourceFiles(source, options);
  report.resolved = resolved;
  const seen = new Set<string>();
  for (const name of files) {
    options.signal?.throwIfAborted();
    const file = path.join(folder, name);
    const format = formatOf(name, source.format);
    report.files++;
    for await (const { line, reading } of fileTexts(file, source, options.signal)) {
      if (format === "jsonl") report.lines++;
      if ("fault" in reading) {
        countFault(report, format, `${file}${format === "jsonl" ? `:${line}` : ""}: ${reading.fault}`);
        continue;
      }
      const id = reading.id ?? (format === "jsonl" ? `${name}:${line}` : name);
      const whole: Document = { id, text: reading.text, source: source.name, path: name, line };
      const documents = documentsOf(whole, source.maxDocumentChars);
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
    checkFaults(source, report);
    options.onProgress?.(report);
  }
  checkNotEmpty(source, report, folder);
}
