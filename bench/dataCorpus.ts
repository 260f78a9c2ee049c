/** Documents for the benchmarks of the data pipeline, in Dolma's form: real text, of which no document is there twice. */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import { cutText, utf8Bytes } from "../src/data/document.ts";
import { loadTokenizer, trainTokenizer } from "../src/tokenizer/io.ts";

const SHARED = fileURLToPath(new URL("../../shared/data/", import.meta.url));
const ROOT = fileURLToPath(new URL("../", import.meta.url));
/** Of texts that are one long file: a web page's length, about. */
const DOCUMENT_CHARS = 4000;
const TRAINED_VOCABULARY = 16_384;

/** Texts of a file: lines of JSON, or pieces of it. */
async function textsOf(file: string): Promise<string[]> {
  const raw = await readFile(file);
  const text = (file.endsWith(".gz") ? gunzipSync(raw) : raw).toString();
  if (!/\.jsonl?(\.gz)?$/.test(file)) return cutText(text, DOCUMENT_CHARS);
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.flatMap((line) => cutText((JSON.parse(line) as { text: string }).text, DOCUMENT_CHARS));
}

async function filesIn(folder: string, pattern: RegExp): Promise<string[]> {
  const names = await readdir(folder, { recursive: true });
  return names.filter((name) => pattern.test(name) && !/README/.test(name)).map((name) => join(folder, name));
}

/** Shared corpora where they are, else the Markdown of installed packages. */
export async function realTexts(): Promise<string[]> {
  const shared = [`${SHARED}pretrain`, `${SHARED}domain-text`].filter((folder) => existsSync(folder));
  const found =
    shared.length > 0
      ? await Promise.all(shared.map((folder) => filesIn(folder, /\.(txt|jsonl|json\.gz)$/)))
      : [await filesIn(`${ROOT}node_modules`, /\.md$/)];
  const texts = new Set<string>();
  for (const file of found.flat().sort()) for (const text of await textsOf(file)) texts.add(text);
  return [...texts];
}

/** OLMoE's tokenizer.json where it is, else one that is trained on the texts; written to the folder. @returns its path. */
export async function benchTokenizer(folder: string, texts: readonly string[]): Promise<string> {
  const released = `${SHARED}tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json`;
  const found = await loadTokenizer(released).catch(() => undefined);
  const tokenizer = found ?? trainTokenizer(texts, { vocabSize: TRAINED_VOCABULARY });
  const file = join(folder, "tokenizer.json");
  await writeFile(file, tokenizer.toJson());
  return file;
}

/** Writes documents to files of about equal size in `folder`/documents. @returns the files. */
export async function writeDocuments(folder: string, texts: readonly string[], files: number): Promise<string[]> {
  await mkdir(join(folder, "documents"), { recursive: true });
  const lines: string[][] = Array.from({ length: files }, () => []);
  const now = "2026-01-01T00:00:00.000Z";
  for (const [index, text] of texts.entries()) {
    lines[index % files]!.push(
      JSON.stringify({ id: `document-${index}`, text, source: "bench", added: now, created: now }),
    );
  }
  const paths = lines.map((_, index) => join(folder, "documents", `${index}.jsonl.gz`));
  for (const [index, path] of paths.entries()) await writeFile(path, gzipSync(`${lines[index]!.join("\n")}\n`));
  return paths;
}

/** UTF-8 bytes of texts, in MB. */
export function megabytes(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + utf8Bytes(text), 0) / 1e6;
}
