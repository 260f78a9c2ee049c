/**
 * The steps of a training run, once its data is prepared: model, held-out evaluations, checkpoints, metrics, and what to do
 * when a step goes wrong.
 */
import type { Backend } from "../backend/backend.ts";
import { batchSizeAt, fullSteps } from "../config/batchWarmup.ts";
import type { ModelConfig } from "../config/model.ts";
import { resolveModel } from "../config/presets.ts";
import type { Recipe } from "../config/recipe.ts";
import type { HeldOutText } from "../data/heldOut.ts";
import type { TokenLoader } from "../data/loader.ts";
import type { PreparedData, PrepareProgress } from "../data/prepare.io.ts";
import { TrainingError } from "../errors.ts";
import { checkpointsOf } from "../formats/runFolder.io.ts";
import { Decoder } from "../model/decoder.ts";
import { Parameters } from "../model/parameters.ts";
import { learningRate } from "../optim/schedule.ts";
import { PACKAGE_VERSION } from "../util/packageRoot.io.ts";
import { type EvalHook, HeldOutPerplexity, runHooks } from "./evalHooks.ts";
import type { Evaluation } from "./evaluate.ts";
import { type InitialModel, readInitialModel } from "./init.io.ts";
import { type EvalMetrics, evalMetrics, type TrainMetrics, trainMetrics } from "./metrics.io.ts";
import { frozenTensors } from "./patterns.ts";
import { RoutingProbe } from "./probe.ts";
import { Recorder } from "./recorder.io.ts";
import type { MonitorRecord } from "./records.ts";
import { digestsOf, type Start } from "./resume.io.ts";
import { RunCheckpoints } from "./runCheckpoints.io.ts";
import { describeSpike, type Spike, SpikeDetector } from "./spikes.ts";
import { DIVERGED, type StepOptions, TrainStep } from "./step.ts";
import { TrainingTraces } from "./traces.io.ts";
import { Watcher } from "./watcher.ts";

/** What a run reports while it goes. */
export type TrainEvent =
  | { readonly type: "data"; readonly progress: PrepareProgress }
  | { readonly type: "ready"; readonly data: PreparedData; readonly decoder: Decoder; readonly resumedFrom: number }
  | {
      readonly type: "step";
      readonly metrics: TrainMetrics;
      /** Tokens of this step alone. */
      readonly stepTokens: number;
      readonly epochs: readonly number[];
    }
  | { readonly type: "evaluation"; readonly metrics: EvalMetrics }
  | { readonly type: "record"; readonly record: MonitorRecord }
  | { readonly type: "checkpoint"; readonly path: string }
  | { readonly type: "warning"; readonly message: string };

export interface TrainOptions {
  readonly recipe: Recipe;
  /** Relative paths in the recipe start here. */
  readonly baseDirectory: string;
  /** Where the run's files go. */
  readonly directory: string;
  /** Where the prepared data goes; default: data/ in the run's folder. Runs on the same data may share one. */
  readonly dataDirectory?: string | undefined;
  /** Where fetched packages are kept. */
  readonly cacheDirectory: string;
  readonly backend: Backend;
  /** Go on from the newest checkpoint; without it a folder that has one is refused. */
  readonly resume: boolean;
  /** What to measure at each evaluation beside held-out loss. */
  readonly evalHooks?: readonly EvalHook[];
  /** What the command line changed in the recipe, as `key.path=value`, to be written down. */
  readonly overrides?: readonly string[];
  /** When aborted, the run writes a checkpoint after the step it is in and returns. */
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: (event: TrainEvent) => void;
  /** Awaited when everything is checked and the data prepared, before the model takes memory. Not without steps to do. */
  readonly onPrepared?: (config: ModelConfig) => Promise<void>;
  /** Told where each step is: see StepOptions. */
  readonly onPhase?: StepOptions["onPhase"];
}

/** How a run ended, and the model as it is in memory then. */
export interface TrainOutcome {
  readonly status: "done" | "interrupted";
  readonly step: number;
  readonly tokens: number;
  readonly decoder: Decoder;
  readonly data: PreparedData;
  readonly heldOut: readonly HeldOutText[];
  /** Of all held-out text; absent when interrupted. */
  readonly evaluation: Evaluation | undefined;
  /** Newest checkpoint; absent when interrupted before the first step. */
  readonly checkpoint: string | undefined;
}

/** A step that went wrong. */
interface Fault {
  readonly step: number;
  /** The message of the error that it would end the run with. */
  readonly message: string;
  readonly hint: string | undefined;
}

/** Everything a run works with. */
export class Run {
  readonly #options: TrainOptions;
  readonly #data: PreparedData;
  readonly #heldOut: readonly HeldOutText[];
  readonly #loader: TokenLoader;
  readonly #parameters: Parameters;
  readonly #decoder: Decoder;
  readonly #step: TrainStep;
  readonly #recorder: Recorder;
  readonly #watcher: Watcher;
  readonly #spikes: SpikeDetector;
  readonly #traces: TrainingTraces | undefined;
  readonly #checkpoints: RunCheckpoints;
  readonly #heldOutLoss = new HeldOutPerplexity();
  #tokens = 0;
  #rewinds = 0;
  /** Step of the newest evaluation. */
  #evaluated = 0;
  /** Step of the newest spike. */
  #lastSpike = 0;

  constructor(options: TrainOptions, data: PreparedData, heldOut: readonly HeldOutText[], loader: TokenLoader) {
    const { recipe, backend, directory } = options;
    const { train } = recipe;
    const config = resolveModel(recipe.model, data.tokenizer);
    this.#options = options;
    this.#data = data;
    this.#heldOut = heldOut;
    this.#loader = loader;
    this.#parameters = new Parameters(backend, config, { trainable: true, frozen: frozenTensors(recipe) });
    this.#decoder = new Decoder(backend, this.#parameters);
    this.#step = new TrainStep(backend, this.#decoder, {
      sequenceLength: train.sequenceLength,
      microBatchSize: train.microBatchSize ?? train.batchSize,
      loss: train.loss,
      optimizer: train.optimizer,
      recompute: train.recompute,
      onPhase: options.onPhase,
    });
    this.#recorder = new Recorder(directory);
    const { sequenceLength, documentMask } = train;
    const { eosTokenId } = data.tokenizer;
    const probe = new RoutingProbe(heldOut, { sequenceLength, documentMask, eosTokenId });
    this.#watcher = new Watcher(backend, this.#decoder, probe);
    this.#spikes = new SpikeDetector(train.spikes);
    this.#traces =
      train.trace === null || config.mlpType === "dense"
        ? undefined
        : new TrainingTraces(backend, this.#decoder, { directory, recipe, heldOut, tokenizer: data.tokenizer });
    this.#checkpoints = new RunCheckpoints(checkpointsOf(directory), {
      recipe,
      tokenizer: data.tokenizer,
      data: digestsOf(data),
      trained: this.#trained,
      routing: this.#watcher.routing,
      spikes: this.#spikes,
    });
  }

  get #trained() {
    return { parameters: this.#parameters, optimizer: this.#step.optimizer };
  }

  get #done(): number {
    return this.#step.optimizer.steps;
  }

  /** New weights, those of another model, or those of a checkpoint of this run. */
  async start(from: Start | undefined, initial: InitialModel | undefined): Promise<void> {
    if (from === undefined) {
      const { recipe, overrides = [], signal } = this.#options;
      if (initial === undefined) this.#parameters.initialise(recipe.seed);
      else await readInitialModel(initial, this.#trained, signal);
      this.#watcher.routing.mark();
      await this.#recorder.rewindTo(-1, 0);
      const run = { type: "run", step: 0, tokens: 0, name: recipe.name, version: PACKAGE_VERSION, overrides } as const;
      await this.#recorder.append(run);
    } else {
      await this.#checkpoints.restore(from);
      this.#loader.seek(from.state.cursor);
      this.#rewinds = from.state.spikes?.rewinds ?? 0;
      await this.#returnTo(from);
    }
    this.#emit({ type: "ready", data: this.#data, decoder: this.#decoder, resumedFrom: this.#done });
  }

  async train(): Promise<TrainOutcome> {
    const { recipe, signal } = this.#options;
    const { steps, evalTokens } = recipe.train;
    try {
      if (this.#checkpoints.isScheduled(0)) await this.#save();
      for (;;) {
        signal?.throwIfAborted();
        await this.#traces?.ofHeldOut(this.#done, this.#tokens, signal);
        if (this.#done === steps) return this.#outcome("done", await this.#evaluate(undefined));
        // After the checkpoint: a run that is stopped here goes on from it, and evaluates then.
        if (this.#evaluationIsDue) await this.#evaluate(evalTokens);
        const fault = await this.#advance();
        if (fault !== undefined) await this.#rewind(fault);
        else if (this.#checkpoints.isScheduled(this.#done)) await this.#save();
        // Lets signals and timers through between steps.
        await new Promise((resolve) => setImmediate(resolve));
      }
    } catch (error) {
      if (signal?.aborted !== true || error !== signal.reason) throw error;
      this.#step.checkFinite();
      await this.#save();
      return this.#outcome("interrupted", undefined);
    }
  }

  /** Gives all memory back. */
  dispose(): void {
    this.#step.dispose();
    this.#decoder.dispose();
    this.#parameters.dispose();
  }

  get #evaluationIsDue(): boolean {
    return this.#done % this.#options.recipe.train.evalEvery === 0 && this.#done > this.#evaluated;
  }

  /** One step. @returns what is wrong with it, where the recipe wants the run to go back because of it. */
  async #advance(): Promise<Fault | undefined> {
    const { spikes, steps } = this.#options.recipe.train;
    const step = this.#done + 1;
    try {
      const spike = await this.#oneStep();
      const isLooked = this.#evaluationIsDue || this.#checkpoints.isScheduled(step) || step === steps;
      if (spike === undefined && isLooked) this.#step.checkFinite();
      return spike;
    } catch (error) {
      if (!(error instanceof TrainingError) || spikes.action === "warn") throw error;
      return { step, message: error.message, hint: error.hint };
    }
  }

  async #oneStep(): Promise<Fault | undefined> {
    const { train } = this.#options.recipe;
    const step = this.#done + 1;
    const started = performance.now();
    const batch = this.#loader.next(batchSizeAt(train, step));
    const { ids, labels } = batch;
    const lr = learningRate(train.schedule, train.optimizer.lr, fullSteps(train, step), fullSteps(train, train.steps));
    const isMonitored = step % train.monitorEvery === 0;
    const kvStart = train.documentMask ? batch.kvStart : undefined;
    const traced = this.#traces?.ofStep(step, ids);
    const result = this.#step.run({ ids, labels, kvStart }, lr, {
      onGradients: isMonitored ? () => this.#watcher.measureNorms() : undefined,
      onRouting: traced?.add,
    });
    await traced?.write(this.#tokens);
    this.#tokens += result.tokens;
    this.#watcher.add(result);
    const seconds = (performance.now() - started) / 1000;
    const measured = trainMetrics(step, this.#tokens, result, train.loss, seconds);
    const metrics = await this.#recorder.append({
      ...measured,
      masked_sequences: batch.masked,
      source_epochs: Object.fromEntries(
        this.#loader.cursor().sources.map(({ name }, index) => [name, batch.epochs[index]!]),
      ),
      resident_bytes: process.memoryUsage.rss(),
    });
    this.#emit({ type: "step", metrics, stepTokens: result.tokens, epochs: batch.epochs });
    const spike = this.#spikes.add(result.loss);
    if (spike !== undefined && train.spikes.action === "rewind") {
      return { step, message: describeSpike(step, spike, train.spikes), hint: DIVERGED };
    }
    if (spike !== undefined) await this.#warnOf(step, spike);
    if (isMonitored) for (const record of this.#watcher.records(step, this.#tokens)) await this.#record(record);
    return undefined;
  }

  /** Records a spike that training goes on after, and says so at the first of several in a row. */
  async #warnOf(step: number, spike: Spike): Promise<void> {
    await this.#record({ type: "spike", step, tokens: this.#tokens, ...spike });
    if (this.#lastSpike !== step - 1) this.#warn(describeSpike(step, spike, this.#options.recipe.train.spikes));
    this.#lastSpike = step;
  }

  /** Goes back to the last good checkpoint; the batches since then are left out, because the loader stays where it is. */
  async #rewind({ step: spikeStep, message, hint }: Fault): Promise<void> {
    const { maxRewinds } = this.#options.recipe.train.spikes;
    const fail = (why: string) => new TrainingError(`${message}; ${why}`, { ...(hint === undefined ? {} : { hint }) });
    if (this.#rewinds >= maxRewinds) throw fail(`went back ${maxRewinds} times already (train.spikes.maxRewinds)`);
    const start = await this.#checkpoints.rewind(spikeStep);
    if (start === undefined) throw fail("there is no checkpoint to go back to");
    const { step, tokens } = start.state;
    const undone = await this.#recorder.lossesAfter(step);
    await this.#returnTo(start);
    this.#rewinds += 1;
    await this.#record({
      type: "rewind",
      step,
      tokens,
      spike_step: spikeStep,
      reason: message,
      rewinds: this.#rewinds,
      undone_losses: undone,
    });
    this.#warn(`${message}; back to step ${step}, without the batches since then`);
  }

  /** Takes the place of a checkpoint that is restored, and drops what is written down of later steps. */
  async #returnTo({ state }: Start): Promise<void> {
    this.#tokens = state.tokens;
    const kept = await this.#recorder.rewindTo(state.step, this.#rewinds);
    this.#evaluated = kept.findLast(({ type }) => type === "eval")?.step ?? 0;
  }

  /**
   * @param maxTokens of each source; undefined for the last evaluation, of all held-out text.
   * @returns undefined where no text is held out.
   */
  async #evaluate(maxTokens: number | undefined): Promise<Evaluation | undefined> {
    if (this.#heldOut.length === 0) {
      this.#evaluated = this.#done;
      return undefined;
    }
    const { recipe, backend, signal, evalHooks = [] } = this.#options;
    const { sequenceLength, documentMask } = recipe.train;
    const { results, warnings } = await runHooks([this.#heldOutLoss, ...evalHooks], {
      backend,
      decoder: this.#decoder,
      tokenizer: this.#data.tokenizer,
      heldOut: this.#heldOut,
      step: this.#done,
      tokens: this.#tokens,
      sequenceLength,
      documentMask,
      maxTokens,
      signal,
    });
    const { evaluation } = this.#heldOutLoss;
    const place = [this.#done, this.#tokens] as const;
    const metrics = await this.#recorder.append(evalMetrics(...place, evaluation, results, maxTokens === undefined));
    this.#evaluated = this.#done;
    this.#emit({ type: "evaluation", metrics });
    for (const message of [...warnings, ...this.#watcher.warnings()]) this.#warn(message);
    return evaluation;
  }

  /** Writes a checkpoint, unless the newest one is of this step already. */
  async #save(): Promise<void> {
    await this.#recorder.flush();
    const path = await this.#checkpoints.save({
      step: this.#done,
      tokens: this.#tokens,
      cursor: this.#loader.cursor(),
      rewinds: this.#rewinds,
    });
    if (path !== undefined) this.#emit({ type: "checkpoint", path });
  }

  #outcome(status: TrainOutcome["status"], evaluation: Evaluation | undefined): TrainOutcome {
    this.#step.dispose();
    return {
      status,
      step: this.#done,
      tokens: this.#tokens,
      decoder: this.#decoder,
      data: this.#data,
      heldOut: this.#heldOut,
      evaluation,
      checkpoint: this.#checkpoints.newest,
    };
  }

  /** Writes down a record of the run's health. */
  async #record(record: MonitorRecord): Promise<void> {
    this.#emit({ type: "record", record: await this.#recorder.append(record) });
  }

  #warn(message: string): void {
    this.#emit({ type: "warning", message });
  }

  #emit(event: TrainEvent): void {
    this.#options.onEvent?.(event);
  }
}
