/**
 * `npm run bench -- dedupe`: sketches of documents, in MB/s of their text beside the speed of encoding it in UTF-8, and the
 * steps over a corpus, in documents/s beside the speed of reading the files that the step reads. All on one thread.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DedupeOptions, dedupeSchema } from "../src/config/dataDedupe.ts";
import type { KeyKind } from "../src/data/dedupe/records.ts";
import { createSketcher } from "../src/data/dedupe/sketch.ts";
import { recordPath, SketchWriter } from "../src/data/dedupe/sketchFiles.io.ts";
import {
  type SketchedCorpus,
  writeCopies,
  writeExactCopies,
  writeNearPairs,
  writeRepeatedParagraphs,
} from "../src/data/dedupe/steps.io.ts";
import { createRandom, type RandomGenerator, uniform } from "../src/util/random.ts";
import { type BenchOptions, describeMachine, interleave, type Row, toRow } from "./harness.ts";

const ALL = dedupeSchema.parse({ near: {}, paragraphs: {} });
const NONE: DedupeOptions = { exact: false, near: null, paragraphs: null };
const SKETCHES: Readonly<Record<string, DedupeOptions>> = {
  exact: { ...NONE, exact: true },
  near: { ...NONE, near: ALL.near },
  paragraphs: { ...NONE, paragraphs: ALL.paragraphs },
  all: ALL,
};

/** About the mean length of the documents of OLMoE-Mix, 5.6 kB. */
const SKETCHED_WORDS = 1000;
const SKETCHED_DOCUMENTS = 2000;
const CORPUS_WORDS = 100;
const CORPUS_DOCUMENTS = 100_000;
const WHOLE = { partition: 0, partitions: 1 };

/** A text with the lengths of English words, sentences and paragraphs. */
function textOf(words: number, random: RandomGenerator): string {
  let text = "";
  for (let word = 1; word <= words; word++) {
    const letters = 1 + Math.floor((uniform(random) + uniform(random)) * 4.2);
    const code = Math.floor(26 ** letters * uniform(random) ** 3);
    let rest = code;
    for (let letter = 0; letter < letters; letter++) {
      text += String.fromCharCode(97 + (rest % 26));
      rest = Math.floor(rest / 26);
    }
    text += word % 80 === 0 ? ".\n" : word % 16 === 0 ? ". " : " ";
  }
  return text;
}

function timedRate(units: number, start: number): number {
  return units / ((performance.now() - start) / 1000);
}

async function* sketchRows(options: BenchOptions): AsyncGenerator<Row> {
  const random = createRandom(1, "bench/dedupe/sketch");
  const texts = Array.from({ length: SKETCHED_DOCUMENTS }, () => textOf(SKETCHED_WORDS, random));
  const megabytes = texts.reduce((sum, text) => sum + text.length, 0) / 1e6;
  const bytes = new Uint8Array(2 ** 20);
  const encoder = new TextEncoder();
  const limit = () => {
    const start = performance.now();
    for (const text of texts) encoder.encodeInto(text, bytes);
    return timedRate(megabytes, start);
  };
  for (const [name, kinds] of Object.entries(SKETCHES)) {
    const sketch = await createSketcher(kinds);
    const run = () => {
      const start = performance.now();
      for (const text of texts) sketch(text);
      return timedRate(megabytes, start);
    };
    yield await measure(`sketches, ${name}`, "MB/s", run, limit, options);
  }
}

async function measure(
  name: string,
  unit: string,
  run: () => number | Promise<number>,
  limit: () => number | Promise<number>,
  options: BenchOptions,
): Promise<Row> {
  const contenders = [
    { name: "ours", run },
    { name: "limit", run: limit },
  ];
  const parts = { bench: "dedupe", case: name, unit, machine: describeMachine(0), ours: "ours", limit: "limit" };
  return toRow(parts, await interleave(contenders, options));
}

/** Writes the sketches of documents of which a fifth are copies and a fifth differ from another in one word. */
async function sketchCorpus(folder: string): Promise<SketchedCorpus> {
  const random = createRandom(2, "bench/dedupe/corpus");
  const sketch = await createSketcher(ALL);
  const base = join(folder, "task0");
  const writer = await SketchWriter.create(base, ALL);
  let earlier = "";
  for (let document = 0; document < CORPUS_DOCUMENTS; document++) {
    const text = document % 5 === 1 ? earlier : document % 5 === 2 ? `${earlier}more` : textOf(CORPUS_WORDS, random);
    earlier = text;
    await writer.add(document, sketch(text));
  }
  await writer.finish();
  return { tasks: [base], options: ALL };
}

/** Bytes of resident memory that a step adds, at most. */
async function addedMemory(step: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage.rss();
  let peak = before;
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 5);
  await step();
  clearInterval(timer);
  return Math.max(peak, process.memoryUsage.rss()) - before;
}

async function* stepRows(folder: string, options: BenchOptions): AsyncGenerator<Row | string> {
  const corpus = await sketchCorpus(folder);
  const [base] = corpus.tasks as [string];
  const [exact, near, copies, cuts] = ["exact", "near", "copies", "cuts"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  const kinds = (...names: (KeyKind | "signatures")[]) => names.map((name) => recordPath(base, name));
  const steps = [
    { name: "exact", read: kinds("exact"), step: () => writeExactCopies(corpus, WHOLE, exact) },
    { name: "near", read: kinds("near", "signatures"), step: () => writeNearPairs(corpus, WHOLE, near) },
    { name: "copies", read: [exact, near], step: () => writeCopies(corpus, { exact: [exact], near: [near] }, copies) },
    { name: "paragraphs", read: kinds("paragraphs"), step: () => writeRepeatedParagraphs(corpus, WHOLE, copies, cuts) },
  ];
  const findings: string[] = [];
  for (const { name, read, step } of steps) {
    const added = await addedMemory(step);
    findings.push(`step ${name}: ${(added / 2 ** 20).toFixed(0)} MiB of memory`);
    const run = async () => {
      const start = performance.now();
      await step();
      return timedRate(CORPUS_DOCUMENTS, start);
    };
    const limit = async () => {
      const start = performance.now();
      for (const file of read) await readFile(file);
      return timedRate(CORPUS_DOCUMENTS, start);
    };
    yield await measure(`step ${name}`, "documents/s", run, limit, options);
  }
  yield* findings;
}

/** Rows of sketching and of the steps. */
export async function* dedupeBench(options: BenchOptions): AsyncGenerator<Row | string> {
  yield* sketchRows(options);
  const folder = await mkdtemp(join(tmpdir(), "olmoe-bench-dedupe-"));
  try {
    yield* stepRows(folder, options);
  } finally {
    await rm(folder, { recursive: true });
  }
}
