/** Documents that are too short or too long. */
import type { LengthRecipe } from "../../config/dataFilters.ts";
import { utf8Bytes } from "../document.ts";
import { countCharacters, SURROGATE } from "./characters.ts";
import type { Filter } from "./filter.ts";
import { judgeLimits, wholeTextAttributes } from "./limits.ts";
import { textFacts } from "./textFacts.ts";

/** Counts characters (code points), bytes in UTF-8, and words between white space. */
export function lengthFilter(name: string, recipe: LengthRecipe): Filter {
  const limits = [
    { name: "characters", least: recipe.minCharacters, most: recipe.maxCharacters },
    { name: "bytes", least: recipe.minBytes, most: recipe.maxBytes },
    { name: "words", least: recipe.minWords, most: recipe.maxWords },
  ];
  return {
    name,
    tag(document) {
      const { text } = document;
      const { words, allKinds } = textFacts(document);
      const characters = (allKinds & SURROGATE) === 0 ? text.length : countCharacters(text);
      return wholeTextAttributes(text, { characters, bytes: utf8Bytes(text), words });
    },
    judge: (attributes) => judgeLimits(attributes, limits),
  };
}
