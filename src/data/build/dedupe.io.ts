/** The tasks of deduplication: which files they read and write. */
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { type KeyKind, partitionsFor } from "../dedupe/records.ts";
import type { SketchedCorpus } from "../dedupe/steps.io.ts";
import { writeCopies, writeExactCopies, writeNearPairs, writeRepeatedParagraphs } from "../dedupe/steps.io.ts";
import { Meter, type TaskContext, type TaskOutput } from "./context.ts";
import { partName } from "./plan.ts";
import { outputFile } from "./results.io.ts";

/** Keys of each kind that all read tasks have left. */
export type KeyCounts = Readonly<Record<KeyKind, number>>;

/** Base of the sketches of a read task. */
export const sketchBase = (part: string) => `work/sketches/${part}`;
export const COPIES_FILE = "work/duplicates/copies";
const cutsFile = (partition: number) => `work/duplicates/cuts-${partition}`;
const pairsFile = (kind: string, partition: number) => `work/duplicates/${kind}-${partition}`;

/** Sums over the results of the read tasks. */
export function keyCounts(reads: readonly { readonly keys: KeyCounts }[]): KeyCounts {
  const sum = (kind: KeyKind) => reads.reduce((total, { keys }) => total + keys[kind], 0);
  return { exact: sum("exact"), near: sum("near"), paragraphs: sum("paragraphs") };
}

/** Number of partitions of each kind that the recipe asks for. */
export function partitionsOf({ recipe: { deduplicate } }: TaskContext["plan"], keys: KeyCounts): KeyCounts {
  return {
    exact: deduplicate.exact ? partitionsFor("exact", keys.exact) : 0,
    near: deduplicate.near === null ? 0 : partitionsFor("near", keys.near),
    paragraphs: deduplicate.paragraphs === null ? 0 : partitionsFor("paragraphs", keys.paragraphs),
  };
}

function corpusOf({ plan, directory, signal }: TaskContext): SketchedCorpus {
  const tasks = plan.reads.map((_, index) => path.join(directory, sketchBase(partName(plan, index))));
  return { tasks, options: plan.recipe.deduplicate, signal };
}

async function written(context: TaskContext, file: string, write: (place: string) => Promise<number>) {
  const place = path.join(context.directory, file);
  await mkdir(path.dirname(place), { recursive: true });
  const records = await write(place);
  return { files: [await outputFile(context.directory, file)], value: { records } };
}

/** One partition of exact copies, or of near ones after all of those. */
export async function pairsTask(index: number, keys: KeyCounts, context: TaskContext): Promise<TaskOutput<unknown>> {
  const partitions = partitionsOf(context.plan, keys);
  new Meter(context, "pairs").flush();
  const corpus = corpusOf(context);
  if (index < partitions.exact) {
    const partition = { partition: index, partitions: partitions.exact };
    return written(context, pairsFile("exact", index), (file) => writeExactCopies(corpus, partition, file));
  }
  const partition = { partition: index - partitions.exact, partitions: partitions.near };
  return written(context, pairsFile("near", partition.partition), (file) => writeNearPairs(corpus, partition, file));
}

export async function copiesTask(keys: KeyCounts, context: TaskContext): Promise<TaskOutput<unknown>> {
  const partitions = partitionsOf(context.plan, keys);
  const files = (kind: "exact" | "near") =>
    Array.from({ length: partitions[kind] }, (_, index) => path.join(context.directory, pairsFile(kind, index)));
  const pairs = { exact: files("exact"), near: files("near") };
  return written(context, COPIES_FILE, (file) => writeCopies(corpusOf(context), pairs, file));
}

export async function cutsTask(index: number, keys: KeyCounts, context: TaskContext): Promise<TaskOutput<unknown>> {
  const { exact, near, paragraphs } = partitionsOf(context.plan, keys);
  const copies = exact + near > 0 ? path.join(context.directory, COPIES_FILE) : undefined;
  const partition = { partition: index, partitions: paragraphs };
  return written(context, cutsFile(index), (file) =>
    writeRepeatedParagraphs(corpusOf(context), partition, copies, file),
  );
}
