/**
 * Reading and counting away from the page's own thread. The worker runs the page's script again, which finds no
 * document there and listens for jobs instead.
 */

import type { Trace } from "../src/formats/trace.ts";
import { type AnalysisProgress, analyse } from "../src/routing/analysis.ts";
import { coactivation } from "../src/routing/coactivation.ts";
import { crossLayerRouting } from "../src/routing/crossLayer.ts";
import { domainSpecialisation } from "../src/routing/domains.ts";
import { figureLayers } from "../src/routing/figures.ts";
import { loadBalance } from "../src/routing/load.ts";
import { weightMass } from "../src/routing/mass.ts";
import type { RoutingResult } from "../src/routing/results.ts";
import { routerSaturation } from "../src/routing/saturation.ts";
import { vocabularySpecialisation } from "../src/routing/vocabulary.ts";
import { type Block, readBlock } from "./blocks.ts";
import { type KnownSource, openSource } from "./sources.ts";
import {
  type Alignment,
  type Comparison,
  compareTraces,
  type ExpertFacts,
  type Summary,
  studyExpert,
  summarise,
} from "./statistics.ts";

/** Of analyses, which have results at their end only. */
export interface Analysed {
  /** Tokens that are read. */
  readonly tokens: number;
  readonly results?: readonly RoutingResult[];
}

export type Job =
  | { readonly kind: "block"; readonly source: KnownSource; readonly number: number }
  /** All that can be said of one trace. */
  | { readonly kind: "analyses"; readonly source: KnownSource }
  /** Of checkpoints, the last of which is the final one. */
  | { readonly kind: "saturation"; readonly sources: readonly KnownSource[] }
  | { readonly kind: "summary"; readonly source: KnownSource }
  | { readonly kind: "expert"; readonly source: KnownSource; readonly layer: number; readonly expert: number }
  | { readonly kind: "compare"; readonly a: KnownSource; readonly b: KnownSource; readonly alignment: Alignment };

interface Results {
  readonly block: Block;
  readonly analyses: Analysed;
  readonly saturation: Analysed;
  readonly summary: Summary;
  readonly expert: ExpertFacts;
  readonly compare: Comparison;
}
export type ResultOf<J extends Job> = Results[J["kind"]];

type ToWorker = { readonly number: number; readonly job: Job } | { readonly number: number; readonly job: null };

interface FromWorker {
  readonly number: number;
  readonly value?: unknown;
  readonly done: boolean;
  readonly fault?: string;
}

/** Between two messages about what was counted so far. */
const TELL_MS = 250;

const opened = new Map<number, Promise<Trace>>();

/** Traces stay open between jobs. */
function traceOf(source: KnownSource): Promise<Trace> {
  let trace = opened.get(source.key);
  if (trace === undefined) {
    trace = openSource(source);
    opened.set(source.key, trace);
  }
  return trace;
}

/** All layers at once would be too many for a picture of the ways between them. */
const analysesOf = ({ header }: Trace) =>
  [
    loadBalance(),
    domainSpecialisation(),
    coactivation(),
    crossLayerRouting({ layers: figureLayers(header.layers) }),
    vocabularySpecialisation(),
    weightMass(),
  ] as const;

/** How far an analysis is now and then, at last its results. */
async function* withProgress(
  run: (onProgress: (progress: AnalysisProgress) => void) => Promise<readonly RoutingResult[]>,
): AsyncGenerator<Analysed, Analysed> {
  let tokens = 0;
  const running = run((progress) => {
    tokens = progress.tokens;
  });
  for (;;) {
    const results = await Promise.race([running, pause(TELL_MS)]);
    if (results !== undefined) return { tokens, results };
    yield { tokens };
  }
}

// biome-ignore lint/correctness/useYield: what has no parts has only a result.
async function* only<T>(result: Promise<T>): AsyncGenerator<never, T> {
  return await result;
}

async function startJob(job: Job, signal: AbortSignal): Promise<AsyncGenerator<unknown, unknown>> {
  switch (job.kind) {
    case "block":
      return only(readBlock(await traceOf(job.source), job.number));
    case "analyses": {
      const trace = await traceOf(job.source);
      return withProgress((onProgress) => analyse(trace, analysesOf(trace), { signal, onProgress }));
    }
    case "saturation": {
      const named = await Promise.all(
        job.sources.map(async (source) => ({ name: source.name, trace: await traceOf(source) })),
      );
      return withProgress(async (onProgress) => [await routerSaturation(named, { signal, onProgress })]);
    }
    case "summary":
      return summarise(await traceOf(job.source), signal);
    case "expert":
      return studyExpert(await traceOf(job.source), job.layer, job.expert, signal);
    case "compare":
      return compareTraces(await traceOf(job.a), await traceOf(job.b), job.alignment, signal);
  }
}

/** Lets messages in, such as one that ends the job. */
const pause = (ms = 0) => new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), ms));

async function runJob(
  { number, job }: { number: number; job: Job },
  signal: AbortSignal,
  tell: (m: FromWorker) => void,
) {
  try {
    const results = await startJob(job, signal);
    let told = performance.now();
    for (;;) {
      const next = await results.next();
      if (signal.aborted) return;
      if (next.done === true) {
        tell({ number, value: plain(next.value), done: true });
        return;
      }
      if (performance.now() - told < TELL_MS) continue;
      tell({ number, value: plain(next.value), done: false });
      told = performance.now();
      await pause();
    }
  } catch (error) {
    if (!signal.aborted) tell({ number, done: true, fault: (error as Error).message });
  }
}

/** Without methods and private fields, which messages can not carry. */
function plain(value: unknown): unknown {
  const { levels, ...rest } = value as Partial<Summary>;
  if (levels === undefined) return value;
  return { ...rest, levels: levels.map(({ bucket, expert, share }) => ({ bucket, expert, share })) };
}

export function serveJobs(scope: DedicatedWorkerScope): void {
  const running = new Map<number, AbortController>();
  scope.onmessage = ({ data }) => {
    running.get(data.number)?.abort();
    running.delete(data.number);
    if (data.job === null) return;
    const controller = new AbortController();
    running.set(data.number, controller);
    void runJob(data, controller.signal, (message) => scope.postMessage(message));
  };
}

/** The part of a worker's scope that is used here; the DOM's types do not have it. */
export interface DedicatedWorkerScope {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker): void;
}

let numbers = 0;
const listeners = new Map<number, (message: FromWorker) => void>();

const workers = new Map<string, Worker>();

/** One worker reads what the map shows, so that it never waits for another that counts. */
function workerFor(kind: Job["kind"]): Worker {
  const name = kind === "block" ? "map" : "counting";
  let worker = workers.get(name);
  if (worker !== undefined) return worker;
  const script = document.getElementById("script")!.textContent!;
  worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { name });
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => listeners.get(data.number)?.(data);
  worker.onerror = ({ message }) => {
    for (const [number, listener] of listeners) listener({ number, done: true, fault: message });
  };
  workers.set(name, worker);
  return worker;
}

/** Runs a job. `onResult` is called with what is counted so far, at last with `done`. @returns what ends it. */
export function startCounting<J extends Job>(
  job: J,
  onResult: (result: ResultOf<J>, done: boolean) => void,
  onFault: (message: string) => void,
): () => void {
  const number = ++numbers;
  listeners.set(number, ({ value, done, fault }) => {
    if (done) listeners.delete(number);
    if (fault === undefined) onResult(value as ResultOf<J>, done);
    else onFault(fault);
  });
  const worker = workerFor(job.kind);
  worker.postMessage({ number, job } satisfies ToWorker);
  return () => {
    if (listeners.delete(number)) worker.postMessage({ number, job: null } satisfies ToWorker);
  };
}

/** A part of a trace, read away from the page's own thread. */
export function fetchBlock(source: KnownSource, number: number): Promise<Block> {
  return new Promise((resolve, reject) => {
    startCounting({ kind: "block", source, number }, resolve, (message) => reject(new Error(message)));
  });
}
