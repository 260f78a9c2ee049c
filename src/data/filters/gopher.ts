/**
 * Quality and repetition of prose (Rae et al. 2021, arXiv 2112.11446, appendix A.1). Attributes have the names of Dolma's
 * gopher_v1 where it has them; where its measure and the paper's differ, this is the paper's (docs/data.md has the list).
 */
import type { GopherRecipe } from "../../config/dataFilters.ts";
import { type Attributes, wholeText } from "../attributes.ts";
import { DOT, LETTER, SURROGATE, SYMBOL } from "./characters.ts";
import { charactersBefore, duplicateShares, ngramShares } from "./duplicates.ts";
import type { Filter } from "./filter.ts";
import { judgeLimits, type Limit } from "./limits.ts";
import { hasLetter, type TextFacts, textFacts } from "./textFacts.ts";

const LONGEST_STOP_WORD = 4;
const STOP_WORDS = new Set(["the", "be", "to", "of", "and", "that", "have", "with"].map(packed));
const BULLETS = new Set([0x2a, 0x2d, 0x2022]);
const ELLIPSIS = 0x2026;
const FULL_STOP = 0x2e;
/** N-grams whose repetition counts. */
const FIRST_DUPLICATE = 5;
const LAST_NGRAM = 10;

/** Up to four characters below U+0100 as one number. */
function packed(word: string): number {
  let number = 0;
  for (let place = 0; place < word.length; place++) number = (number << 8) | word.charCodeAt(place);
  return number;
}

/** Whether three dots follow each other in a word. */
function hasDots({ units, starts, ends }: TextFacts, word: number): boolean {
  let dots = 0;
  for (let place = starts[word] as number; place < ends[word]! && dots < 3; place++) {
    dots = units[place] === FULL_STOP ? dots + 1 : 0;
  }
  return dots === 3;
}

/** Words with "#" or an ellipsis, and words with a letter. */
function countWords(facts: TextFacts): { symbols: number; alphabetic: number } {
  const { words, kinds } = facts;
  let [symbols, alphabetic] = [0, 0];
  for (let word = 0; word < words; word++) {
    const kind = kinds[word] as number;
    if ((kind & (SYMBOL | DOT)) !== 0 && ((kind & SYMBOL) !== 0 || hasDots(facts, word))) symbols += 1;
    if ((kind & LETTER) !== 0 || ((kind & SURROGATE) !== 0 && hasLetter(facts, word))) alphabetic += 1;
  }
  return { symbols, alphabetic };
}

/** How many of the stop words are there. */
function countStopWords({ units, starts, ends, kinds, firsts, distinct }: TextFacts): number {
  let found = 0;
  for (let id = 0; id < distinct; id++) {
    const word = firsts[id] as number;
    const [start, end] = [starts[word] as number, ends[word] as number];
    if (kinds[word] !== LETTER || end - start > LONGEST_STOP_WORD) continue;
    let number = 0;
    for (let place = start; place < end; place++) number = (number << 8) | units[place]!;
    if (STOP_WORDS.has(number)) found += 1;
  }
  return found;
}

/** Borders, as words, of the lines that have any, and of the paragraphs: lines without an empty one between them. */
function borders({ lines: count, lineWords, words }: TextFacts): { lines: number[]; paragraphs: number[] } {
  const [lines, paragraphs]: [number[], number[]] = [[], []];
  let afterEmpty = true;
  for (let line = 0; line < count; line++) {
    const first = lineWords[line] as number;
    const empty = first === lineWords[line + 1];
    if (!empty) {
      lines.push(first);
      if (afterEmpty) paragraphs.push(first);
    }
    afterEmpty = empty;
  }
  lines.push(words);
  paragraphs.push(words);
  return { lines, paragraphs };
}

/** Shares of the lines that begin with a bullet and that end in an ellipsis. */
function lineShares(
  { text, units, starts, ends }: TextFacts,
  lines: readonly number[],
): { bullets: number; ellipses: number } {
  let [bullets, ellipses] = [0, 0];
  for (let line = 0; line + 1 < lines.length; line++) {
    if (BULLETS.has(units[starts[lines[line]!]!]!)) bullets += 1;
    const end = ends[lines[line + 1]! - 1] as number;
    const last = units[end - 1];
    if (last === ELLIPSIS || (last === FULL_STOP && text.endsWith("...", end))) ellipses += 1;
  }
  const count = Math.max(1, lines.length - 1);
  return { bullets: bullets / count, ellipses: ellipses / count };
}

function measure(facts: TextFacts): Attributes {
  const { words } = facts;
  const before = charactersBefore(facts);
  const { symbols, alphabetic } = countWords(facts);
  const { lines, paragraphs } = borders(facts);
  const { bullets, ellipses } = lineShares(facts, lines);
  const duplicateLines = duplicateShares(facts, before, lines);
  const duplicateParagraphs = duplicateShares(facts, before, paragraphs);
  const whole = (score: number) => wholeText(facts.text, score);
  const [two, three, four, five, six, seven, eight, nine, ten] = ngramShares(
    facts,
    before,
    LAST_NGRAM,
    FIRST_DUPLICATE,
  );
  // Written out, because putting an object together by names takes as long as finding the words of a paragraph.
  return {
    word_count: whole(words),
    mean_word_length: whole((before[words] as number) / Math.max(1, words)),
    symbol_to_word_ratio: whole(symbols / Math.max(1, words)),
    fraction_of_words_with_alpha_character: whole(alphabetic / Math.max(1, words)),
    required_word_count: whole(countStopWords(facts)),
    fraction_of_lines_starting_with_bullet_point: whole(bullets),
    fraction_of_lines_ending_with_ellipsis: whole(ellipses),
    fraction_of_duplicate_lines: whole(duplicateLines.pieces),
    fraction_of_characters_in_duplicate_lines: whole(duplicateLines.characters),
    fraction_of_duplicate_paragraphs: whole(duplicateParagraphs.pieces),
    fraction_of_characters_in_duplicate_paragraphs: whole(duplicateParagraphs.characters),
    fraction_of_characters_in_most_common_2grams: whole(two!.top),
    fraction_of_characters_in_most_common_3grams: whole(three!.top),
    fraction_of_characters_in_most_common_4grams: whole(four!.top),
    fraction_of_characters_in_duplicate_5grams: whole(five!.repeated),
    fraction_of_characters_in_duplicate_6grams: whole(six!.repeated),
    fraction_of_characters_in_duplicate_7grams: whole(seven!.repeated),
    fraction_of_characters_in_duplicate_8grams: whole(eight!.repeated),
    fraction_of_characters_in_duplicate_9grams: whole(nine!.repeated),
    fraction_of_characters_in_duplicate_10grams: whole(ten!.repeated),
  };
}

function limitsOf(recipe: GopherRecipe): Limit[] {
  return [
    { name: "word_count", least: recipe.minWords, most: recipe.maxWords },
    { name: "mean_word_length", least: recipe.minMeanWordLength, most: recipe.maxMeanWordLength },
    { name: "symbol_to_word_ratio", most: recipe.maxSymbolToWordRatio },
    { name: "fraction_of_words_with_alpha_character", least: recipe.minAlphabeticWords },
    { name: "required_word_count", least: recipe.minStopWords },
    { name: "fraction_of_lines_starting_with_bullet_point", most: recipe.maxBulletLines },
    { name: "fraction_of_lines_ending_with_ellipsis", most: recipe.maxEllipsisLines },
    { name: "fraction_of_duplicate_lines", most: recipe.maxDuplicateLines },
    { name: "fraction_of_characters_in_duplicate_lines", most: recipe.maxDuplicateLineCharacters },
    { name: "fraction_of_duplicate_paragraphs", most: recipe.maxDuplicateParagraphs },
    { name: "fraction_of_characters_in_duplicate_paragraphs", most: recipe.maxDuplicateParagraphCharacters },
    ...recipe.maxTopNgram.map((most, index) => ({
      name: `fraction_of_characters_in_most_common_${index + 2}grams`,
      most,
    })),
    ...recipe.maxDuplicateNgrams.map((most, index) => ({
      name: `fraction_of_characters_in_duplicate_${index + FIRST_DUPLICATE}grams`,
      most,
    })),
  ];
}

export function gopherFilter(name: string, recipe: GopherRecipe): Filter {
  const limits = limitsOf(recipe);
  return {
    name,
    tag: (document) => measure(textFacts(document)),
    judge: (attributes) => judgeLimits(attributes, limits),
  };
}
