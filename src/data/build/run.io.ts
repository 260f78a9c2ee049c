/**
 * Runs a plan, or one worker's share of it. Workers of one plan need nothing but its folder: each does its own tasks of a
 * phase, waits until the others' results are there, and goes on with the next.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { TaskContext, TaskProgress } from "./context.ts";
import { checkInputs } from "./plan.io.ts";
import { PHASES, type Phase, type Task } from "./plan.ts";
import { TaskPool } from "./pool.io.ts";
import type { ReadCounts } from "./read.io.ts";
import { findResult } from "./results.io.ts";
import { readPlan, taskCount, taskKey } from "./task.io.ts";

export interface RunProgress extends TaskProgress {
  /** Tasks of the phase that are done, by this run and before, and all of its share. */
  readonly done: number;
  readonly tasks: number;
  /** UTF-8 bytes of text in its share of the phase; while it is read, about so many. */
  readonly totalBytes: number;
  /** Tasks of others that are waited for. */
  readonly waiting: number;
}

export interface RunPlanOptions {
  /** The folder of the data, which holds plan.json. */
  readonly directory: string;
  /** Threads. Left out: one, which is this one. */
  readonly workers?: number | undefined;
  /** This worker among all that run the plan, from 0. Left out: the only one. */
  readonly share?: { readonly index: number; readonly of: number } | undefined;
  /** Phases to run. Left out: all, one after the other. */
  readonly phases?: readonly Phase[] | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: RunProgress) => void) | undefined;
}

/** A thread takes a third of a second to start; so much text is read and tokenised meanwhile. */
const THREAD_BYTES = 2 ** 21;

/** How often the folder is looked at for what others have done. */
const POLL_MS = 200;

/** Waits until tasks of other workers are done, with keys that fit this plan. */
async function waitFor(tasks: readonly Task[], context: TaskContext, tell: (waiting: number) => void): Promise<void> {
  let open = [...tasks];
  for (;;) {
    const still: Task[] = [];
    for (const task of open) {
      const result = await findResult(context.directory, task);
      if (result === undefined || result.key !== (await taskKey(task, context))) still.push(task);
    }
    if (still.length === 0) return;
    open = still;
    tell(open.length);
    await sleep(POLL_MS, undefined, { signal: context.signal });
  }
}

/** What compressed files come to, about: text in gzip or zstd. */
const EXPANSION = 3;

/** Phases whose tasks go through the text of a read task. */
const TEXT_PHASES: readonly Phase[] = ["read", "choose", "encode"];

/** UTF-8 bytes of text that tasks go through: as their files suggest, or as their read tasks have found; 0 for others. */
async function textBytes(tasks: readonly Task[], { plan, directory }: TaskContext): Promise<number> {
  let bytes = 0;
  for (const { phase, index } of tasks) {
    if (!TEXT_PHASES.includes(phase)) return 0;
    const read = phase === "read" ? undefined : await findResult<ReadCounts>(directory, { phase: "read", index });
    const files = plan.reads[index]?.files ?? [];
    const guess = (file: (typeof files)[number]) =>
      (/\.(gz|zst|bz2|parquet)$/.test(file.path) ? EXPANSION : 1) * file.bytes;
    bytes += read?.value.bytes ?? files.reduce((sum, file) => sum + guess(file), 0);
  }
  return bytes;
}

/**
 * Runs tasks that are not done. It can be killed at any moment; the next run does what is missing, and the bytes are the
 * same.
 * @throws DataError for a source or file that can not be used, ResourceError for a full disk, the signal's reason.
 */
export async function runPlan(options: RunPlanOptions): Promise<void> {
  const { directory, signal, workers = 1, share = { index: 0, of: 1 }, phases = PHASES } = options;
  const plan = await readPlan(directory);
  await checkInputs(plan, directory, signal);
  const state = { done: 0, tasks: 0, totalBytes: 0, waiting: 0 };
  const context: TaskContext = {
    plan,
    directory,
    signal,
    onProgress: (progress) => options.onProgress?.({ ...progress, ...state }),
  };
  const bytes = plan.reads.reduce((sum, { files }) => sum + files.reduce((own, file) => own + file.bytes, 0), 0);
  const pool = new TaskPool(
    context,
    Math.min(workers, Math.ceil(plan.reads.length / share.of), Math.ceil(bytes / THREAD_BYTES)),
  );
  try {
    for (const phase of PHASES) {
      if (!phases.includes(phase)) continue;
      const all = Array.from({ length: await taskCount(context, phase) }, (_, index) => ({ phase, index }));
      const own = all.filter(({ index }) => index % share.of === share.index);
      const totalBytes = await textBytes(own, context);
      Object.assign(state, { done: 0, tasks: own.length, totalBytes, waiting: 0 });
      const tell = () => context.onProgress?.({ phase, bytes: 0, documents: 0 });
      await pool.run(own, () => {
        state.done++;
        tell();
      });
      const others = all.filter(({ index }) => index % share.of !== share.index);
      // The last phase of a run is over with its own tasks: whoever needs the others' looks for them.
      if (phase === phases.at(-1)) continue;
      await waitFor(others, context, (waiting) => {
        state.waiting = waiting;
        tell();
      });
    }
  } finally {
    await pool.close();
  }
}
