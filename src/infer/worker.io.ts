/**
 * An engine in a worker thread, which owns backend, model and cache: the caller's event loop only passes messages on. A
 * model that is opened twice runs in one worker, and its weights are there once.
 */
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { checkInterventions } from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import { ConfigError, OlmoeError } from "../errors.ts";
import type { TraceRows } from "../formats/trace.ts";
import { AbortWatch } from "../util/abortWatch.ts";
import { PACKAGE_ROOT } from "../util/packageRoot.io.ts";
import { unpackError } from "../util/packedError.ts";
import type {
  Engine,
  EngineStats,
  GeneratedToken,
  Generation,
  GenerationRequest,
  ScoreOptions,
  TraceOptions,
} from "./engine.ts";
import { checkIds, checkRequest, closedError } from "./request.ts";
import { TokenStream } from "./tokenStream.ts";
import {
  type FromWorker,
  type ReadingKind,
  type ToWorker,
  unpackGeneration,
  type WorkerEvent,
  type WorkerInput,
} from "./workerProtocol.ts";

export interface OpenWorkerOptions {
  /** Gives the opening up; the engine itself is ended by `close`. */
  readonly signal?: AbortSignal | undefined;
  /** Told in one line, such as when the backend is not the fastest kind. Only whoever opens the model first is told. */
  readonly onNotice?: ((message: string) => void) | undefined;
  /** Told what the opener tells. */
  readonly onProgress?: ((progress: unknown) => void) | undefined;
}

/** An engine, and what its opener says of the model. */
export interface WorkerEngine<Info> {
  readonly engine: Engine;
  readonly info: Info;
}

interface Opened {
  readonly config: ModelConfig;
  readonly info: unknown;
}

/** Where events of one request go. */
interface Receiver {
  receive(event: WorkerEvent): void;
  fail(error: unknown): void;
}

/** A worker runs JavaScript: of this package's sources it takes the compiled form. */
function compiled(module: string): string {
  if (!module.endsWith(".ts")) return module;
  const path = relative(join(PACKAGE_ROOT, "src"), fileURLToPath(module)).replace(/\.ts$/, ".js");
  if (path.startsWith("..")) throw new ConfigError(`worker: ${module} is TypeScript, expected a compiled module`);
  return pathToFileURL(join(PACKAGE_ROOT, "dist", path)).href;
}

function deferred<T>() {
  let [resolve, reject]: [(value: T) => void, (error: unknown) => void] = [() => {}, () => {}];
  const promise = new Promise<T>((onValue, onError) => {
    [resolve, reject] = [onValue, onError];
  });
  return { promise, resolve, reject };
}

function workerError(fault: string, cause?: unknown): OlmoeError {
  return new OlmoeError("E_WORKER", `worker: ${fault}, expected it to run`, {
    hint: "open the model again; if it happens again, please report it",
    cause,
  });
}

/** A worker, and what its users have asked of it. */
class SharedWorker {
  readonly opened: Promise<Opened>;
  /** Handles that use it. */
  users = 0;
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  readonly #receivers = new Map<number, Receiver>();
  readonly #refuse: (error: unknown) => void;
  #fault: unknown;
  #lastId = 0;

  constructor(input: WorkerInput, { onNotice, onProgress }: OpenWorkerOptions) {
    const main = join(PACKAGE_ROOT, "dist", "infer", "workerMain.io.js");
    // Without execArgv the worker would load whatever the process was started with, such as a loader.
    const worker = new Worker(main, { workerData: input, execArgv: [], name: "olmoe engine" });
    const opened = deferred<Opened>();
    worker.on("message", (message: FromWorker) => {
      switch (message.type) {
        case "events":
          return this.#deliver(message.events);
        case "notice":
          return onNotice?.(message.message);
        case "progress":
          return onProgress?.(message.progress);
        case "opened":
          opened.resolve(message);
          return this.#restIfIdle();
        case "refused":
          opened.reject(unpackError(message.error));
      }
    });
    worker.on("error", (cause) => this.#fail(workerError(`it failed with "${cause.message}"`, cause)));
    this.#ended = new Promise((resolve) => {
      worker.on("exit", (code) => {
        this.#fail(workerError(`it ended with code ${code}`));
        resolve();
      });
    });
    this.#worker = worker;
    this.#refuse = opened.reject;
    this.opened = opened.promise;
  }

  /** Whether it has ended, or never started. */
  get failed(): boolean {
    return this.#fault !== undefined;
  }

  /** Sends a request and hands its events to the receiver until `forget`. @returns its number. */
  ask(receiver: Receiver, message: (id: number) => ToWorker): number {
    if (this.#fault !== undefined) throw this.#fault;
    this.#lastId += 1;
    this.#receivers.set(this.#lastId, receiver);
    // A process does not end before what it has asked for is there.
    this.#worker.ref();
    this.#worker.postMessage(message(this.#lastId));
    return this.#lastId;
  }

  /** Nothing more is wanted of a request. @param drop it may still be running. */
  forget(id: number, drop: boolean): void {
    if (!this.#receivers.delete(id)) return;
    if (drop && this.#fault === undefined) this.#worker.postMessage({ type: "drop", id } satisfies ToWorker);
    this.#restIfIdle();
  }

  /** Ends the worker: after its pass where it is open, at once where it is not. */
  async end(force: boolean): Promise<void> {
    this.#worker.ref();
    if (force) void this.#worker.terminate();
    else this.#worker.postMessage({ type: "close" } satisfies ToWorker);
    await this.#ended;
  }

  #deliver(events: readonly WorkerEvent[]): void {
    for (const event of events) this.#receivers.get(event.id)?.receive(event);
  }

  /** A worker without work does not keep the process alive. */
  #restIfIdle(): void {
    if (this.#receivers.size === 0) this.#worker.unref();
  }

  #fail(error: unknown): void {
    if (this.#fault !== undefined) return;
    this.#fault = error;
    this.#refuse(error);
    for (const receiver of [...this.#receivers.values()]) receiver.fail(error);
    this.#receivers.clear();
  }
}

/** Workers that are open, by what they were opened with. */
const workers = new Map<string, SharedWorker>();

/**
 * Opens an engine in a worker thread.
 *
 * @param module URL of the module whose `openEngine` is called in the worker (see `OpenEngine`), such as one that is made
 *   by `new URL("./opener.js", import.meta.url)`.
 * @param options plain data for `openEngine`. The same module with equal options gives a handle to the same worker.
 * @throws what `openEngine` throws; OlmoeError (E_WORKER) where the worker does not start; the signal's reason.
 */
export async function openWorkerEngine<Info>(
  module: URL | string,
  options: unknown,
  open: OpenWorkerOptions = {},
): Promise<WorkerEngine<Info>> {
  const { signal } = open;
  signal?.throwIfAborted();
  const input: WorkerInput = { module: compiled(String(module)), options };
  const key = JSON.stringify(input);
  const there = workers.get(key);
  const shared = there === undefined || there.failed ? new SharedWorker(input, open) : there;
  workers.set(key, shared);
  shared.users += 1;
  const leave = async (force: boolean) => {
    shared.users -= 1;
    if (shared.users > 0) return;
    if (workers.get(key) === shared) workers.delete(key);
    await shared.end(force);
  };
  const aborted = deferred<never>();
  const abort = () => aborted.reject(signal?.reason);
  signal?.addEventListener("abort", abort);
  try {
    const { config, info } = await Promise.race([shared.opened, aborted.promise]);
    return { engine: new EngineHandle(shared, config, () => leave(false)), info: info as Info };
  } catch (error) {
    await leave(true);
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** One caller's part of a shared worker. */
class EngineHandle implements Engine {
  readonly config: ModelConfig;
  readonly #shared: SharedWorker;
  readonly #leave: () => Promise<void>;
  readonly #aborts = new AbortWatch();
  /** Requests of this handle, by what ends each. */
  readonly #running = new Set<(error: unknown) => void>();
  #closed: Promise<void> | undefined;

  constructor(shared: SharedWorker, config: ModelConfig, leave: () => Promise<void>) {
    this.config = config;
    this.#shared = shared;
    this.#leave = leave;
  }

  async *generate(request: GenerationRequest): AsyncGenerator<GeneratedToken, Generation> {
    const { signal } = request;
    signal?.throwIfAborted();
    const checked = checkRequest(request, this.config, this.config.maxPositionEmbeddings);
    const stream = new TokenStream();
    const receiver: Receiver = {
      receive: (event) => {
        if ("token" in event) return stream.token(event.token);
        this.#shared.forget(id, false);
        if ("generation" in event) stream.end(unpackGeneration(event.generation));
        else if ("error" in event) stream.fail(unpackError(event.error));
      },
      fail: (error) => stream.fail(error),
    };
    const id = this.#ask(receiver, (id) => ({ type: "generate", id, request: checked }));
    const leave = this.#watch(signal, (error) => {
      this.#shared.forget(id, true);
      stream.fail(error);
    });
    try {
      return yield* stream.read();
    } finally {
      leave();
      this.#shared.forget(id, true);
    }
  }

  async logprobs(ids: ArrayLike<number>, options?: ScoreOptions): Promise<Float32Array> {
    return this.#read("logprobs", ids, options);
  }

  async logits(ids: ArrayLike<number>, options?: ScoreOptions): Promise<Float32Array> {
    return this.#read("logits", ids, options);
  }

  async embed(ids: ArrayLike<number>, options?: ScoreOptions): Promise<Float32Array> {
    return this.#read("embed", ids, options);
  }

  async trace(
    given: ArrayLike<number>,
    { columns, interventions: wanted, signal }: TraceOptions = {},
  ): Promise<TraceRows> {
    const ids = checkIds(given, "sequence", this.config, this.config.maxPositionEmbeddings);
    const interventions = wanted && checkInterventions(wanted, this.config, "trace");
    return this.#one(
      (event) => ("rows" in event ? event.rows : undefined),
      (id) => ({ type: "trace", id, ids, columns, interventions }),
      signal,
    );
  }

  async stats(): Promise<EngineStats> {
    return this.#one(
      (event) => ("stats" in event ? event.stats : undefined),
      (id) => ({ type: "stats", id }),
    );
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    for (const end of [...this.#running]) end(closedError());
    await this.#leave();
  }

  async #read(
    kind: ReadingKind,
    given: ArrayLike<number>,
    { interventions: wanted, signal }: ScoreOptions = {},
  ): Promise<Float32Array> {
    const ids = checkIds(given, "sequence", this.config, this.config.maxPositionEmbeddings);
    const interventions = wanted && checkInterventions(wanted, this.config, "score");
    return this.#one(
      (event) => ("values" in event ? event.values : undefined),
      (id) => ({ type: "read", id, kind, ids, interventions }),
      signal,
    );
  }

  /** A request with one answer. */
  async #one<T>(
    answer: (event: WorkerEvent) => T | undefined,
    message: (id: number) => ToWorker,
    signal?: AbortSignal,
  ): Promise<T> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = deferred<T>();
    const receive = (event: WorkerEvent) => {
      const value = answer(event);
      if (value !== undefined) resolve(value);
      else if ("error" in event) reject(unpackError(event.error));
    };
    const id = this.#ask({ receive, fail: reject }, message);
    const leave = this.#watch(signal, reject);
    try {
      return await promise;
    } finally {
      leave();
      this.#shared.forget(id, true);
    }
  }

  #ask(receiver: Receiver, message: (id: number) => ToWorker): number {
    if (this.#closed !== undefined) throw closedError();
    return this.#shared.ask(receiver, message);
  }

  /** Ends a request when its signal is aborted or the handle is closed. @returns ends the watch. */
  #watch(signal: AbortSignal | undefined, end: (error: unknown) => void): () => void {
    const forget = this.#aborts.add(signal, end);
    this.#running.add(end);
    return () => {
      forget();
      this.#running.delete(end);
    };
  }
}
