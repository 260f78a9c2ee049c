/**
 * Lines and pages of the web (Raffel et al. 2020, arXiv 1910.10683, section 2.2), with the attributes of Dolma's c4_v1 and
 * two more. Lines without terminal punctuation, with few words or with "javascript" are removed; documents with a curly
 * bracket, with "lorem ipsum" or with few sentences left are dropped. The paper's bad words, policy notices, citation marks
 * and deduplication are not part of it.
 */
import type { C4Recipe } from "../../config/dataFilters.ts";
import { type Attributes, type Span, scoreOf, wholeText } from "../attributes.ts";
import { characterTable, LETTER } from "./characters.ts";
import { type Filter, KEEP, type Replacement } from "./filter.ts";
import { type TextFacts, textFacts } from "./textFacts.ts";

/** Attributes of lines that are removed. */
const REMOVED = ["lines_with_no_ending_punctuation", "lines_with_too_few_words", "lines_with_javascript"];
const SENTENCES = "sentence_count";
const CURLY_BRACE = "has_curly_brace";
const LOREM_IPSUM = "has_lorem_ipsum";

const unitSet = (characters: string) => new Set([...characters].map((character) => character.charCodeAt(0)));
const SENTENCE_ENDS = unitSet(".?!");
/** A line may also end in an end quotation mark. */
const LINE_ENDS = unitSet('.?!"\u201d');
/** What may stand between the end of a sentence and the next white space. */
const CLOSERS = unitSet("\"')]\u2019\u201d");

/** Words that end a sentence. */
function countSentences({ units, starts, ends }: TextFacts, first: number, last: number): number {
  const table = characterTable();
  let sentences = 0;
  for (let word = first; word < last; word++) {
    let place = ends[word]! - 1;
    let unit = units[place] as number;
    if ((table[unit]! & LETTER) !== 0) continue;
    while (place > starts[word]! && CLOSERS.has(unit)) unit = units[--place] as number;
    if (SENTENCE_ENDS.has(unit)) sentences += 1;
  }
  return sentences;
}

/** Lines, from 0, that have the word in any case. */
function linesWithJavascript({ text, lineStarts }: TextFacts): Set<number> {
  const found = new Set<number>();
  let line = 0;
  for (const { index } of text.matchAll(/javascript/gi)) {
    while (lineStarts[line + 1]! <= index) line += 1;
    found.add(line);
  }
  return found;
}

/** Spans that can still grow. */
type Lines = [start: number, end: number, lines: number][];

/** Adds a line; lines that follow each other are one span, whose score is their number. */
function addLine(spans: Lines, start: number, end: number): void {
  const last = spans.at(-1);
  if (last === undefined || last[1] !== start) {
    spans.push([start, end, 1]);
    return;
  }
  last[1] = end;
  last[2] += 1;
}

function tagLines(facts: TextFacts, minLineWords: number): Record<string, Span[]> {
  const { text, units, lines, lineStarts, lineWords, ends } = facts;
  const javascript = linesWithJavascript(facts);
  const [unended, short, scripted]: [Lines, Lines, Lines] = [[], [], []];
  let sentences = 0;
  for (let line = 0; line < lines; line++) {
    const [first, last] = [lineWords[line] as number, lineWords[line + 1] as number];
    const [start, end] = [lineStarts[line] as number, Math.min(lineStarts[line + 1] as number, text.length)];
    if (start === end) continue;
    const ended = last > first && LINE_ENDS.has(units[ends[last - 1]! - 1]!);
    if (!ended) addLine(unended, start, end);
    if (last - first < minLineWords) addLine(short, start, end);
    if (javascript.has(line)) addLine(scripted, start, end);
    else if (ended && last - first >= minLineWords) sentences += countSentences(facts, first, last);
  }
  return {
    lines_with_no_ending_punctuation: unended,
    lines_with_too_few_words: short,
    lines_with_javascript: scripted,
    sentence_count: wholeText(text, sentences),
    line_count: wholeText(text, lines),
  };
}

/** All lines that some rule removes; those that follow each other as one. */
function removedLines(attributes: Attributes): Replacement[] {
  const spans = REMOVED.flatMap((name) => attributes[name] ?? []).sort((a, b) => a[0] - b[0]);
  const removed: { start: number; end: number; text: "" }[] = [];
  for (const [start, end] of spans) {
    const last = removed.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else removed.push({ start, end, text: "" });
  }
  return removed;
}

/** How many words a line needs is part of what the tagger writes down, as in Dolma. */
export function c4Filter(name: string, { minLineWords, minSentences }: C4Recipe): Filter {
  return {
    name,
    tag(document) {
      const { text } = document;
      const attributes = tagLines(textFacts(document), minLineWords);
      if (text.includes("{")) attributes[CURLY_BRACE] = wholeText(text, 1);
      if (/lorem ipsum/i.test(text)) attributes[LOREM_IPSUM] = wholeText(text, 1);
      return attributes;
    },
    judge(attributes) {
      if (scoreOf(attributes, CURLY_BRACE) !== undefined) return { drop: "has a curly bracket" };
      if (scoreOf(attributes, LOREM_IPSUM) !== undefined) return { drop: 'has "lorem ipsum"' };
      const sentences = scoreOf(attributes, SENTENCES) ?? 0;
      if (sentences < minSentences) {
        return { drop: `${sentences} sentences in the lines that stay, at least ${minSentences}` };
      }
      const replace = removedLines(attributes);
      return replace.length === 0 ? KEEP : { replace };
    },
  };
}
