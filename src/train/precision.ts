/** Whether a backend computes in the precision that a recipe asks for. */
import type { Backend } from "../backend/backend.ts";
import type { Recipe } from "../config/recipe.ts";
import { ConfigError } from "../errors.ts";

/** @throws ConfigError where the two differ; "auto" takes what there is. */
export function checkPrecision({ train: { precision } }: Pick<Recipe, "train">, backend: Backend): void {
  if (precision === "auto" || precision === backend.precision) return;
  throw new ConfigError(`train.precision: "${precision}", and the backend's products are ${backend.precision}`, {
    hint: `open it with openBackend({ precision: "${precision}" })`,
  });
}
