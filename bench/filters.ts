/**
 * Filters of the data pipeline, in MB for each second of processor time: each alone, all together, and repeated n-grams of tokens apart, because the
 * pipeline encodes every text anyway. The limit is a loop that only adds up the characters.
 */
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { filtersSchema } from "../src/config/dataFilters.ts";
import { cutText, type Document, utf8Bytes } from "../src/data/document.ts";
import { createFilters, type NamedFilter } from "../src/data/filters/create.io.ts";
import { readLines } from "../src/data/sources/bytes.io.ts";
import { loadTokenizer } from "../src/tokenizer/io.ts";
import { type BenchOptions, type Contender, describeMachine, interleave, type Row, toRow } from "./harness.ts";

const SHARED = fileURLToPath(new URL("../../shared/data/", import.meta.url));
const PACKAGES = fileURLToPath(new URL("../node_modules/", import.meta.url));
const MEGA = 1e6;
/** Characters that long documents are cut at, as by default in recipes. */
const MAX_DOCUMENT_CHARS = 8000;
const MAX_BYTES = 4 * MEGA;
/** Encoding is slow beside all else. */
const MAX_ENCODED_BYTES = 0.5 * MEGA;
/** Evaluation items of the index: beginnings of the texts, backwards, so that no document has them. */
const ITEM_WORDS = 70;

interface Corpus {
  readonly name: string;
  readonly texts: readonly string[];
}

async function readTexts(files: readonly string[]): Promise<string[]> {
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8")));
  return texts.flatMap((text) => cutText(text, MAX_DOCUMENT_CHARS));
}

/** Files below a folder, in order. */
async function filesIn(folder: string, ending: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true });
  return names
    .filter((name) => name.endsWith(ending))
    .sort()
    .map((name) => path.join(folder, name));
}

/** Web pages and books where they are on this machine, else the pages that come with the installed packages. */
async function corpora(): Promise<Corpus[]> {
  const web = `${SHARED}pretrain/c4-sample.00000-of-00001.json.gz`;
  if (!existsSync(web)) {
    return [{ name: "packages' pages", texts: await readTexts(await filesIn(PACKAGES, ".md")) }];
  }
  const pages: string[] = [];
  for await (const line of readLines(web)) pages.push(JSON.parse(new TextDecoder().decode(line)).text);
  return [
    { name: "web pages", texts: pages },
    { name: "books", texts: await readTexts(await filesIn(`${SHARED}pretrain/books`, ".txt")) },
  ];
}

/** The first texts, up to so many bytes. */
function upTo(texts: readonly string[], most: number): { texts: string[]; bytes: number } {
  const taken: string[] = [];
  let bytes = 0;
  for (const text of texts) {
    if (bytes >= most) break;
    taken.push(text);
    bytes += utf8Bytes(text);
  }
  return { texts: taken, bytes };
}

async function filtersFor(texts: readonly string[]): Promise<NamedFilter[]> {
  const folder = await mkdtemp(path.join(tmpdir(), "filters-"));
  try {
    const items = texts.map((text) => text.split(" ", ITEM_WORDS).reverse().join(" "));
    await writeFile(path.join(folder, "items.jsonl"), items.map((text) => JSON.stringify({ text })).join("\n"));
    const recipes = filtersSchema.parse([
      { kind: "length", minCharacters: 1 },
      { kind: "starcoder" },
      { kind: "gopher" },
      { kind: "c4" },
      { kind: "pii" },
      { kind: "contamination", files: ["items.jsonl"] },
      { kind: "language" },
    ]);
    return await createFilters(recipes, { encode: () => new Int32Array(0), baseDirectory: folder });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** MB for each second of processor time since `start`, on all threads: others on the machine count for little then. */
function rate(bytes: number, start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start);
  return bytes / (user + system);
}

/** Documents anew in each round, so that nothing known of them is used again. */
function documentsOf(texts: readonly string[]): Document[] {
  return texts.map((text, index) => ({ id: String(index), text, source: "bench", path: "", line: 1 }));
}

function contender(name: string, texts: readonly string[], bytes: number, filters: readonly NamedFilter[]): Contender {
  return {
    name,
    run: async () => {
      const documents = documentsOf(texts);
      const start = process.cpuUsage();
      for (const document of documents) {
        for (const filter of filters) {
          const attributes = filter.tag(document);
          filter.judge(attributes instanceof Promise ? await attributes : attributes);
        }
      }
      return rate(bytes, start);
    },
  };
}

function characterLoop(texts: readonly string[], bytes: number): Contender {
  return {
    name: "characters",
    run: () => {
      const start = process.cpuUsage();
      let sum = 0;
      for (const text of texts) for (let place = 0; place < text.length; place++) sum += text.charCodeAt(place);
      if (sum === 0) throw new Error("internal: no text");
      return rate(bytes, start);
    },
  };
}

/** Repeated n-grams with the encoding, and with ids that are there. */
async function repetitionContenders(texts: readonly string[], bytes: number): Promise<Contender[]> {
  const file = `${SHARED}tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json`;
  if (!existsSync(file)) return [];
  const tokenizer = await loadTokenizer(file);
  const ids = new Map<string, Int32Array>();
  for (const text of texts) ids.set(text, await tokenizer.encode(text));
  const make = (encode: (text: string) => Int32Array | Promise<Int32Array>) =>
    createFilters(filtersSchema.parse([{ kind: "repetition" }]), { encode, baseDirectory: "." });
  return [
    contender("repetition, with encoding", texts, bytes, await make((text) => tokenizer.encode(text))),
    contender("repetition, encoded before", texts, bytes, await make((text) => ids.get(text) as Int32Array)),
  ];
}

/** MB/s of each filter and of all, over each corpus. */
export async function* filtersBench({ repetitions, signal, notice }: BenchOptions): AsyncGenerator<Row | string> {
  const machine = describeMachine(0);
  for (const { name, texts: whole } of await corpora()) {
    const { texts, bytes } = upTo(whole, MAX_BYTES);
    const mean = Math.round(bytes / texts.length);
    notice(`${name}: ${texts.length} documents of ${mean} bytes on average`);
    const filters = await filtersFor(texts);
    const encoded = upTo(texts, MAX_ENCODED_BYTES);
    const ours = [
      ...filters.map((filter) => contender(filter.name, texts, bytes, [filter])),
      contender(
        "all but language",
        texts,
        bytes,
        filters.filter(({ kind }) => kind !== "language"),
      ),
      contender("all", texts, bytes, filters),
      ...(await repetitionContenders(encoded.texts, encoded.bytes)),
    ];
    const limit = characterLoop(texts, bytes);
    const measured = await interleave([limit, ...ours], { repetitions, warmUp: 2, signal });
    for (const { name: ourName } of ours) {
      const summaries = new Map([ourName, limit.name].map((key) => [key, measured.summaries.get(key)!]));
      const parts = { bench: "filters", case: `${name}, ${ourName}`, unit: "MB/s", machine };
      yield toRow({ ...parts, ours: ourName, limit: limit.name }, { ...measured, summaries });
    }
  }
}
