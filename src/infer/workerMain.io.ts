/** The worker's side: opens an engine, then does what its callers ask, and tells them of each pass in one message. */
import { setPriority } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { packError } from "../util/packedError.ts";
import type { ScoreOptions } from "./engine.ts";
import type { LocalEngine } from "./localEngine.ts";
import {
  type FromWorker,
  type OpenEngine,
  packGeneration,
  type ToWorker,
  type WorkerEvent,
  type WorkerInput,
} from "./workerProtocol.ts";

const port = parentPort;
if (port === null) throw new Error("internal: workerMain is for workers");

const post = (message: FromWorker, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

/** The arrays of an object of them, each of which has its memory to itself. */
function buffersOf(arrays: object): ArrayBuffer[] {
  return Object.values(arrays).flatMap((values) => (ArrayBuffer.isView(values) ? [values.buffer as ArrayBuffer] : []));
}

/** Arrays that a message may take along instead of copying them. */
function transferable(event: WorkerEvent): ArrayBuffer[] {
  if ("values" in event) return [event.values.buffer as ArrayBuffer];
  if ("rows" in event) return buffersOf(event.rows);
  if ("token" in event && event.token.promptRouting !== undefined) return buffersOf(event.token.promptRouting);
  const packed = "generation" in event ? event.generation.packedLogprobs : undefined;
  return packed === undefined ? [] : [packed.ids.buffer as ArrayBuffer, packed.logprobs.buffer as ArrayBuffer];
}

/**
 * The kernels' threads inherit this thread's priority, a little below that of the caller's. Else the caller, and what V8
 * runs beside it to collect its garbage, wait for a core behind them. Only Linux has a priority for each thread.
 */
const NICENESS = 5;
if (process.platform === "linux") setPriority(NICENESS);

let events: WorkerEvent[] = [];

/** Events of one turn go together: a pass is one turn. */
function tell(event: WorkerEvent): void {
  if (events.length === 0) {
    queueMicrotask(() => {
      const batch = events;
      events = [];
      post({ type: "events", events: batch }, batch.flatMap(transferable));
    });
  }
  events.push(event);
}

/** What ends each request. */
const ends = new Map<number, () => void>();

function startGenerating(engine: LocalEngine, { id, request }: Extract<ToWorker, { type: "generate" }>): void {
  let end: (reason?: unknown) => void = () => {};
  ends.set(id, () => end());
  try {
    end = engine.submit(request, {
      token: (token) => tell({ id, token }),
      end: (generation) => {
        ends.delete(id);
        tell({ id, generation: packGeneration(generation) });
      },
      fail: (error) => {
        // A request that was dropped is unknown by now.
        if (ends.delete(id)) tell({ id, error: packError(error) });
      },
    });
  } catch (error) {
    ends.delete(id);
    tell({ id, error: packError(error) });
  }
}

/** A request with one answer. */
function startReading(id: number, read: (options: ScoreOptions) => Promise<WorkerEvent>): void {
  const controller = new AbortController();
  ends.set(id, () => controller.abort());
  read({ signal: controller.signal }).then(
    (event) => {
      if (ends.delete(id)) tell(event);
    },
    (error: unknown) => {
      if (ends.delete(id)) tell({ id, error: packError(error) });
    },
  );
}

function handle(engine: LocalEngine, message: ToWorker): void {
  switch (message.type) {
    case "generate":
      startGenerating(engine, message);
      return;
    case "read": {
      const { id, kind, ids, interventions } = message;
      startReading(id, async (options) => ({ id, values: await engine[kind](ids, { ...options, interventions }) }));
      return;
    }
    case "trace": {
      const { id, ids, ...wanted } = message;
      startReading(id, async (options) => ({ id, rows: await engine.trace(ids, { ...options, ...wanted }) }));
      return;
    }
    case "stats":
      tell({ id: message.id, stats: engine.currentStats() });
      return;
    case "drop": {
      const end = ends.get(message.id);
      ends.delete(message.id);
      end?.();
      return;
    }
    case "close":
      void engine.close().then(() => port?.close());
  }
}

try {
  const { module, options } = workerData as WorkerInput;
  const { openEngine } = (await import(module)) as { openEngine: OpenEngine<unknown> };
  const { engine, info } = await openEngine(options, {
    notice: (message) => post({ type: "notice", message }),
    progress: (progress) => post({ type: "progress", progress }),
  });
  port.on("message", (message: ToWorker) => handle(engine, message));
  post({ type: "opened", config: engine.config, info });
} catch (error) {
  post({ type: "refused", error: packError(error) });
}
