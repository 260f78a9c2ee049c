/**
 * An engine on the caller's thread: any number of requests over one model, whose tokens go through the kernels together.
 * What a request gets does not depend on the others: the same ids, log-probabilities and bits as alone.
 */
import { z } from "zod";
import type { Backend } from "../backend/backend.ts";
import { parseConfig } from "../config/check.ts";
import type { ModelConfig } from "../config/model.ts";
import { ConfigError, ShapeError } from "../errors.ts";
import type { TraceRows } from "../formats/trace.ts";
import { PagePool } from "../model/cache.ts";
import type { Decoder, Observer } from "../model/decoder.ts";
import type { WeightSource } from "../model/weights.ts";
import { InterventionPlan } from "../nn/intervention.ts";
import { AbortWatch } from "../util/abortWatch.ts";
import { turn } from "../util/turn.ts";
import type {
  Engine,
  EngineStats,
  GeneratedToken,
  Generation,
  GenerationRequest,
  ScoreOptions,
  TraceOptions,
} from "./engine.ts";
import { type GenerationSink, GenerationWork, type Speculation } from "./generation.ts";
import { PassRunner } from "./pass.ts";
import { checkIds, checkRequest, closedError } from "./request.ts";
import { routeShape } from "./routes.ts";
import { Scheduler, type Slice } from "./scheduler.ts";
import {
  embeddingReading,
  logitsReading,
  logprobsReading,
  type Reading,
  ReadingWork,
  traceReading,
} from "./scoring.ts";
import { TokenStream } from "./tokenStream.ts";
import type { Work } from "./work.ts";

const positive = z.int().min(1);

const optionsSchema = z.strictObject({
  /** Most tokens of a sequence; default: the model's context. */
  context: positive.optional(),
  /** Tokens that the key/value cache holds for all requests together; default: `context`. */
  cacheTokens: positive.optional(),
  /** How keys and values are stored. */
  cacheType: z.enum(["f32", "f16", "q8_0"]).default("f16"),
  /** Keep pages for requests that start alike. */
  prefixCache: z.boolean().default(true),
  /** Most tokens in a pass: longer prompts are read in several. */
  passTokens: positive.default(256),
  /** Most sequences in a pass. */
  sequences: positive.default(32),
  /** Most requests that wait for their turn. */
  queue: positive.default(1024),
});

/** Plain data, so that it can be sent to a worker. */
export type EngineOptions = Readonly<z.input<typeof optionsSchema>>;

/** What only an engine on the same thread can be given. */
export interface EngineHooks {
  /**
   * Called in each pass when the weights have been read and before anything is made of the results: what it throws is
   * the end of the requests of the pass. A mapped file can be cut short while it is read.
   */
  readonly check?: (() => void) | undefined;
  /** Sees every pass from inside: the tokens of all its sequences, one sequence after another. */
  readonly observe?: Observer | undefined;
  /** Called once by `close`, when nothing is computed any more: gives back the model and its backend. */
  readonly dispose?: (() => void) | undefined;
}

export class LocalEngine implements Engine {
  /** The decoder's, with this engine's context: longer than the model was trained for where positions are scaled. */
  readonly config: ModelConfig;
  readonly #hooks: EngineHooks;
  readonly #pool: PagePool;
  readonly #scheduler: Scheduler;
  readonly #runner: PassRunner;
  readonly #counts = { promptTokens: 0, cachedTokens: 0, generatedTokens: 0 };
  readonly #speculation: Speculation = { proposed: 0, accepted: 0 };
  readonly #aborts = new AbortWatch();
  #loop: Promise<void> | undefined;
  #closed = false;

  /**
   * @param decoder stays its owner's; `hooks.dispose` is told when it is no longer used.
   * @throws ConfigError listing every fault of the options, and for a model whose experts choose their tokens;
   *   ResourceError when there is no memory for the cache.
   */
  constructor(backend: Backend, decoder: Decoder<WeightSource>, options: EngineOptions = {}, hooks: EngineHooks = {}) {
    const { context, cacheTokens, cacheType, ...scheduling } = parseConfig(optionsSchema, options, "engine");
    const config = { ...decoder.config, maxPositionEmbeddings: context ?? decoder.config.maxPositionEmbeddings };
    if (config.maxPositionEmbeddings > decoder.config.maxPositionEmbeddings) {
      throw new ConfigError(`engine: context: ${context}, the model holds ${decoder.config.maxPositionEmbeddings}`, {
        hint: "give less, or read beyond the trained context with ropeScaling (--rope-scaling yarn:FACTOR)",
      });
    }
    this.config = config;
    this.#hooks = hooks;
    const pages = PagePool.pagesFor(cacheTokens ?? config.maxPositionEmbeddings);
    this.#pool = new PagePool(backend, config, { pages, type: cacheType });
    this.#scheduler = new Scheduler(this.#pool, scheduling);
    this.#runner = new PassRunner(backend, decoder, hooks);
  }

  async *generate(request: GenerationRequest): AsyncGenerator<GeneratedToken, Generation> {
    const stream = new TokenStream();
    const end = this.submit(request, stream);
    try {
      return yield* stream.read();
    } finally {
      end(undefined);
    }
  }

  /**
   * `generate` without an iterator: the sink is called during the passes.
   * @returns what ends the generation within a token, as the signal would, for a given reason.
   * @throws as `generate`.
   */
  submit(request: GenerationRequest, sink: GenerationSink): (reason: unknown) => void {
    const { signal } = request;
    signal?.throwIfAborted();
    const context = this.config.maxPositionEmbeddings;
    const counting: GenerationSink = {
      token: (token) => {
        this.#counts.generatedTokens += 1;
        sink.token(token);
      },
      end: (generation) => {
        forget();
        this.#counts.promptTokens += generation.promptTokens;
        this.#counts.cachedTokens += generation.cachedTokens;
        sink.end(generation);
      },
      fail: (error) => {
        forget();
        sink.fail(error);
      },
    };
    let forget = () => {};
    const checked = checkRequest(request, this.config, context);
    const plan = this.#plan(checked.interventions, "generate");
    const { routing } = checked;
    const columns = typeof routing === "object" ? routing.columns : [];
    const shape = routing ? routeShape(this.config, columns, plan?.slots) : undefined;
    const work = new GenerationWork(checked, context, counting, this.#speculation, shape, plan);
    this.#start(work, work.mostTokens);
    forget = this.#aborts.add(signal, (reason) => work.fail(reason));
    return (reason) => work.fail(reason);
  }

  async logprobs(ids: ArrayLike<number>, options: ScoreOptions = {}): Promise<Float32Array> {
    const sequence = this.#sequence(ids);
    return sequence.length < 2 ? new Float32Array(0) : this.#read(logprobsReading(sequence), options);
  }

  async logits(ids: ArrayLike<number>, options: ScoreOptions = {}): Promise<Float32Array> {
    return this.#read(logitsReading(this.#sequence(ids), this.config.vocabSize), options);
  }

  async embed(ids: ArrayLike<number>, options: ScoreOptions = {}): Promise<Float32Array> {
    const sequence = this.#sequence(ids);
    if (sequence.length === 0) throw new ShapeError("embed: the sequence is 0 tokens, expected at least 1");
    return this.#read(embeddingReading(sequence, this.config.hiddenSize), options);
  }

  async trace(ids: ArrayLike<number>, { columns, ...options }: TraceOptions = {}): Promise<TraceRows> {
    const sequence = this.#sequence(ids);
    if (sequence.length === 0) throw new ShapeError("trace: the sequence is 0 tokens, expected at least 1");
    const plan = this.#plan(options.interventions, "trace");
    return this.#read(traceReading(sequence, this.config, columns, plan?.slots), options, plan);
  }

  async stats(): Promise<EngineStats> {
    return this.currentStats();
  }

  /** `stats`, at once. */
  currentStats(): EngineStats {
    const { running, waiting, keptPages: kept } = this.#scheduler;
    const { pages: total, freePages } = this.#pool;
    return {
      running,
      waiting,
      pages: { used: total - freePages - kept, kept, total },
      ...this.#counts,
      speculation: { ...this.#speculation },
    };
  }

  /** Bytes of the cache, and those that passes have needed so far. */
  get memory(): { readonly cacheBytes: number; readonly passBytes: number } {
    return { cacheBytes: this.#pool.pages * this.#pool.pageBytes, passBytes: this.#runner.reservedBytes };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#scheduler.endAll(closedError());
    await this.#loop;
    this.#runner.dispose();
    this.#pool.dispose();
    this.#hooks.dispose?.();
  }

  #sequence(ids: ArrayLike<number>): Int32Array {
    return checkIds(ids, "sequence", this.config, this.config.maxPositionEmbeddings);
  }

  #plan(interventions: ScoreOptions["interventions"], place: string): InterventionPlan | undefined {
    return interventions && interventions.length > 0
      ? new InterventionPlan(interventions, this.config, place)
      : undefined;
  }

  #read<Result>(
    reading: Reading<Result>,
    { interventions, signal }: ScoreOptions,
    plan = this.#plan(interventions, "score"),
  ): Promise<Result> {
    signal?.throwIfAborted();
    let forget = () => {};
    return new Promise<Result>((resolve, reject) => {
      const work = new ReadingWork(reading, { end: resolve, fail: reject }, plan);
      this.#start(work, work.ids.length);
      forget = this.#aborts.add(signal, (reason) => work.fail(reason));
    }).finally(() => forget());
  }

  #start(work: Work, mostTokens: number): void {
    if (this.#closed) throw closedError();
    if (work.done) return;
    this.#scheduler.add(work, mostTokens);
    this.#loop ??= this.#run();
  }

  /** Passes, one after another, while there is work. The event loop turns before each, so that aborts are seen. */
  async #run(): Promise<void> {
    try {
      for (await turn(); this.#scheduler.busy; await turn()) {
        const slices = this.#scheduler.plan();
        this.#pass(slices);
        this.#scheduler.settle(slices);
      }
    } catch (error) {
      this.#scheduler.endAll(error);
    } finally {
      this.#loop = undefined;
    }
  }

  #pass(slices: readonly Slice[]): void {
    if (slices.length === 0) return;
    try {
      this.#runner.run(slices);
    } catch (error) {
      for (const { sequence } of slices) sequence.work.fail(error);
    }
  }
}
