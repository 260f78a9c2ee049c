/** A worker thread: does the tasks it is sent, one at a time. */
import { parentPort, workerData } from "node:worker_threads";
import { packError } from "../../util/packedError.ts";
import type { TaskProgress } from "./context.ts";
import type { Task } from "./plan.ts";
import type { FromWorker } from "./pool.io.ts";
import { readPlan, runTask } from "./task.io.ts";

const port = parentPort;
if (port === null) throw new Error("internal: workerMain is for workers");
const post = (message: FromWorker) => port.postMessage(message);
const onProgress = (progress: TaskProgress) => post({ type: "progress", progress });

const { directory } = workerData as { readonly directory: string };
const plan = readPlan(directory);
// Told with the first task.
plan.catch(() => undefined);

port.on("message", async (task: Task) => {
  try {
    await runTask(task, { plan: await plan, directory, onProgress });
    post({ type: "done" });
  } catch (error) {
    post({ type: "failed", error: packError(error) });
  }
});
