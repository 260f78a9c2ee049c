/** What MODEL means on the command line. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Backend } from "../backend/backend.ts";
import { readModelConfig } from "../formats/huggingface.io.ts";
import { openModel } from "../formats/model.io.ts";
import type { Decoder } from "../model/decoder.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type BackendFlags, openChosenBackend } from "./backendOptions.ts";
import type { Session } from "./common.ts";

/** Help for the argument. */
export const MODEL_ARGUMENT = "folder with config.json and weights, or the folder of a training run";

/** Whether there is something at a path. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * The folder that holds the model: the one given, or for a training run its newest checkpoint.
 * @throws CheckpointError for a run without a checkpoint.
 */
export async function resolveModelFolder(model: string): Promise<string> {
  if (await exists(join(model, "config.json"))) return model;
  if (!(await exists(join(model, "checkpoints")))) return model;
  // Training brings in much that a model alone does not need.
  const { newestCheckpoint } = await import("../train/train.io.ts");
  return newestCheckpoint(model);
}

/** A model ready to read and write text. */
export interface TextModel {
  readonly folder: string;
  readonly backend: Backend;
  readonly decoder: Decoder;
  readonly tokenizer: Tokenizer;
}

/** Opens a model with its tokenizer; the small files first, so that faults show at once. */
export async function openTextModel(model: string, flags: BackendFlags, session: Session): Promise<TextModel> {
  const folder = await resolveModelFolder(model);
  await readModelConfig(folder);
  const tokenizer = await loadTokenizer(folder);
  const backend = await openChosenBackend(flags, session);
  const decoder = await openModel(folder, backend, { signal: session.signal });
  return { folder, backend, decoder, tokenizer };
}
