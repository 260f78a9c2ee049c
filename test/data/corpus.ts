/** A small corpus of four sources with copies, near copies and broken records, and runs of the command line over it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { stringify } from "yaml";
import { createRandom } from "../../src/util/random.ts";
import { ROOT } from "../policy/repository.ts";

const WORDS = (
  "the be to of and that have with ship sails over wide grey sea while old men tell long tales about whales wind at " +
  "night under bright stars near some harbour where every lantern burns until morning comes again through quiet rain"
).split(" ");

/** Sentences of its own, from a seed. */
function paragraph(seed: number, purpose: string, sentences: number): string {
  const random = createRandom(seed, purpose);
  const word = () => WORDS[uniformInt(random, 0, WORDS.length - 1)];
  const sentence = () => `The ${Array.from({ length: uniformInt(random, 7, 12) }, word).join(" ")}.`;
  return Array.from({ length: sentences }, sentence).join(" ");
}

const REPEATED = paragraph(0, "repeated", 3);

/** Text `index` of a kind: every ninth is a copy, every seventh nearly one, every fifth has a paragraph of all. */
function textOf(kind: string, index: number): string {
  if (index % 9 === 8) return textOf(kind, index - 1);
  if (index % 7 === 6) return `${textOf(kind, index - 1)} One more word.`;
  const own = [paragraph(index, kind, 5), paragraph(index, `${kind}/second`, 4)];
  if (index % 5 === 0) own.splice(1, 0, REPEATED);
  if (index % 6 === 0) own.push(`Letters reach the harbour at master${index}@example.com or 192.168.7.${index}.`);
  return own.join("\n");
}

/** Bytes of a field that nobody reads: a file is then worth a thread, and quickly read. */
const BALLAST = " ".repeat(2 ** 21);

interface CorpusOptions {
  /** Files of each source. */
  readonly files: number;
  /** Makes the CSV files so large that they are given to threads. */
  readonly ballast?: boolean;
}

/** Writes the sources and recipe.yaml. */
export function writeCorpus(folder: string, { files, ballast = false }: CorpusOptions): void {
  const write = (name: string, content: string | Uint8Array) => {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), content);
  };
  const rows = <Row>(file: number, row: (index: number) => Row) =>
    Array.from({ length: 12 }, (_, place) => row(12 * file + place));
  const json = (value: object) => `${JSON.stringify(value)}\n`;
  for (let file = 0; file < files; file++) {
    for (const index of rows(file, (number) => number)) write(`notes/${index}.txt`, textOf("notes", index));
    const web = rows(file, (index) => json({ id: `w${index}`, text: textOf("web", index) }));
    write(`web/${file}.jsonl.gz`, gzipSync(`${web.join("")}{broken\n`));
    const table = rows(file, (index) => `${index},"${textOf("table", index)}","${ballast ? "" : "-"}"\r\n`);
    write(`table/${file}.csv`, `id,text,other\r\n${table.join("")}${ballast ? `,,"${BALLAST}"\r\n` : ""}`);
    const wiki = rows(file, (index) => ({ id: `d${index}`, source: "wiki", text: textOf("wiki", index) }));
    const found = wiki.map(({ id }) => json({ id, attributes: { old__pii__email: [[0, 3, 1]] } }));
    write(`wiki/documents/${file}.json.gz`, gzipSync(wiki.map(json).join("")));
    write(`wiki/attributes/old/${file}.json.gz`, gzipSync(found.join("")));
  }
  write("recipe.yaml", stringify(RECIPE));
}

const RECIPE = {
  name: "four",
  seed: 11,
  tokenizer: { vocabSize: 400 },
  heldOutBytes: 3000,
  taskBytes: 4000,
  shardTokens: 1500,
  deduplicate: { exact: true, near: { threshold: 0.8 }, paragraphs: { minLength: 40 } },
  filters: [
    { kind: "gopher", sources: ["notes", "web"], minWords: 90, maxDuplicateNgrams: [1, 1, 1, 1, 1, 1] },
    { kind: "c4", sources: ["web"] },
    { kind: "pii" },
    { kind: "length", sources: ["table"], minWords: 90 },
  ],
  sources: [
    { name: "notes", path: "notes" },
    { name: "web", path: "web", maxBrokenShare: 0.2 },
    { name: "table", path: "table" },
    { name: "wiki", path: "wiki", format: "dolma", attributes: ["old"] },
  ],
};

/** The command line, compiled: a child is then there in half a second. */
export const MAIN = path.join(ROOT, "dist", "cli", "main.js");

/** Starts `olmoe data`. */
export function startData(...argv: readonly string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, "data", ...argv], { stdio: ["ignore", "pipe", "pipe"] });
}

/** Waits for its end. @throws Error with what it wrote where it failed. */
export async function finish(child: ChildProcess): Promise<void> {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (text += chunk));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`exit code ${code}: ${text}`);
}

/** Every file of a folder, by its path. */
export function filesIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true })
    .map(String)
    .filter((name) => statSync(path.join(directory, name)).isFile())
    .sort();
}

/** All files of the data, with their bytes. */
export function dataIn(directory: string): ReadonlyMap<string, string> {
  const names = filesIn(directory).filter((name) => !/^(plan\.json|work\/)/.test(name));
  return new Map(names.map((name) => [name, readFileSync(path.join(directory, name), "base64")]));
}
