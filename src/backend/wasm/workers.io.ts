/** Node's workers, for the kernels' threads. */
import { Worker } from "node:worker_threads";
import type { StartWorker } from "./workers.ts";

/** Gives a worker of Node the two names that the script of a page's worker uses. */
const PRELUDE = `const { parentPort } = require("node:worker_threads");
globalThis.postMessage = (message) => parentPort.postMessage(message);
parentPort.once("message", (data) => globalThis.onmessage({ data }));
`;

export const startNodeWorker: StartWorker = (source, { onMessage, onError }) => {
  // Without execArgv the worker would load whatever the process was started with, such as a loader.
  const worker = new Worker(PRELUDE + source, { eval: true, execArgv: [], name: "olmoe kernels" });
  worker.on("message", onMessage);
  worker.on("error", (error) => onError(error.message));
  worker.on("exit", (code) => onError(`ended with code ${code}`));
  return {
    postMessage: (message) => worker.postMessage(message),
    terminate: () => void worker.terminate(),
    unref: () => worker.unref(),
  };
};
