/**
 * Warm starts: a run that begins with another model's weights, and, for annealing (OLMoE paper, section 3 and appendix B),
 * with its optimiser's moments. Everything that can be known about the model is checked before the data is prepared.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { ModelConfig } from "../config/model.ts";
import { resolveModel, type TokenizerFacts } from "../config/presets.ts";
import type { Recipe } from "../config/recipe.ts";
import { CheckpointError } from "../errors.ts";
import { readModelConfig } from "../formats/huggingface.io.ts";
import { checkModelWeights, readParameters } from "../formats/model.io.ts";
import { checkpointsOf, listCheckpoints } from "../formats/runFolder.io.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { readMoments, readTrainerState, type Trained, verifyCheckpoint } from "./checkpoint.io.ts";

/** A checked model to start from. */
export interface InitialModel {
  readonly folder: string;
  /** Absent where the folder has no tokenizer.json. */
  readonly tokenizer: Tokenizer | undefined;
  /** Steps that the moments have seen; undefined where only the weights are taken over. */
  readonly momentSteps: number | undefined;
}

/**
 * What two configs of the same architecture may differ in: how weights are drawn, which tokens are dropped in training, what
 * transformers trains with, ids that the tokenizer knows, and the context, which may grow.
 */
const FREE_FIELDS: ReadonlySet<string> = new Set<keyof ModelConfig>([
  "initializerRange",
  "initializerCutoffFactor",
  "initialization",
  "expertCapacityFactor",
  "routerAuxLossCoef",
  "maxPositionEmbeddings",
  "ropeTheta",
  "eosTokenId",
  "padTokenId",
]);

const PLACE = "train.init";

/** The folder that holds the model: the one given, or for a training run its newest checkpoint. */
async function modelFolder(from: string, baseDirectory: string): Promise<string> {
  const folder = resolve(baseDirectory, from);
  if (existsSync(join(folder, "config.json"))) return folder;
  return (await listCheckpoints(checkpointsOf(folder))).at(-1) ?? folder;
}

/** What the recipe's tokenizer says about the model, as far as it is known before the text is read. */
async function tokenizerFacts({ tokenizer }: Recipe, baseDirectory: string): Promise<TokenizerFacts> {
  if (tokenizer.file === undefined) return { vocabSize: tokenizer.vocabSize, eosTokenId: null, padTokenId: null };
  const { vocabSize, eosTokenId, padTokenId } = await loadTokenizer(resolve(baseDirectory, tokenizer.file));
  return { vocabSize, eosTokenId, padTokenId };
}

/** @throws CheckpointError listing every field that differs. */
function checkArchitecture(folder: string, stored: ModelConfig, wanted: ModelConfig): void {
  const keys = (Object.keys(wanted) as (keyof ModelConfig)[]).filter((key) => !FREE_FIELDS.has(key));
  const differences = keys
    .filter((key) => !isDeepStrictEqual(stored[key], wanted[key]))
    .map((key) => `${key} is ${JSON.stringify(wanted[key])}, the checkpoint has ${JSON.stringify(stored[key])}`);
  if (differences.length === 0) return;
  throw new CheckpointError(`${PLACE}: ${folder}: of another architecture: ${differences.join("; ")}`, {
    hint: "give the recipe's model these values of the checkpoint, or start from another one",
  });
}

/** Steps that the optimiser of a checkpoint has taken in its life. */
async function momentSteps(folder: string): Promise<number> {
  if (!existsSync(join(folder, "optimizer.safetensors"))) {
    throw new CheckpointError(`${PLACE}: ${folder}: no optimizer.safetensors, which optimizer: true needs`, {
      hint: "start from a checkpoint of olmoe train, or leave train.init.optimizer out",
    });
  }
  const { step, priorSteps = 0 } = await readTrainerState(folder);
  return step + priorSteps;
}

/**
 * Finds the model a recipe starts from and compares it with the recipe's.
 * @returns undefined for a recipe that starts from random weights.
 * @throws CheckpointError for a folder that is missing or damaged, listing every difference in architecture or every tensor
 *   that does not fit, or for moments that are not there.
 */
export async function findInitialModel(
  recipe: Recipe,
  baseDirectory: string,
  signal?: AbortSignal,
): Promise<InitialModel | undefined> {
  const { init } = recipe.train;
  if (init === undefined) return undefined;
  const folder = await modelFolder(init.from, baseDirectory);
  const stored = await readModelConfig(folder);
  checkArchitecture(folder, stored, resolveModel(recipe.model, await tokenizerFacts(recipe, baseDirectory)));
  await checkModelWeights(folder, stored);
  if (existsSync(join(folder, "SHA256SUMS"))) await verifyInitial(folder, signal);
  return {
    folder,
    tokenizer: existsSync(join(folder, "tokenizer.json")) ? await loadTokenizer(folder) : undefined,
    momentSteps: init.optimizer ? await momentSteps(folder) : undefined,
  };
}

async function verifyInitial(folder: string, signal: AbortSignal | undefined): Promise<void> {
  try {
    await verifyCheckpoint(folder, signal);
  } catch (cause) {
    if (!(cause instanceof CheckpointError)) throw cause;
    throw new CheckpointError(`${PLACE}: ${cause.message}`, { hint: "start from another checkpoint", cause });
  }
}

/**
 * Compares the checkpoint's tokenizer with the run's: with other ids for the same text its weights mean nothing.
 * @returns what could not be checked, as a sentence.
 * @throws CheckpointError where they differ.
 */
export function checkInitialTokenizer({ folder, tokenizer }: InitialModel, used: Tokenizer): string | undefined {
  if (tokenizer === undefined) {
    return `${folder} has no tokenizer.json: whether its weights are for the recipe's tokenizer is not known`;
  }
  if (isDeepStrictEqual(JSON.parse(tokenizer.toJson()), JSON.parse(used.toJson()))) return undefined;
  throw new CheckpointError(
    `${PLACE}: ${folder}: has another tokenizer (${tokenizer.vocabSize} entries) than the recipe (${used.vocabSize})`,
    { hint: `set tokenizer.file to ${join(folder, "tokenizer.json")}` },
  );
}

/** Reads the weights and, where they are wanted, the moments. @throws CheckpointError for values that can not be read. */
export async function readInitialModel(
  { folder, momentSteps: seen }: InitialModel,
  trained: Trained,
  signal?: AbortSignal,
): Promise<void> {
  await readParameters(folder, trained.parameters, { signal });
  if (seen === undefined) return;
  await readMoments(folder, trained);
  trained.optimizer.priorSteps = seen;
}
