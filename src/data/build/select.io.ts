/** Draws what is held out of each source, and trains or loads the tokenizer. */
import path from "node:path";
import { DataError } from "../../errors.ts";
import { loadTokenizer, trainTokenizer } from "../../tokenizer/io.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { replaceFile } from "../../util/files.io.ts";
import { readValues } from "../lines.io.ts";
import { chooseHeldOut } from "../split.ts";
import { type ChooseCounts, type Sample, samplesFile } from "./choose.io.ts";
import { Meter, type TaskContext, type TaskOutput } from "./context.ts";
import { type Plan, partName } from "./plan.ts";
import type { ReadCounts } from "./read.io.ts";
import { sha256Of } from "./results.io.ts";

export interface Selection {
  /** Documents that are held out, by read task, in order. */
  readonly heldOut: Readonly<Record<number, readonly number[]>>;
  readonly tokenizer: { readonly sha256: string; readonly vocabSize: number; readonly eosTokenId: number };
}

/** Held-out documents of all sources, by read task. */
function heldOutByTask({ plan }: TaskContext, chosen: readonly ChooseCounts[]): Record<number, number[]> {
  const heldOut: Record<number, number[]> = {};
  for (const [source, { name }] of plan.recipe.sources.entries()) {
    const tasks = chosen.filter((_, index) => plan.reads[index]?.source === source);
    const units = chooseHeldOut(
      tasks.flatMap(({ units }) => units),
      {
        source: name,
        heldOutBytes: plan.recipe.heldOutBytes,
        documents: tasks.reduce((sum, { documents }) => sum + documents, 0),
        bytes: tasks.reduce((sum, { bytes }) => sum + bytes, 0),
      },
    );
    for (const { task, documents } of units) heldOut[task] = [...(heldOut[task] ?? []), ...documents];
  }
  for (const documents of Object.values(heldOut)) documents.sort((one, other) => one - other);
  return heldOut;
}

/** Training texts of each source in the order of their draw, up to `trainBytes` of each. */
async function tokenizerTexts(context: TaskContext, heldOut: Selection["heldOut"], meter: Meter): Promise<string[]> {
  const { plan, directory, signal } = context;
  const texts: string[] = [];
  for (const source of plan.recipe.sources.keys()) {
    const samples: (Sample & { readonly task: number })[] = [];
    for (const [task, read] of plan.reads.entries()) {
      if (read.source !== source) continue;
      const kept = new Set(heldOut[task]);
      for await (const sample of readValues<Sample>(directory, samplesFile(partName(plan, task)), signal)) {
        if (!kept.has(sample.index)) samples.push({ ...sample, task });
      }
    }
    samples.sort((one, other) => one.hash - other.hash || one.task - other.task);
    let bytes = 0;
    for (const sample of samples) {
      if (bytes >= plan.recipe.tokenizer.trainBytes) break;
      bytes += sample.bytes;
      texts.push(sample.text);
      meter.add(sample.bytes);
    }
  }
  return texts;
}

/** A source without a document left is a mistake in the recipe. */
function checkNotEmpty(plan: Plan, reads: readonly ReadCounts[], chosen: readonly ChooseCounts[]): void {
  for (const [source, { name }] of plan.recipe.sources.entries()) {
    const own = [...plan.reads.keys()].filter((index) => plan.reads[index]?.source === source);
    if (own.some((index) => chosen[index]!.documents > 0)) continue;
    const sum = (key: "files" | "documents" | "broken") => own.reduce((total, index) => total + reads[index]![key], 0);
    const faults = own.flatMap((index) => reads[index]!.faults);
    const broken = `${sum("broken")} could not be read\n${faults.join("\n")}`;
    const empty = sum("broken") > 0 ? broken : "all are empty";
    const why = sum("documents") > 0 ? `none of ${sum("documents")} documents is kept` : empty;
    throw new DataError(`source "${name}": no text in the ${sum("files")} files of ${plan.resolved[source]}, ${why}`);
  }
}

/**
 * @param reads results of all read tasks, in order.
 * @param chosen results of all choose tasks, in order.
 * @throws DataError for a source without text, or one that can not be divided; TokenizerError for too little text.
 */
export async function selectTask(
  reads: readonly ReadCounts[],
  chosen: readonly ChooseCounts[],
  context: TaskContext,
): Promise<TaskOutput<Selection>> {
  const { plan, directory, signal } = context;
  checkNotEmpty(plan, reads, chosen);
  const heldOut = heldOutByTask(context, chosen);
  const meter = new Meter(context, "select");
  const { file, vocabSize } = plan.recipe.tokenizer;
  let tokenizer: Tokenizer;
  if (file !== undefined) tokenizer = await loadTokenizer(path.resolve(plan.baseDirectory, file));
  else {
    const texts = await tokenizerTexts(context, heldOut, meter);
    meter.flush();
    const options = signal === undefined ? {} : { signal };
    tokenizer = trainTokenizer(texts, { vocabSize: vocabSize as number, ...options });
  }
  const json = tokenizer.toJson();
  await replaceFile(path.join(directory, "tokenizer.json"), (handle) => handle.writeFile(json));
  meter.flush();
  const facts = { sha256: sha256Of(json), vocabSize: tokenizer.vocabSize, eosTokenId: tokenizer.eosTokenId };
  const output = { file: "tokenizer.json", bytes: Buffer.byteLength(json), sha256: facts.sha256 };
  return { files: [output], value: { heldOut, tokenizer: facts } };
}
