/** Does tasks in worker threads, or here where one worker is enough. */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { PACKAGE_ROOT } from "../../util/packageRoot.io.ts";
import { type PackedError, unpackError } from "../../util/packedError.ts";
import type { TaskContext, TaskProgress } from "./context.ts";
import type { Task } from "./plan.ts";
import { runTask } from "./task.io.ts";

export type FromWorker =
  | { readonly type: "progress"; readonly progress: TaskProgress }
  | { readonly type: "done" }
  | { readonly type: "failed"; readonly error: PackedError };

/** Does one task at a time. */
interface Lane {
  run(task: Task): Promise<void>;
  close(): Promise<void>;
}

/** A worker thread. Ending it in the middle of a task is safe: what is not whole does not count. */
class WorkerLane implements Lane {
  readonly #worker: Worker;
  #settle: { resolve(): void; reject(error: unknown): void } | undefined;
  #fault: unknown;

  constructor({ directory, onProgress }: TaskContext) {
    const main = join(PACKAGE_ROOT, "dist", "data", "build", "workerMain.io.js");
    this.#worker = new Worker(main, { workerData: { directory }, execArgv: [], name: "olmoe data" });
    this.#worker.on("message", (message: FromWorker) => {
      if (message.type === "progress") onProgress?.(message.progress);
      else if (message.type === "done") this.#settle?.resolve();
      else this.#settle?.reject(unpackError(message.error));
    });
    this.#worker.on("error", (error) => this.#fail(error));
    this.#worker.on("exit", (code) => this.#fail(new Error(`internal: a data worker ended with code ${code}`)));
  }

  run(task: Task): Promise<void> {
    if (this.#fault !== undefined) return Promise.reject(this.#fault);
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#worker.postMessage(task);
    });
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #fail(error: unknown): void {
    this.#fault ??= error;
    this.#settle?.reject(error);
  }
}

/** Does tasks in the order they are given, some at a time. */
export class TaskPool {
  readonly #lanes: readonly Lane[];
  readonly #signal: AbortSignal | undefined;

  /** @param workers threads; one means this one. */
  constructor(context: TaskContext, workers: number) {
    this.#signal = context.signal;
    this.#lanes =
      workers <= 1
        ? [{ run: (task) => runTask(task, context), close: () => Promise.resolve() }]
        : Array.from({ length: workers }, () => new WorkerLane(context));
  }

  /**
   * @param onDone is told of each finished task.
   * @throws what the first failing task throws; the signal's reason. Others may still be running then, until `close`.
   */
  async run(tasks: readonly Task[], onDone: (task: Task) => void): Promise<void> {
    let next = 0;
    const aborted = new Promise<never>((_, reject) => {
      this.#signal?.addEventListener("abort", () => reject(this.#signal?.reason), { once: true });
    });
    aborted.catch(() => undefined);
    const lane = async (own: Lane) => {
      while (next < tasks.length) {
        this.#signal?.throwIfAborted();
        const task = tasks[next++] as Task;
        await own.run(task);
        onDone(task);
      }
    };
    await Promise.race([Promise.all(this.#lanes.map(lane)), aborted]);
  }

  async close(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.close()));
  }
}
