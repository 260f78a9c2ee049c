import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { randomWords } from "../../../test/dedupeCorpus.ts";
import { type DedupeOptions, dedupeSchema } from "../../config/dataDedupe.ts";
import { createRandom, uniform } from "../../util/random.ts";
import { type KeyKind, partitionsFor } from "./records.ts";
import { createSketcher } from "./sketch.ts";
import { SketchWriter } from "./sketchFiles.io.ts";
import {
  countPartitions,
  readCopies,
  readCuts,
  type SketchedCorpus,
  writeCopies,
  writeExactCopies,
  writeNearPairs,
  writeRepeatedParagraphs,
} from "./steps.io.ts";

const OPTIONS = dedupeSchema.parse({ near: {}, paragraphs: {} });
const C4 = fileURLToPath(new URL("../../../../shared/data/pretrain/c4-sample.00000-of-00001.json.gz", import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "olmoe-dedupe-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** Sketches tasks, in any order. */
async function sketch(
  tasks: readonly (readonly string[])[],
  options: DedupeOptions,
  backwards = false,
): Promise<SketchedCorpus> {
  const order = [...tasks.keys()];
  if (backwards) order.reverse();
  for (const task of order) {
    const sketcher = await createSketcher(options);
    const writer = await SketchWriter.create(join(folder, `task${task}`), options);
    for (const [document, text] of tasks[task]!.entries()) await writer.add(document, sketcher(text));
    await writer.finish();
  }
  return { tasks: tasks.map((_, task) => join(folder, `task${task}`)), options };
}

/** Runs all steps; partitions from the last to the first. */
async function run(corpus: SketchedCorpus, partitions: number) {
  const files = (name: KeyKind) => Array.from({ length: partitions }, (_, index) => join(folder, `${name}${index}`));
  const each = async (
    name: KeyKind,
    step: (file: string, partition: { partition: number; partitions: number }) => unknown,
  ) => {
    for (const [partition, file] of [...files(name).entries()].reverse()) await step(file, { partition, partitions });
    return files(name);
  };
  const exact = await each("exact", (file, partition) => writeExactCopies(corpus, partition, file));
  const near = await each("near", (file, partition) => writeNearPairs(corpus, partition, file));
  const copies = join(folder, "copies");
  await writeCopies(corpus, { exact, near }, copies);
  const paragraphs = await each("paragraphs", (file, partition) =>
    writeRepeatedParagraphs(corpus, partition, copies, file),
  );
  const tasks = [...corpus.tasks.keys()];
  return {
    bytes: await readFile(copies),
    copies: await Promise.all(tasks.map((task) => readCopies(copies, task))),
    cuts: await Promise.all(tasks.map((task) => readCuts(paragraphs, task))),
  };
}

describe("deduplication over files", () => {
  it("finds copies of each kind and where their originals are", async () => {
    const random = createRandom(1, "steps");
    const [first, second] = [randomWords(random, 150), randomWords(random, 150)].map((words) => words.join(" "));
    const notice = "All rights reserved. No part of this page may be copied without a written permission.";
    const tasks = [["short", `${first}\n${notice}`], [], [`${second}\n${notice}`, "short", `${first} more\n${notice}`]];
    const { copies, cuts } = await run(await sketch(tasks, OPTIONS), 2);
    expect(copies).toEqual([
      new Map(),
      new Map(),
      new Map([
        [1, { reason: "exact", original: { task: 0, document: 0 } }],
        [2, { reason: "near", original: { task: 0, document: 1 } }],
      ]),
    ]);
    expect(cuts).toEqual([new Map(), new Map(), new Map([[0, new Set([1])]])]);
  });

  it("gives the same bytes for any number of partitions and any order of reading", async () => {
    const random = createRandom(2, "steps");
    const bases = Array.from({ length: 20 }, () => randomWords(random, 100));
    const tasks = Array.from({ length: 5 }, () =>
      Array.from({ length: 60 }, () => {
        const words = bases[Math.floor(uniform(random) * bases.length)]!;
        return words.map((word) => (uniform(random) < 0.01 ? `${word}x` : word)).join(" ");
      }),
    );
    const one = await run(await sketch(tasks, OPTIONS), 1);
    const many = await run(await sketch(tasks, OPTIONS, true), 9);
    expect(many).toEqual(one);
    expect(one.copies.reduce((sum, { size }) => sum + size, 0)).toBeGreaterThan(150);
  });

  it("finds nothing where there is nothing", async () => {
    expect(await run(await sketch([], OPTIONS), 1)).toMatchObject({ copies: [], cuts: [] });
    expect(await run(await sketch([[], ["", ""]], { ...OPTIONS }), 1)).toMatchObject({
      copies: [new Map(), new Map([[1, { reason: "exact", original: { task: 1, document: 0 } }]])],
      cuts: [new Map(), new Map()],
    });
  });

  it("reads the signatures of documents that lie far apart, past documents without one", async () => {
    const text = randomWords(createRandom(3, "steps"), 100).join(" ");
    const tasks = [
      Array.from({ length: 3000 }, (_, index) => (index % 700 === 99 ? `${text} ${index}` : `s ${index}`)),
    ];
    const { copies } = await run(await sketch(tasks, OPTIONS), 1);
    expect([...copies[0]!.keys()]).toEqual([799, 1499, 2199, 2899]);
  });

  it("refuses sketches of other options", async () => {
    const corpus = await sketch([["text"]], OPTIONS);
    const options = { ...OPTIONS, near: { threshold: 0.7 } };
    await expect(
      writeNearPairs({ ...corpus, options }, { partition: 0, partitions: 1 }, join(folder, "x")),
    ).rejects.toThrow(`${corpus.tasks[0]}.near: was written with setting 8, expected 6`);
  });

  it("stops when it is told to", async () => {
    const corpus = { ...(await sketch([["text", "text"]], OPTIONS)), signal: AbortSignal.abort() };
    await expect(writeExactCopies(corpus, { partition: 0, partitions: 1 }, join(folder, "x"))).rejects.toThrow(
      "aborted",
    );
  });

  it("cuts a corpus into as many partitions as its tables need", async () => {
    expect(await countPartitions(await sketch([["a", "b"], ["c"]], OPTIONS), "exact")).toBe(1);
    const counts = [0, 1e6, 2e6, 1e8, 3.08e9].map((records) => partitionsFor("exact", records));
    expect(counts).toEqual([1, 1, 2, 53, 1607]);
    expect([partitionsFor("near", 1e6), partitionsFor("near", 16 * 3.08e9)]).toEqual([3, 4096]);
  });

  it.skipIf(!existsSync(C4))("finds planted copies in real web pages (needs ../shared/data/pretrain)", async () => {
    const texts = gunzipSync(await readFile(C4))
      .toString()
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { text: string }).text);
    const before = await run(await sketch([texts], OPTIONS), 1);
    const long = [...texts.keys()].filter((index) => texts[index]!.split(/\s+/).length > 300).slice(0, 100);
    const random = createRandom(4, "steps");
    // Case, one word in a hundred, and the end change.
    const edited = long.map((index) => {
      const words = texts[index]!.split(" ").map((word) => (uniform(random) < 0.01 ? "changed" : word));
      return `${words.join(" ").replace(/^./, (letter) => letter.toLowerCase())} Read more!`;
    });
    const after = await run(await sketch([texts, [...long.map((index) => texts[index]!), ...edited]], OPTIONS), 3);
    expect(after.copies[0]).toEqual(before.copies[0]);
    const found = [...after.copies[1]!].map(
      ([document, { reason, original }]) => `${document} ${reason} ${original.document}`,
    );
    const exact = long.map((index, document) => `${document} exact ${index}`);
    expect(found.slice(0, long.length)).toEqual(exact);
    const near = long.map((index, document) => `${long.length + document} near ${index}`);
    expect(near.filter((copy) => found.includes(copy)).length).toBeGreaterThanOrEqual(95);
  });
});
