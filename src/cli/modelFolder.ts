/** What MODEL means to commands that read a model folder. */
import { stat } from "node:fs/promises";

export { resolveModelFolder } from "../formats/runFolder.io.ts";

/** Help for the argument. */
export const MODEL_ARGUMENT = "folder with config.json and weights, or the folder of a training run";

/** Whether there is something at a path. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
