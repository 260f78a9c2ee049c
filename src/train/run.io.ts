/**
 * A training run from a recipe: data, model, steps, held-out evaluations, checkpoints, metrics. It can be interrupted
 * at any moment and goes on from its last checkpoint with the same bits. The run's folder holds
 *
 *     recipe.json      resolved     data/         token files, tokenizer, held-out text
 *     metrics.jsonl                 checkpoints/  step{N}-tokens{M}/
 */
import { join } from "node:path";
import type { Backend } from "../backend/backend.ts";
import { resolveModel } from "../config/presets.ts";
import type { Recipe } from "../config/recipe.ts";
import type { HeldOutText } from "../data/heldOut.ts";
import { TokenLoader } from "../data/loader.ts";
import { openHeldOut, openTrainingSources } from "../data/open.io.ts";
import { type PreparedData, type PrepareProgress, prepareData } from "../data/prepare.io.ts";
import { CheckpointError, ConfigError } from "../errors.ts";
import { replaceFile } from "../formats/files.io.ts";
import { Decoder } from "../model/decoder.ts";
import { Parameters } from "../model/parameters.ts";
import { learningRate } from "../optim/schedule.ts";
import {
  checkWritable,
  clearUnfinished,
  listCheckpoints,
  readCheckpoint,
  readTrainerState,
  type TrainerState,
  writeCheckpoint,
} from "./checkpoint.io.ts";
import { type Evaluation, evaluate } from "./evaluate.ts";
import {
  type EvalMetrics,
  evalMetrics,
  type Metrics,
  MetricsFile,
  type TrainMetrics,
  trainMetrics,
} from "./metrics.io.ts";
import { RoutingWatch } from "./routingHealth.ts";
import { TrainStep } from "./step.ts";

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
  /** Newest checkpoint. */
  readonly checkpoint: string | undefined;
}

const checkpointsOf = (directory: string) => join(directory, "checkpoints");

/** Newest checkpoint to go on from, after checks that cost nothing. */
async function findResume({ recipe, directory, resume }: TrainOptions): Promise<string | undefined> {
  const folder = checkpointsOf(directory);
  await clearUnfinished(folder);
  const newest = (await listCheckpoints(folder)).at(-1);
  if (newest === undefined) return undefined;
  if (!resume) {
    throw new ConfigError(`${directory}: holds a run already (${newest})`, {
      hint: "add --resume to go on with it, or choose another folder with --out",
    });
  }
  const { recipe: stored } = await readTrainerState(newest);
  const changed = changedKeys(stored, recipe);
  if (changed.length > 0) {
    throw new ConfigError(`${newest}: was trained with another recipe: ${changed.join(", ")} differ`, {
      hint: "resume with the recipe in trainer.json, or start a new run with --out",
    });
  }
  return newest;
}

/** Paths at which two recipes differ. */
function changedKeys(a: unknown, b: unknown, path = ""): string[] {
  if (JSON.stringify(a) === JSON.stringify(b)) return [];
  const plain = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (!plain(a) || !plain(b)) return [path];
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...keys].flatMap((key) => changedKeys(left[key], right[key], path === "" ? key : `${path}.${key}`));
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

  constructor(options: TrainOptions, data: PreparedData, heldOut: readonly HeldOutText[], loader: TokenLoader) {
    const { recipe, backend, directory } = options;
    const { train } = recipe;
    const config = resolveModel(recipe.model, data.tokenizer);
    if (config.vocabSize < data.tokenizer.vocabSize) {
      throw new ConfigError(
        `model.vocabSize: ${config.vocabSize}, the tokenizer has ${data.tokenizer.vocabSize} entries`,
      );
    }
    if (train.sequenceLength > config.maxPositionEmbeddings) {
      throw new ConfigError(
        `train.sequenceLength: ${train.sequenceLength}, the model holds ${config.maxPositionEmbeddings} positions`,
        { hint: "raise model.maxPositionEmbeddings or lower train.sequenceLength" },
      );
    }
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
    });
    this.#metrics = new MetricsFile(join(directory, "metrics.jsonl"));
    this.#watch = new RoutingWatch(config.numExpertsPerTok);
  }

  get #done(): number {
    return this.#step.optimizer.steps;
  }

  async start(checkpoint: string | undefined): Promise<readonly Metrics[]> {
    if (checkpoint === undefined) this.#parameters.initialise(this.#options.recipe.seed);
    else {
      const trained = { parameters: this.#parameters, optimizer: this.#step.optimizer };
      const state = await readCheckpoint(checkpoint, trained);
      this.#loader.seek(state.cursor);
      this.#tokens = state.tokens;
    }
    const earlier = await this.#metrics.rewindTo(this.#done);
    this.#emit({ type: "ready", data: this.#data, decoder: this.#decoder, resumedFrom: this.#done });
    return earlier;
  }

  async train(): Promise<TrainOutcome> {
    const { recipe, signal } = this.#options;
    const { steps, saveEvery, evalEvery } = recipe.train;
    let checkpoint = (await listCheckpoints(checkpointsOf(this.#options.directory))).at(-1);
    while (this.#done < steps) {
      if (signal?.aborted) {
        checkpoint = await this.#save();
        return this.#outcome("interrupted", undefined, checkpoint);
      }
      await this.#oneStep();
      const step = this.#done;
      if (step % evalEvery === 0 && step < steps) await this.#evaluate(recipe.train.evalTokens);
      if (step % saveEvery === 0 || step === steps) checkpoint = await this.#save();
      // Lets signals and timers through between steps.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const evaluation = await this.#evaluate(undefined);
    return this.#outcome("done", evaluation, checkpoint);
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

  async #evaluate(maxTokens: number | undefined): Promise<Evaluation> {
    const { recipe, backend } = this.#options;
    const evaluation = await evaluate(backend, this.#decoder, this.#heldOut, {
      sequenceLength: recipe.train.sequenceLength,
      eosTokenId: this.#data.tokenizer.eosTokenId,
      documentMask: recipe.train.documentMask,
      maxTokens,
    });
    const metrics = evalMetrics(this.#done, this.#tokens, evaluation, maxTokens === undefined);
    await this.#metrics.append(metrics);
    this.#emit({ type: "evaluation", metrics });
    for (const message of this.#watch.close()) this.#emit({ type: "warning", message });
    return evaluation;
  }

  async #save(): Promise<string> {
    const { recipe, directory } = this.#options;
    const state: TrainerState = { step: this.#done, tokens: this.#tokens, cursor: this.#loader.cursor(), recipe };
    const trained = { parameters: this.#parameters, optimizer: this.#step.optimizer };
    const path = await writeCheckpoint(
      checkpointsOf(directory),
      trained,
      this.#data.tokenizer,
      state,
      recipe.train.keep,
    );
    this.#emit({ type: "checkpoint", path });
    return path;
  }

  #outcome(
    status: TrainOutcome["status"],
    evaluation: Evaluation | undefined,
    checkpoint: string | undefined,
  ): TrainOutcome {
    this.#step.dispose();
    return {
      status,
      step: this.#done,
      tokens: this.#tokens,
      decoder: this.#decoder,
      data: this.#data,
      heldOut: this.#heldOut,
      evaluation,
      checkpoint,
    };
  }

  #emit(event: TrainEvent): void {
    this.#options.onEvent?.(event);
  }
}

/**
 * Trains a recipe from the start or from the newest checkpoint of its folder.
 *
 * @returns when all steps are done, or early, with a checkpoint written, when the signal is aborted.
 * @throws ConfigError, DataError before any work; TrainingError for a loss that is not finite, ResourceError for a full
 *   disk: the last checkpoint is then still whole.
 */
export async function train(options: TrainOptions): Promise<TrainOutcome> {
  const { recipe, directory, signal } = options;
  await checkWritable(directory);
  const checkpoint = await findResume(options);
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
  const loader = new TokenLoader({
    sources: await openTrainingSources(data, recipe.data),
    sequenceLength: recipe.train.sequenceLength,
    batchSize: recipe.train.batchSize,
    seed: recipe.seed,
    eosTokenId: data.tokenizer.eosTokenId,
  });
  const run = new Run(options, data, await openHeldOut(data), loader);
  if (checkpoint === undefined) {
    const json = JSON.stringify(recipe, null, 2);
    await replaceFile(join(directory, "recipe.json"), (file) => file.writeFile(`${json}\n`));
  }
  await run.start(checkpoint);
  return run.train();
}

/** Newest checkpoint of a run's folder. @throws CheckpointError where there is none. */
export async function newestCheckpoint(directory: string): Promise<string> {
  const newest = (await listCheckpoints(checkpointsOf(directory))).at(-1);
  if (newest === undefined) {
    throw new CheckpointError(`${directory}: no checkpoint`, { hint: "train one first: olmoe train RECIPE" });
  }
  return newest;
}
