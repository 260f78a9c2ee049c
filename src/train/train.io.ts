/**
 * A training run from a recipe to its end. It can be interrupted at any moment and goes on from its last checkpoint with the
 * same bits. The run's folder holds
 *
 *     recipe.json      resolved     data/         token files, tokenizer, held-out text
 *     metrics.jsonl                 checkpoints/  step{N}-tokens{M}/
 *     events.out.tfevents.*         the metrics for TensorBoard
 */
import { join, resolve } from "node:path";
import { dataRecipeOf } from "../config/data.ts";
import { resolveModel } from "../config/presets.ts";
import { TokenLoader } from "../data/loader.ts";
import { openHeldOut, openPreparedData, openTrainingSources } from "../data/open.io.ts";
import { type PreparedData, prepareData } from "../data/prepare.io.ts";
import { replaceFile } from "../util/files.io.ts";
import { checkWritable } from "./checkpoint.io.ts";
import { checkHooks, HeldOutPerplexity } from "./evalHooks.ts";
import { checkInitialTokenizer, findInitialModel } from "./init.io.ts";
import { frozenTensors } from "./patterns.ts";
import { checkPrecision } from "./precision.ts";
import { checkData, findStart } from "./resume.io.ts";
import { Run, type TrainOptions, type TrainOutcome } from "./run.io.ts";

/** The recipe's data: prepared here, or the folder it names. */
function openData({ recipe, directory, signal, ...options }: TrainOptions): Promise<PreparedData> {
  const { folder, baseDirectory = "." } = recipe.data;
  if (folder !== undefined) return openPreparedData(resolve(options.baseDirectory, folder));
  return prepareData({
    recipe: dataRecipeOf(recipe),
    baseDirectory: resolve(options.baseDirectory, baseDirectory),
    directory: options.dataDirectory ?? join(directory, "data"),
    cacheDirectory: options.cacheDirectory,
    workers: options.backend.threads,
    signal,
    onProgress: (progress) => options.onEvent?.({ type: "data", progress }),
  });
}

/** The order that the recipe's stage asks for. */
function stageOrder({ seed, data: { stage, stages } }: TrainOptions["recipe"]) {
  const asked = stage === undefined ? undefined : stages[stage];
  return { order: asked?.order ?? "mixed", seed: asked?.seed ?? seed };
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
  checkPrecision(recipe, options.backend);
  frozenTensors(recipe);
  checkHooks([new HeldOutPerplexity(), ...(options.evalHooks ?? [])]);
  const start = await findStart(options);
  const initial = start === undefined ? await findInitialModel(recipe, options.baseDirectory, signal) : undefined;
  const data = await openData(options);
  if (start !== undefined) checkData(start, data);
  const doubt = initial === undefined ? undefined : checkInitialTokenizer(initial, data.tokenizer);
  if (doubt !== undefined) options.onEvent?.({ type: "warning", message: doubt });
  const training = openTrainingSources(data, recipe.data);
  const { order, seed } = stageOrder(recipe);
  const loader = new TokenLoader({
    sources: training.sources,
    sequenceLength: recipe.train.sequenceLength,
    batchSize: recipe.train.batchSize,
    seed,
    order,
    eosTokenId: data.tokenizer.eosTokenId,
    instanceFilter: recipe.train.instanceFilter ?? undefined,
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
    await run.start(start, initial);
    return await run.train();
  } catch (error) {
    run.dispose();
    throw error;
  } finally {
    training.close();
  }
}
