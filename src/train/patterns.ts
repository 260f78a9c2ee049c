/** Patterns of a recipe over the names of its model's tensors, checked before any work. */
import type { ModelConfig } from "../config/model.ts";
import { resolveModel } from "../config/presets.ts";
import type { Recipe } from "../config/recipe.ts";
import { ConfigError } from "../errors.ts";
import { parameterSpecs } from "../model/parameters.ts";
import { matchNames } from "../optim/patterns.ts";

const namesOf = (config: ModelConfig) => parameterSpecs(config).flatMap(({ slices }) => slices.map(({ name }) => name));

/**
 * The tensors that `train.freeze` names.
 * @throws ConfigError for a pattern that matches nothing, and where nothing would be left to train.
 */
export function frozenNames(config: ModelConfig, freeze: readonly string[]): Set<string> {
  if (freeze.length === 0) return new Set();
  const names = namesOf(config);
  const frozen = matchNames(freeze, names, "train.freeze");
  if (frozen.size === names.length) {
    const patterns = freeze.map((pattern) => `"${pattern}"`).join(", ");
    throw new ConfigError(`train.freeze: all ${names.length} tensors match (${patterns}), nothing is left to train`, {
      hint: "freeze less; to score a model without training it, use olmoe forward",
    });
  }
  return frozen;
}

/**
 * Checks `train.optimizer.noDecay` and `train.freeze` against the names of the model's tensors.
 * @returns the names that are frozen.
 * @throws ConfigError for a pattern that matches nothing, and where nothing would be left to train.
 */
export function frozenTensors({ model, train }: Recipe): Set<string> {
  // The names do not depend on the vocabulary, whose size may not be known yet.
  const config = resolveModel({ ...model, vocabSize: Number.MAX_SAFE_INTEGER });
  matchNames(train.optimizer.noDecay, namesOf(config), "train.optimizer.noDecay");
  return frozenNames(config, train.freeze);
}
