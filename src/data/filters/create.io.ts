/** Makes the filters of a recipe. */
import path from "node:path";
import type { FilterKind, FilterRecipe } from "../../config/dataFilters.ts";
import { ConfigError } from "../../errors.ts";
import { c4Filter } from "./c4.ts";
import { contaminationFilter } from "./contamination.ts";
import { readContaminationIndex } from "./contaminationFiles.io.ts";
import type { Filter } from "./filter.ts";
import { gopherFilter } from "./gopher.ts";
import { languageFilter } from "./language.ts";
import { loadLanguageDetector } from "./languageDetector.io.ts";
import { lengthFilter } from "./length.ts";
import { loadModuleFilter } from "./module.io.ts";
import { piiFilter } from "./pii.ts";
import { type Encode, repetitionFilter } from "./repetition.ts";
import { starcoderFilter } from "./starcoder.ts";

export interface FilterContext {
  /** Ids of a text, for the filter of repeated n-grams. */
  readonly encode: Encode;
  /** What file names are relative to: the recipe's folder. */
  readonly baseDirectory: string;
  readonly signal?: AbortSignal;
}

/** A filter of a recipe. */
export interface NamedFilter extends Filter {
  readonly kind: FilterKind;
  /** Sources it is for; absent for all. */
  readonly sources?: readonly string[];
}

/** Whether a filter is for a source. */
export function isFor({ sources }: Pick<NamedFilter, "sources">, source: string): boolean {
  return sources === undefined || sources.includes(source);
}

async function createFilter(name: string, recipe: FilterRecipe, context: FilterContext): Promise<Filter> {
  switch (recipe.kind) {
    case "repetition":
      return repetitionFilter(name, recipe, context.encode);
    case "starcoder":
      return starcoderFilter(name, recipe);
    case "gopher":
      return gopherFilter(name, recipe);
    case "c4":
      return c4Filter(name, recipe);
    case "length":
      return lengthFilter(name, recipe);
    case "language":
      return languageFilter(name, recipe, await loadLanguageDetector());
    case "pii":
      return piiFilter(name, recipe);
    case "contamination":
      return contaminationFilter(
        name,
        recipe,
        await readContaminationIndex(recipe, context.baseDirectory, context.signal),
      );
    case "module":
      return loadModuleFilter(name, path.resolve(context.baseDirectory, recipe.file));
  }
}

/**
 * Makes the filters of a recipe that was checked (config/dataFilters.ts), in its order. Evaluation texts, modules and the
 * language detector are loaded here, so that nothing but the text is missing afterwards.
 * @throws ConfigError for two filters of one name, an unknown language or a module that is no filter; DataError for
 * evaluation texts that can not be read.
 */
export async function createFilters(recipes: readonly FilterRecipe[], context: FilterContext): Promise<NamedFilter[]> {
  const filters: NamedFilter[] = [];
  for (const recipe of recipes) {
    context.signal?.throwIfAborted();
    const { kind, name = kind, sources } = recipe;
    if (filters.some((filter) => filter.name === name)) throw new ConfigError(`filters: two have the name "${name}"`);
    const filter = await createFilter(name, recipe, context);
    filters.push({ ...filter, kind, ...(sources === undefined ? {} : { sources }) });
  }
  return filters;
}
