/** Reads a task's files: documents in Dolma's form, what filters find in them, and sketches for deduplication. */
import { mkdir } from "node:fs/promises";
import path from "node:path";
import type { KeyKind } from "../dedupe/records.ts";
import { createSketcher } from "../dedupe/sketch.ts";
import { kindsOf, recordPath, SketchWriter } from "../dedupe/sketchFiles.io.ts";
import { utf8Bytes } from "../document.ts";
import { attributeLine } from "../filters/attributeLine.ts";
import { writingLines } from "../lines.io.ts";
import { newReadReport, readDocuments } from "../sources/sources.io.ts";
import { Meter, type TaskContext, type TaskOutput } from "./context.ts";
import { sketchBase } from "./dedupe.io.ts";
import { filtersFor, judgeAll, tagAll } from "./filters.io.ts";
import { type PlannedRead, partName } from "./plan.ts";
import { outputFile } from "./results.io.ts";
import { choiceOf } from "./verdicts.ts";

/** What reading found. */
export interface ReadCounts {
  readonly files: number;
  /** Records of the files, broken ones included. */
  readonly records: number;
  readonly documents: number;
  /** UTF-8 bytes of the documents' text. */
  readonly bytes: number;
  /** Records without text. */
  readonly empty: number;
  readonly broken: number;
  /** The first of the broken ones, as "file:line: fault". */
  readonly faults: readonly string[];
  /** Keys for deduplication, by kind. */
  readonly keys: Readonly<Record<KeyKind, number>>;
}

/** Name of the attribute folder, and what stands for the source among the filters. */
const EXPERIMENT = "filters";
const SOURCE_ATTRIBUTES = "source";

/** Where a read task's output is. */
export const attributesFile = (part: string) => `attributes/${EXPERIMENT}/${part}.jsonl.gz`;
export const documentsFile = (part: string) => `documents/${part}.jsonl.gz`;

/** @throws DataError for a source that can not be read, or too many broken records; ResourceError for a full disk. */
export async function readTask(index: number, context: TaskContext): Promise<TaskOutput<ReadCounts>> {
  const { plan, directory, signal } = context;
  const { source: number, files } = plan.reads[index] as PlannedRead;
  const source = plan.recipe.sources[number]!;
  const { baseDirectory, cacheDirectory } = plan;
  const report = newReadReport();
  const counts = { documents: 0, bytes: 0 };
  const keys = { exact: 0, near: 0, paragraphs: 0 };
  const meter = new Meter(context, "read", source.name);
  const part = partName(plan, index);
  const base = path.join(directory, sketchBase(part));
  await mkdir(path.dirname(base), { recursive: true });
  const filters = await filtersFor(source.name, context);
  const sketch = await createSketcher(plan.recipe.deduplicate);
  const sketches = await SketchWriter.create(base, plan.recipe.deduplicate);
  try {
    const names = [documentsFile(part), attributesFile(part)];
    const outputs = await writingLines(directory, names, async (documents, attributes) => {
      const options = { baseDirectory, cacheDirectory, signal, report };
      for await (const { document, attributes: own } of readDocuments(files, source, options)) {
        await documents!.write(document);
        const found = await tagAll(filters, document);
        const all = own === undefined ? found : { ...found, [SOURCE_ATTRIBUTES]: own };
        await attributes!.text(`${attributeLine(document, all, EXPERIMENT)}\n`);
        // What a filter drops must not stand for its copies.
        const isKept = choiceOf(judgeAll(filters, found)).drop === undefined;
        if (isKept) await sketches.add(counts.documents, sketch(document.text));
        const bytes = utf8Bytes(document.text);
        counts.documents++;
        counts.bytes += bytes;
        meter.add(bytes);
      }
    });
    Object.assign(keys, await sketches.finish());
    meter.flush();
    for (const kind of kindsOf(plan.recipe.deduplicate))
      outputs.push(await outputFile(directory, recordPath(sketchBase(part), kind)));
    const { faults, ...found } = report;
    return {
      files: outputs,
      value: { ...found, ...counts, records: faults.records, broken: faults.broken, faults: faults.first, keys },
    };
  } catch (error) {
    await sketches.discard();
    throw error;
  }
}
