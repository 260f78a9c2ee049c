/**
 * A byte-level BPE vocabulary of any size whose text can be read back: every entry from `firstWord` to `endWord` is a
 * space and two or three syllables of a consonant and a vowel, and ids joined as text split into the same ids again, in
 * every implementation of BPE. So two programs can be compared by the text they print.
 */
import { byteCharacters } from "../src/tokenizer/byteLevel.ts";

const CONSONANTS = [..."bcdfghjklmnpqrstvwxyz"];
const VOWELS = [..."aeiou"];
const SYLLABLES = CONSONANTS.flatMap((consonant) => VOWELS.map((vowel) => consonant + vowel));
/** How a space is written in the byte-level alphabet. */
const SPACE = byteCharacters[0x20] as string;
/** The first two entries of OLMoE's own vocabulary; 1 is its padding. */
const FIRST_SPECIAL = ["|||IP_ADDRESS|||", "<|padding|>"];
const END_OF_TEXT = "<|endoftext|>";

/** GGUF's numbers for kinds of entries (`tokenizer.ggml.token_type`). */
const KINDS = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

export interface RandomVocabulary {
  /** In the byte-level alphabet, as GGUF and tokenizer.json hold them. */
  readonly tokens: readonly string[];
  readonly kinds: readonly number[];
  /** "left right", the most urgent first. */
  readonly merges: readonly string[];
  /** The words: ids from `firstWord` to `endWord - 1`. */
  readonly firstWord: number;
  readonly endWord: number;
  /** Also the end of the words: unused entries follow it up to the model's rows. */
  readonly endOfText: number;
}

/**
 * @param size entries in all, at least 11,600 and at most a million.
 * @param endOfText id of the last entry that is used.
 */
export function randomVocabulary(size: number, endOfText: number): RandomVocabulary {
  const tokens: string[] = [...FIRST_SPECIAL, ...byteCharacters];
  const merges: string[] = [];
  const join = (left: string, right: string) => {
    if (tokens.length >= endOfText) return;
    merges.push(`${left} ${right}`);
    tokens.push(left + right);
  };
  for (const consonant of CONSONANTS) for (const vowel of VOWELS) join(consonant, vowel);
  for (const syllable of SYLLABLES) join(SPACE, syllable);
  const firstWord = tokens.length;
  for (const first of SYLLABLES) for (const second of SYLLABLES) join(SPACE + first, second);
  for (const first of SYLLABLES) {
    for (const second of SYLLABLES) for (const third of SYLLABLES) join(SPACE + first + second, third);
  }
  const kinds: number[] = tokens.map(() => KINDS.normal);
  kinds[0] = KINDS.userDefined;
  kinds[1] = KINDS.control;
  tokens.push(END_OF_TEXT);
  kinds.push(KINDS.control);
  while (tokens.length < size) {
    tokens.push(`[PAD${tokens.length}]`);
    kinds.push(KINDS.unused);
  }
  return { tokens, kinds, merges, firstWord, endWord: endOfText, endOfText };
}

/** The text of ids that are words. */
export function wordsToText({ tokens }: RandomVocabulary, ids: readonly number[]): string {
  return ids.map((id) => (tokens[id] as string).replace(SPACE, " ")).join("");
}

/** The ids of a text of words; undefined in place of what is none. */
export function textToWords({ tokens, firstWord, endWord }: RandomVocabulary, text: string): (number | undefined)[] {
  const ids = new Map<string, number>();
  for (let id = firstWord; id < endWord; id++) ids.set((tokens[id] as string).slice(SPACE.length), id);
  return text
    .split(" ")
    .map((word) => word.trim())
    .filter((word) => word !== "")
    .map((word) => ids.get(word));
}
