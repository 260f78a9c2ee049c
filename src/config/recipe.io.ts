/** Reads training recipes: YAML, with overrides from the command line. */
import { ConfigError } from "../errors.ts";
import { inlineData } from "./dataRecipe.io.ts";
import { parseRecipe, type Recipe } from "./recipe.ts";
import { applyOverride, readMapping } from "./yaml.io.ts";

const DATA_PLACE = /^data(\.recipe|\.folder)?=/;

/**
 * Reads and checks a recipe.
 * @param overrides `key.path=value`, applied in order before the check.
 * @throws ConfigError for a file that is missing or not YAML, or listing every fault of its content.
 */
export async function readRecipe(file: string, overrides: readonly string[] = []): Promise<Recipe> {
  let value = await readMapping(file);
  if (Object.hasOwn(value, "base")) {
    throw new ConfigError(`${file}: a sweep, expected the recipe of one run`, { hint: `olmoe sweep ${file} runs it` });
  }
  // What says where the data is goes first: the others may change what is found there.
  const places = overrides.filter((text) => DATA_PLACE.test(text));
  for (const text of places) applyOverride(value, text);
  value = await inlineData(value, file);
  for (const text of overrides) if (!places.includes(text)) applyOverride(value, text);
  return parseRecipe(value, file);
}
