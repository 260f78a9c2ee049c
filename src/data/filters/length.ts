/** Documents that are too short or too long. */
import type { LengthRecipe } from "../../config/dataFilters.ts";
import { utf8Bytes } from "../document.ts";
import { countCharacters } from "./characters.ts";
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
      const bytes = utf8Bytes(text);
      const characters = bytes === text.length ? bytes : countCharacters(text);
      return wholeTextAttributes(text, { characters, bytes, words: textFacts(document).words });
    },
    judge: (attributes) => judgeLimits(attributes, limits),
  };
}
