/** Reads evaluation texts. */
import path from "node:path";
import type { ContaminationRecipe } from "../../config/dataFilters.ts";
import { DataError } from "../../errors.ts";
import { normalizeLineEnds } from "../document.ts";
import { readWholeFile } from "../readFile.io.ts";
import { readLines } from "../sources/bytes.io.ts";
import { ContaminationIndex } from "./contaminationIndex.ts";

/** UTF-8 text without a byte order mark. */
function decode(bytes: Uint8Array, place: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DataError(`${place}: not UTF-8`, { cause });
  }
}

function textOf(value: unknown, place: string): string {
  const texts = Array.isArray(value) ? value : [value];
  if (texts.every((text) => typeof text === "string")) return texts.join(" ");
  throw new DataError(`${place}: ${JSON.stringify(value).slice(0, 60)}, expected a string or a list of strings`);
}

/** The named fields of a line, joined. */
function itemOf(line: string, fields: readonly string[], place: string): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new DataError(`${place}: not JSON`, { cause });
  }
  if (typeof value !== "object" || value === null) throw new DataError(`${place}: not a JSON object`);
  const item = value as Record<string, unknown>;
  const there = fields.filter((field) => Object.hasOwn(item, field));
  if (there.length === 0) {
    throw new DataError(`${place}: has none of the fields ${fields.join(", ")}`, {
      hint: `set fields of the filter; the line has ${Object.keys(item).slice(0, 20).join(", ")}`,
    });
  }
  return there.map((field) => textOf(item[field], `${place}: ${field}`)).join(" ");
}

async function* itemsOf(file: string, fields: readonly string[], signal?: AbortSignal): AsyncGenerator<string> {
  if (/\.jsonl(\.gz)?$/.test(file)) {
    let number = 0;
    for await (const bytes of readLines(file, file, signal)) {
      const place = `${file}:${++number}`;
      const line = decode(bytes, place);
      if (line.trim() !== "") yield itemOf(line, fields, place);
    }
  } else if (file.endsWith(".txt")) {
    yield* normalizeLineEnds(decode(await readWholeFile(file), file)).split(/\n(?:[ \t]*\n)+/);
  } else {
    throw new DataError(`${file}: not an evaluation text, expected a name that ends in .jsonl, .jsonl.gz or .txt`);
  }
}

/**
 * The index of a filter's evaluation texts.
 * @param baseDirectory what the file names are relative to.
 * @throws DataError for a file that is missing or damaged, and where no item is long enough for an n-gram.
 */
export async function readContaminationIndex(
  { files, fields, ngram }: Pick<ContaminationRecipe, "files" | "fields" | "ngram">,
  baseDirectory: string,
  signal?: AbortSignal,
): Promise<ContaminationIndex> {
  const index = new ContaminationIndex(ngram);
  for (const file of files) {
    for await (const item of itemsOf(path.resolve(baseDirectory, file), fields, signal)) {
      signal?.throwIfAborted();
      index.add(item);
    }
  }
  if (index.ngrams === 0) {
    throw new DataError(`${files.join(", ")}: ${index.items} evaluation items, none has ${ngram} words`, {
      hint: "set ngram to fewer words",
    });
  }
  return index;
}
