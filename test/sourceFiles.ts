/** A folder of files for tests of sources, and what reading them gives. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { dataSchema } from "../src/config/data.ts";
import type { SourceRecipe } from "../src/config/dataSources.ts";
import { listSource } from "../src/data/sources/files.io.ts";
import type { SourceOptions } from "../src/data/sources/sourceFile.ts";
import { readSourceFile, type SourceRecord } from "../src/data/sources/sources.io.ts";
import { OlmoeError } from "../src/errors.ts";

export class SourceFolder {
  readonly folder = mkdtempSync(path.join(tmpdir(), "olmoe-sources-"));

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }

  write(name: string, content: string | Uint8Array): string {
    const file = path.join(this.folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
    return file;
  }

  get options(): SourceOptions {
    return { baseDirectory: this.folder, cacheDirectory: path.join(this.folder, "cache") };
  }

  /** Every record of a source's files, in order. */
  async read(source: object, options: Partial<SourceOptions> = {}): Promise<SourceRecord[]> {
    const all = { ...this.options, ...options };
    const listed = await listSource(recipeOf(source), all);
    const records: SourceRecord[] = [];
    for (const file of listed.files) {
      for await (const record of readSourceFile(file, listed.source, all)) records.push(record);
    }
    return records;
  }

  /** The error of an action as "code message [hint]", the temporary folder written as DIR. */
  async failure(action: () => Promise<unknown>): Promise<string> {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof OlmoeError)) throw error;
      const hint = error.hint === undefined ? "" : ` [${error.hint}]`;
      return `${error.code} ${error.message}${hint}`.replaceAll(this.folder, "DIR");
    }
    return "no error";
  }
}

/** A source with its defaults. */
export function recipeOf(source: object): SourceRecipe {
  return dataSchema.parse({ sources: [{ name: "s", ...source }] }).sources[0] as SourceRecipe;
}

/** Records in short: id, text and line, or the fault with its line. */
export function brief(records: readonly SourceRecord[]): unknown[] {
  return records.map((record) =>
    "fault" in record ? [record.line, record.fault] : [record.document.id, record.document.text, record.line],
  );
}

/** Writes the rows of a query to a Parquet file. */
export async function writeParquet(file: string, query: string): Promise<void> {
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  await connection.run(`COPY (${query}) TO '${file.replaceAll("'", "''")}' (FORMAT parquet)`);
  connection.closeSync();
  instance.closeSync();
}
