/** Runs one task of a plan, unless its result is there already. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { DataError } from "../../errors.ts";
import { type ChooseCounts, chooseTask } from "./choose.io.ts";
import type { TaskContext, TaskOutput } from "./context.ts";
import { copiesTask, cutsTask, type KeyCounts, keyCounts, pairsTask, partitionsOf } from "./dedupe.io.ts";
import { encodeTask } from "./encode.io.ts";
import { type Phase, type Plan, type PlannedRead, parsePlan, type Task, taskName } from "./plan.ts";
import { type ReadCounts, readTask } from "./read.io.ts";
import { digestOf, findResult, outputDigest, removeStale, type TaskResult, writeResult } from "./results.io.ts";
import { type Selection, selectTask } from "./select.io.ts";

/** Changes where the same recipe and files give other bytes. */
const PIPELINE_VERSION = 1;

/** The plan of a folder. @throws DataError where there is none. */
export async function readPlan(directory: string): Promise<Plan> {
  const place = path.join(directory, "plan.json");
  try {
    return parsePlan(await readFile(place, "utf8"), place);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new DataError(`${place}: does not exist`, { hint: "make it with `olmoe data plan RECIPE`", cause: error });
  }
}

function notDone({ directory }: TaskContext, task: Task): DataError {
  return new DataError(`${directory}: ${taskName(task)} is not done`, {
    hint: `run it: olmoe data run ${directory} --phase ${task.phase}`,
  });
}

async function resultOf<Value>(context: TaskContext, task: Task): Promise<TaskResult<Value>> {
  const result = await findResult<Value>(context.directory, task);
  if (result === undefined) throw notDone(context, task);
  return result;
}

/** Results of a phase, which must all be there. */
export async function phaseResults<Value>(context: TaskContext, phase: Phase): Promise<TaskResult<Value>[]> {
  const results: TaskResult<Value>[] = [];
  const count = await taskCount(context, phase);
  for (let index = 0; index < count; index++) results.push(await resultOf<Value>(context, { phase, index }));
  return results;
}

/**
 * Number of tasks in a phase. How many there are to find duplicates depends on what was read.
 * @throws DataError where that is not known yet.
 */
export async function taskCount(context: TaskContext, phase: Phase): Promise<number> {
  const { reads, recipe } = context.plan;
  if (phase === "select") return 1;
  if (phase === "read" || phase === "choose" || phase === "encode") return reads.length;
  const { exact, near, paragraphs } = recipe.deduplicate;
  if (!exact && near === null && (phase !== "cuts" || paragraphs === null)) return 0;
  const partitions = partitionsOf(context.plan, (await readKeys(context)).keys);
  if (phase === "cuts") return partitions.paragraphs;
  return phase === "pairs" ? partitions.exact + partitions.near : 1;
}

/** What all read tasks have left for deduplication, and a digest of it. */
async function readKeys(context: TaskContext): Promise<{ keys: KeyCounts; digest: string }> {
  const reads: TaskResult<ReadCounts>[] = [];
  for (const index of context.plan.reads.keys()) reads.push(await resultOf(context, { phase: "read", index }));
  return { keys: keyCounts(reads.map(({ value }) => value)), digest: digestOf(reads.map(outputDigest)) };
}

/** Digest of all that a task's output depends on, and the task itself. */
interface Step {
  readonly key: string;
  run(): Promise<TaskOutput<unknown>>;
}

async function digestsOf(context: TaskContext, phase: Phase): Promise<string[]> {
  return (await phaseResults(context, phase)).map(outputDigest);
}

async function dedupeStep({ phase, index }: Task, context: TaskContext): Promise<Step> {
  const { keys, digest } = await readKeys(context);
  const before = phase === "pairs" ? [] : await digestsOf(context, phase === "copies" ? "pairs" : "copies");
  const key = digestOf([PIPELINE_VERSION, phase, index, context.plan.recipe.deduplicate, digest, before]);
  const run = () => {
    if (phase === "pairs") return pairsTask(index, keys, context);
    return phase === "copies" ? copiesTask(keys, context) : cutsTask(index, keys, context);
  };
  return { key, run };
}

async function stepOf(task: Task, context: TaskContext): Promise<Step> {
  const { phase, index } = task;
  const { recipe, reads, resolved, inputs } = context.plan;
  const keyOf = (...parts: unknown[]) => digestOf([PIPELINE_VERSION, phase, index, ...parts]);
  switch (phase) {
    case "read": {
      const read = reads[index] as PlannedRead;
      const { weight: _, ...source } = recipe.sources[read.source]!;
      return {
        key: keyOf(source, resolved[read.source], read, recipe.deduplicate, recipe.filters, inputs),
        run: () => readTask(index, context),
      };
    }
    case "pairs":
    case "copies":
    case "cuts":
      return dedupeStep(task, context);
    case "choose": {
      const { heldOutBytes, seed, tokenizer, filters } = recipe;
      const read = outputDigest(await resultOf(context, { phase: "read", index }));
      const copies = await digestsOf(context, "copies");
      const cuts = await phaseResults(context, "cuts");
      const cutFiles = cuts.flatMap(({ files }) => files.map(({ file }) => file));
      return {
        key: keyOf(read, copies, cuts.map(outputDigest), heldOutBytes, seed, tokenizer, filters, inputs),
        run: () => chooseTask(index, cutFiles, context),
      };
    }
    case "select": {
      const chosen = await phaseResults<ChooseCounts>(context, "choose");
      const values = (await phaseResults<ReadCounts>(context, "read")).map(({ value }) => value);
      return {
        key: keyOf(chosen.map(outputDigest), recipe.tokenizer, recipe.heldOutBytes, inputs),
        run: () =>
          selectTask(
            values,
            chosen.map(({ value }) => value),
            context,
          ),
      };
    }
    case "encode": {
      const read = outputDigest(await resultOf(context, { phase: "read", index }));
      const chosen = outputDigest(await resultOf(context, { phase: "choose", index }));
      const { value } = await resultOf<Selection>(context, { phase: "select", index: 0 });
      const { tokenizer, heldOut } = value;
      const key = keyOf(read, chosen, tokenizer, heldOut[index], recipe.shardTokens, recipe.seed);
      return { key, run: () => encodeTask(index, value, context) };
    }
  }
}

/** Key that a task's result must have to count. */
export async function taskKey(task: Task, context: TaskContext): Promise<string> {
  return (await stepOf(task, context)).key;
}

/**
 * Does a task, or finds it done.
 * @throws DataError, TokenizerError or ResourceError; the signal's reason.
 */
export async function runTask(task: Task, context: TaskContext): Promise<void> {
  context.signal?.throwIfAborted();
  const { key, run } = await stepOf(task, context);
  if ((await findResult(context.directory, task))?.key === key) return;
  const output = await run();
  await removeStale(context.directory, task, new Set(output.files.map(({ file }) => file)));
  await writeResult(context.directory, task, { key, ...output });
}
