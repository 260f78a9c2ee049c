/**
 * A training run from a recipe: data, model, steps, held-out evaluations, checkpoints, metrics. It can be interrupted
 * at any moment and goes on from its last checkpoint with the same bits. The run's folder holds
 *
 *     recipe.json      resolved     data/         token files, tokenizer, held-out text
 *     metrics.jsonl                 checkpoints/  step{N}-tokens{M}/
 */
import { join } from "node:path";
import type { Backend } from "../backend/backend.ts";
import type { ModelConfig } from "../config/model.ts";
import { resolveModel } from "../config/presets.ts";
import type { Recipe } from "../config/recipe.ts";
import type { HeldOutText } from "../data/heldOut.ts";
import { TokenLoader } from "../data/loader.ts";
import { openHeldOut, openTrainingSources } from "../data/open.io.ts";
import { type PreparedData, type PrepareProgress, prepareData } from "../data/prepare.io.ts";
import { CheckpointError } from "../errors.ts";
import { replaceFile } from "../formats/files.io.ts";
import { Decoder } from "../model/decoder.ts";
import { Parameters, parameterSpecs } from "../model/parameters.ts";
import { matchNames } from "../optim/patterns.ts";
import { learningRate } from "../optim/schedule.ts";
import { checkWritable, listCheckpoints, readCheckpoint, writeCheckpoint } from "./checkpoint.io.ts";
import { type Evaluation, evaluate } from "./evaluate.ts";
import { type EvalMetrics, evalMetrics, MetricsFile, type TrainMetrics, trainMetrics } from "./metrics.io.ts";
import { checkData, checkpointsOf, digestsOf, findStart, type Start } from "./resume.io.ts";
import { RoutingWatch } from "./routingHealth.ts";
import { type StepOptions, TrainStep } from "./step.ts";

/** What a run reports while it goes. */
export type TrainEvent =
  | { readonly type: "data"; readonly progress: PrepareProgress }
  | { readonly type: "ready"; readonly data: PreparedData; readonly decoder: Decoder; readonly resumedFrom: number }
  | { readonly type: "step"; readonly metrics: TrainMetrics; readonly epochs: readonly number[] }
  | { readonly type: "evaluation"; readonly metrics: EvalMetrics }
  | { readonly type: "checkpoint"; readonly path: string }
  | { readonly type: "warning"; readonly message: string };

export interface TrainOptions {
  readonly recipe: Recipe;
  /** Relative paths in the recipe start here. */
  readonly baseDirectory: string;
  /** Where the run's files go. */
  readonly directory: string;
  /** Where fetched packages are kept. */
  readonly cacheDirectory: string;
  readonly backend: Backend;
  /** Go on from the newest checkpoint; without it a folder that has one is refused. */
  readonly resume: boolean;
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

/** Faults of the recipe that only the names of the model's parameters show; found before the data takes its time. */
function checkPatterns({ model, train }: Recipe): void {
  // The names do not depend on the vocabulary, whose size is not known yet.
  const specs = parameterSpecs(resolveModel({ ...model, vocabSize: Number.MAX_SAFE_INTEGER }));
  const names = specs.flatMap(({ slices }) => slices.map(({ name }) => name));
  matchNames(train.optimizer.noDecay, names, "train.optimizer.noDecay");
}

/** Everything a run works with. */
class Run {
  readonly #options: TrainOptions;
  readonly #data: PreparedData;
  readonly #heldOut: readonly HeldOutText[];
  readonly #loader: TokenLoader;
  readonly #parameters: Parameters;
  readonly #decoder: Decoder;
  readonly #step: TrainStep;
  readonly #metrics: MetricsFile;
  readonly #watch: RoutingWatch;
  #tokens = 0;
  /** Newest checkpoint, and the step it is of. */
  #saved: { readonly step: number; readonly path: string } | undefined;
  /** Step of the newest evaluation. */
  #evaluated = 0;

  constructor(options: TrainOptions, data: PreparedData, heldOut: readonly HeldOutText[], loader: TokenLoader) {
    const { recipe, backend, directory } = options;
    const { train } = recipe;
    const config = resolveModel(recipe.model, data.tokenizer);
    this.#options = options;
    this.#data = data;
    this.#heldOut = heldOut;
    this.#loader = loader;
    this.#parameters = new Parameters(backend, config, { trainable: true });
    this.#decoder = new Decoder(backend, this.#parameters);
    this.#step = new TrainStep(backend, this.#decoder, {
      sequenceLength: train.sequenceLength,
      microBatchSize: train.microBatchSize ?? train.batchSize,
      loss: train.loss,
      optimizer: train.optimizer,
      recompute: train.recompute,
      onPhase: options.onPhase,
    });
    this.#metrics = new MetricsFile(join(directory, "metrics.jsonl"));
    // Experts that choose are loaded evenly: as where every expert serves every token, there is nothing to watch.
    const byTokens = config.routing === "token_choice";
    this.#watch = new RoutingWatch(byTokens ? config.numExpertsPerTok : config.numExperts);
  }

  get #done(): number {
    return this.#step.optimizer.steps;
  }

  /** New weights, or those of a checkpoint. */
  async start(from: Start | undefined): Promise<void> {
    if (from === undefined) this.#parameters.initialise(this.#options.recipe.seed);
    else {
      const { step, tokens, cursor } = from.state;
      await readCheckpoint(from.folder, { parameters: this.#parameters, optimizer: this.#step.optimizer }, step);
      this.#loader.seek(cursor);
      this.#tokens = tokens;
      this.#saved = { step, path: from.folder };
    }
    const earlier = await this.#metrics.rewindTo(this.#done);
    this.#evaluated = earlier.findLast(({ type }) => type === "eval")?.step ?? 0;
    this.#emit({ type: "ready", data: this.#data, decoder: this.#decoder, resumedFrom: this.#done });
  }

  async train(): Promise<TrainOutcome> {
    const { recipe, signal } = this.#options;
    const { steps, saveEvery, evalEvery, evalTokens } = recipe.train;
    try {
      for (;;) {
        signal?.throwIfAborted();
        const step = this.#done;
        if (step === steps) return this.#outcome("done", await this.#evaluate(undefined));
        // After the checkpoint: a run that is stopped here goes on from it, and evaluates then.
        if (step % evalEvery === 0 && step > this.#evaluated) await this.#evaluate(evalTokens);
        await this.#oneStep();
        if (this.#done % saveEvery === 0 || this.#done === steps) await this.#save();
        // Lets signals and timers through between steps.
        await new Promise((resolve) => setImmediate(resolve));
      }
    } catch (error) {
      if (signal?.aborted !== true || error !== signal.reason) throw error;
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

  async #oneStep(): Promise<void> {
    const { train } = this.#options.recipe;
    const step = this.#done + 1;
    const started = performance.now();
    const batch = this.#loader.next();
    const { ids, labels } = batch;
    const lr = learningRate(train.schedule, train.optimizer.lr, step, train.steps);
    const result = this.#step.run({ ids, labels, kvStart: train.documentMask ? batch.kvStart : undefined }, lr);
    this.#tokens += result.tokens;
    this.#watch.add(result.expertCounts);
    const seconds = (performance.now() - started) / 1000;
    const metrics = trainMetrics(step, this.#tokens, result, train.loss, seconds);
    await this.#metrics.append(metrics);
    this.#emit({ type: "step", metrics, epochs: batch.epochs });
  }

  /** @param maxTokens of each source; undefined for the last evaluation, of all held-out text. */
  async #evaluate(maxTokens: number | undefined): Promise<Evaluation> {
    const { recipe, backend, signal } = this.#options;
    this.#step.checkFinite();
    const evaluation = await evaluate(backend, this.#decoder, this.#heldOut, {
      sequenceLength: recipe.train.sequenceLength,
      eosTokenId: this.#data.tokenizer.eosTokenId,
      documentMask: recipe.train.documentMask,
      maxTokens,
      signal,
    });
    const metrics = evalMetrics(this.#done, this.#tokens, evaluation, maxTokens === undefined);
    await this.#metrics.append(metrics);
    this.#evaluated = this.#done;
    this.#emit({ type: "evaluation", metrics });
    for (const message of this.#watch.close()) this.#emit({ type: "warning", message });
    return evaluation;
  }

  /** Writes a checkpoint, unless the newest one is of this step already. */
  async #save(): Promise<void> {
    const step = this.#done;
    if (step === (this.#saved?.step ?? 0)) return;
    this.#step.checkFinite();
    await this.#metrics.flush();
    const { recipe, directory } = this.#options;
    const path = await writeCheckpoint(
      checkpointsOf(directory),
      { parameters: this.#parameters, optimizer: this.#step.optimizer },
      this.#data.tokenizer,
      { step, tokens: this.#tokens, cursor: this.#loader.cursor(), data: digestsOf(this.#data), recipe },
      recipe.train.keep,
    );
    this.#saved = { step, path };
    this.#emit({ type: "checkpoint", path });
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
      checkpoint: this.#saved?.path,
    };
  }

  #emit(event: TrainEvent): void {
    this.#options.onEvent?.(event);
  }
}

/**
 * Trains a recipe from the start or from the newest checkpoint of its folder.
 *
 * @returns when all steps are done, or early, with a checkpoint written, when the signal is aborted. The caller disposes
 *   of the decoder and its parameters.
 * @throws ConfigError, CheckpointError, DataError or ResourceError for what can not be used, before the first step;
 *   TrainingError for a loss or weight that is not finite, ResourceError for a full disk: the last checkpoint is then
 *   still whole; the signal's reason when it is aborted while the data is prepared.
 */
export async function train(options: TrainOptions): Promise<TrainOutcome> {
  const { recipe, directory, signal } = options;
  await checkWritable(directory);
  checkPatterns(recipe);
  const start = await findStart(options);
  const data = await prepareData({
    recipe: recipe.data,
    tokenizer: recipe.tokenizer,
    baseDirectory: options.baseDirectory,
    directory: join(directory, "data"),
    cacheDirectory: options.cacheDirectory,
    seed: recipe.seed,
    ...(signal === undefined ? {} : { signal }),
    onProgress: (progress) => options.onEvent?.({ type: "data", progress }),
  });
  if (start !== undefined) checkData(start, data);
  const loader = new TokenLoader({
    sources: await openTrainingSources(data, recipe.data),
    sequenceLength: recipe.train.sequenceLength,
    batchSize: recipe.train.batchSize,
    seed: recipe.seed,
    eosTokenId: data.tokenizer.eosTokenId,
  });
  const heldOut = await openHeldOut(data);
  if (start?.state.step !== recipe.train.steps) {
    await options.onPrepared?.(resolveModel(recipe.model, data.tokenizer));
  }
  const run = new Run(options, data, heldOut, loader);
  try {
    if (start === undefined) {
      const json = JSON.stringify(recipe, null, 2);
      await replaceFile(join(directory, "recipe.json"), (file) => file.writeFile(`${json}\n`));
    }
    await run.start(start);
    return await run.train();
  } catch (error) {
    run.dispose();
    throw error;
  }
}

/** Newest checkpoint of a run's folder. @throws CheckpointError where there is none. */
export async function newestCheckpoint(directory: string): Promise<string> {
  const newest = (await listCheckpoints(checkpointsOf(directory))).at(-1);
  if (newest === undefined) {
    throw new CheckpointError(`${directory}: no checkpoint`, { hint: "train one first: olmoe train RECIPE" });
  }
  return newest;
}
