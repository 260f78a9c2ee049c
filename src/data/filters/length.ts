/** Documents that are too short or too long. */
import type { LengthRecipe } from "../../config/dataFilters.ts";
import { countCharacters, SURROGATE, WIDE } from "./characters.ts";
import type { Filter } from "./filter.ts";
import { judgeLimits, wholeTextAttributes } from "./limits.ts";
import { textFacts } from "./textFacts.ts";

/** Bytes in UTF-8 of so many units; each half of a surrogate pair counts for two of its four. */
function utf8Bytes(units: Uint16Array, length: number): number {
  let bytes = length;
  for (let place = 0; place < length; place++) {
    const unit = units[place] as number;
    if (unit >= 0x80) bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
  }
  return bytes;
}

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
      const { units, words, allKinds } = textFacts(document);
      const characters = (allKinds & SURROGATE) === 0 ? text.length : countCharacters(text);
      const bytes = (allKinds & WIDE) === 0 ? text.length : utf8Bytes(units, text.length);
      return wholeTextAttributes(text, { characters, bytes, words });
    },
    judge: (attributes) => judgeLimits(attributes, limits),
  };
}
