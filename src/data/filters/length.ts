/** Documents that are too short or too long. */
import type { LengthRecipe } from "../../config/dataFilters.ts";
import { countCharacters, SURROGATE, WIDE } from "./characters.ts";
import type { Filter } from "./filter.ts";
import { judgeLimits, wholeTextAttributes } from "./limits.ts";
import { type TextFacts, textFacts } from "./textFacts.ts";

/** Bytes of some units beyond one each, in UTF-8; each half of a surrogate pair counts for two of its four. */
function furtherBytes(units: Uint16Array, start: number, end: number): number {
  let bytes = 0;
  for (let place = start; place < end; place++) {
    const unit = units[place] as number;
    if (unit >= 0x80) bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
  }
  return bytes;
}

function utf8Bytes({ text, units, words, starts, ends, kinds, allKinds, spaceKinds }: TextFacts): number {
  const { length } = text;
  if ((spaceKinds & WIDE) !== 0) return length + furtherBytes(units, 0, length);
  let bytes = length;
  if ((allKinds & WIDE) === 0) return bytes;
  for (let word = 0; word < words; word++) {
    if ((kinds[word]! & WIDE) !== 0) bytes += furtherBytes(units, starts[word]!, ends[word]!);
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
      const facts = textFacts(document);
      const { words, allKinds } = facts;
      const characters = (allKinds & SURROGATE) === 0 ? text.length : countCharacters(text);
      return wholeTextAttributes(text, { characters, bytes: utf8Bytes(facts), words });
    },
    judge: (attributes) => judgeLimits(attributes, limits),
  };
}
