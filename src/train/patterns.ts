/** Patterns of a recipe over the names of its model's tensors, checked before any work. */
import { resolveModel } from "../config/presets.ts";
import type { Recipe } from "../config/recipe.ts";
import { ConfigError } from "../errors.ts";
import { parameterSpecs } from "../model/parameters.ts";
import { matchNames } from "../optim/patterns.ts";

/**
 * Checks `train.optimizer.noDecay` and `train.freeze` against the names of the model's tensors.
 * @returns the names that are frozen.
 * @throws ConfigError for a pattern that matches nothing, and where nothing would be left to train.
 */
export function frozenTensors({ model, train }: Recipe): Set<string> {
  // The names do not depend on the vocabulary, whose size may not be known yet.
  const specs = parameterSpecs(resolveModel({ ...model, vocabSize: Number.MAX_SAFE_INTEGER }));
  const names = specs.flatMap(({ slices }) => slices.map(({ name }) => name));
  matchNames(train.optimizer.noDecay, names, "train.optimizer.noDecay");
  const frozen = matchNames(train.freeze, names, "train.freeze");
  if (frozen.size === names.length) {
    const patterns = train.freeze.map((pattern) => `"${pattern}"`).join(", ");
    throw new ConfigError(`train.freeze: all ${names.length} tensors match (${patterns}), nothing is left to train`, {
      hint: "freeze less; to score a model without training it, use olmoe forward",
    });
  }
  return frozen;
}
