/**
 * Documents in which some n-gram of tokens repeats back to back too often (OLMoE, arXiv 2409.02060, section 2). Counts what
 * Dolma's taggers tokenizer_repetitions_v1 (whole text) and _v2r2 (text in pieces) count.
 */
import type { RepetitionRecipe } from "../../config/dataFilters.ts";
import { scoreOf, wholeText } from "../attributes.ts";
import { findRepetitions } from "../repetition.ts";
import { type Filter, KEEP } from "./filter.ts";

/** Ids of a text, without special tokens at its ends. */
export type Encode = (text: string) => Int32Array | Promise<Int32Array>;

const ATTRIBUTE = "doc_max_score_repetition";

/** Pieces of `size` characters (code points), as Python slices a text; the whole text without a size. */
export function* piecesOf(text: string, size: number | null): Generator<string> {
  let start = 0;
  while (size !== null && text.length - start > size) {
    let end = start;
    for (let count = 0; count < size && end < text.length; count++) end += text.codePointAt(end)! > 0xffff ? 2 : 1;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length || start === 0) yield text.slice(start);
}

/** Most times that an n-gram of up to `maxPeriod` tokens is there in a row; 0 where none is there three times. */
function largestCount(ids: Int32Array, maxPeriod: number): number {
  return findRepetitions(ids, { minPeriod: 1, maxPeriod }).reduce((most, { times }) => Math.max(most, times), 0);
}

/** @param encode of the tokenizer that the limit is meant for; the paper's is GPT-NeoX's. */
export function repetitionFilter(name: string, recipe: RepetitionRecipe, encode: Encode): Filter {
  const { maxPeriod, times, cutCharacters } = recipe;
  return {
    name,
    async tag({ text }) {
      let most = 0;
      for (const piece of piecesOf(text, cutCharacters)) {
        most = Math.max(most, largestCount(await encode(piece), maxPeriod));
      }
      return { [ATTRIBUTE]: wholeText(text, most) };
    },
    judge(attributes) {
      const count = scoreOf(attributes, ATTRIBUTE) ?? 0;
      return count < times ? KEEP : { drop: `an n-gram is there ${count} times in a row, at most ${times - 1}` };
    },
  };
}
