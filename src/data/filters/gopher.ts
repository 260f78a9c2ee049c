/**
 * Quality and repetition of prose (Rae et al. 2021, arXiv 2112.11446, appendix A.1). Attributes have the names of Dolma's
 * gopher_v1 where it has them; where its measure and the paper's differ, this is the paper's (docs/data.md has the list).
 */
import type { GopherRecipe } from "../../config/dataFilters.ts";
import { DOT, LETTER, SYMBOL } from "./characters.ts";
import { charactersBefore, duplicateShares, ngramShares } from "./duplicates.ts";
import type { Filter } from "./filter.ts";
import { judgeLimits, type Limit, wholeTextAttributes } from "./limits.ts";
import { hasLetter, type TextFacts, textFacts } from "./textFacts.ts";

const STOP_WORDS = new Set(["the", "be", "to", "of", "and", "that", "have", "with"]);
const LONGEST_STOP_WORD = 4;
const BULLETS = "*-\u2022";
const ELLIPSIS = "\u2026";
const LAST_NGRAM = 10;
/** Attributes by n. */
const TOP_NGRAMS = names([2, 3, 4], "most_common");
const DUPLICATE_NGRAMS = names([5, 6, 7, 8, 9, LAST_NGRAM], "duplicate");

function names(sizes: readonly number[], which: string): Readonly<Record<number, string>> {
  return Object.fromEntries(sizes.map((n) => [n, `fraction_of_characters_in_${which}_${n}grams`]));
}

/** Whether three dots follow each other in a word. */
function hasDots({ text, starts, ends }: TextFacts, word: number): boolean {
  let dots = 0;
  for (let place = starts[word] as number; place < ends[word]! && dots < 3; place++) {
    dots = text.charCodeAt(place) === 46 ? dots + 1 : 0;
  }
  return dots === 3;
}

/** Words with "#" or an ellipsis, and words with a letter. */
function countWords(facts: TextFacts): { symbols: number; alphabetic: number } {
  let [symbols, alphabetic] = [0, 0];
  for (let word = 0; word < facts.words; word++) {
    const kind = facts.kinds[word] as number;
    if ((kind & SYMBOL) !== 0 || ((kind & DOT) !== 0 && hasDots(facts, word))) symbols += 1;
    if (hasLetter(facts, word)) alphabetic += 1;
  }
  return { symbols, alphabetic };
}

/** How many of the stop words are there. */
function countStopWords({ text, starts, ends, kinds, firsts, distinct }: TextFacts): number {
  let found = 0;
  for (let id = 0; id < distinct; id++) {
    const word = firsts[id] as number;
    const [start, end] = [starts[word] as number, ends[word] as number];
    if (kinds[word] !== LETTER || end - start > LONGEST_STOP_WORD) continue;
    if (STOP_WORDS.has(text.slice(start, end))) found += 1;
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
  return { lines: [...lines, words], paragraphs: [...paragraphs, words] };
}

/** Shares of the lines that begin with a bullet and that end in an ellipsis. */
function lineShares(
  { text, starts, ends }: TextFacts,
  lines: readonly number[],
): { bullets: number; ellipses: number } {
  let [bullets, ellipses] = [0, 0];
  for (let line = 0; line + 1 < lines.length; line++) {
    if (BULLETS.includes(text[starts[lines[line]!]!] as string)) bullets += 1;
    const end = ends[lines[line + 1]! - 1] as number;
    if (text[end - 1] === ELLIPSIS || text.endsWith("...", end)) ellipses += 1;
  }
  const count = Math.max(1, lines.length - 1);
  return { bullets: bullets / count, ellipses: ellipses / count };
}

function measure(facts: TextFacts): Record<string, number> {
  const { words } = facts;
  const before = charactersBefore(facts);
  const { symbols, alphabetic } = countWords(facts);
  const { lines, paragraphs } = borders(facts);
  const { bullets, ellipses } = lineShares(facts, lines);
  const duplicateLines = duplicateShares(facts, before, lines);
  const duplicateParagraphs = duplicateShares(facts, before, paragraphs);
  const measured: Record<string, number> = {
    word_count: words,
    mean_word_length: (before[words] as number) / Math.max(1, words),
    symbol_to_word_ratio: symbols / Math.max(1, words),
    fraction_of_words_with_alpha_character: alphabetic / Math.max(1, words),
    required_word_count: countStopWords(facts),
    fraction_of_lines_starting_with_bullet_point: bullets,
    fraction_of_lines_ending_with_ellipsis: ellipses,
    fraction_of_duplicate_lines: duplicateLines.pieces,
    fraction_of_characters_in_duplicate_lines: duplicateLines.characters,
    fraction_of_duplicate_paragraphs: duplicateParagraphs.pieces,
    fraction_of_characters_in_duplicate_paragraphs: duplicateParagraphs.characters,
  };
  const ngrams = ngramShares(facts, before, LAST_NGRAM);
  for (const { n, top } of ngrams) if (n in TOP_NGRAMS) measured[TOP_NGRAMS[n] as string] = top;
  for (const { n, repeated } of ngrams) if (n in DUPLICATE_NGRAMS) measured[DUPLICATE_NGRAMS[n] as string] = repeated;
  return measured;
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
    ...Object.values(TOP_NGRAMS).map((name, index) => ({ name, most: recipe.maxTopNgram[index] })),
    ...Object.values(DUPLICATE_NGRAMS).map((name, index) => ({ name, most: recipe.maxDuplicateNgrams[index] })),
  ];
}

export function gopherFilter(name: string, recipe: GopherRecipe): Filter {
  const limits = limitsOf(recipe);
  return {
    name,
    tag: (document) => wholeTextAttributes(document.text, measure(textFacts(document))),
    judge: (attributes) => judgeLimits(attributes, limits),
  };
}
