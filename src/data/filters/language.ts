/** The language of a document, from a bounded sample of it. */
import type { LanguageRecipe } from "../../config/dataFilters.ts";
import { ConfigError } from "../../errors.ts";
import { wholeText } from "../attributes.ts";
import { type Filter, KEEP } from "./filter.ts";
import { shown } from "./limits.ts";

export interface LanguageDetector {
  /** ISO 639-1 codes where there is one, else those of the language's Wikipedia, such as "ceb". */
  readonly languages: readonly string[];
  /** The most probable language and its probability; undefined where there is nothing to go by, such as in a row of digits. */
  detect(text: string): { readonly language: string; readonly score: number } | undefined;
}

/** Pieces that a sample is made of, and characters of each. */
const PIECES = 3;
const PIECE_CHARACTERS = 48;

/** How far a piece is moved so that it begins with a word. */
const MAX_WORD = 24;

/** Beginning, middle and end of a text, each from the start of a word on where one is near. */
export function languageSample(text: string): string {
  if (text.length <= PIECES * PIECE_CHARACTERS) return text;
  let sample = "";
  for (let piece = 0; piece < PIECES; piece++) {
    const start = Math.floor(((text.length - PIECE_CHARACTERS) * piece) / (PIECES - 1));
    const space = piece === 0 ? -1 : text.slice(start, start + MAX_WORD).indexOf(" ");
    const words = text.slice(start + space + 1, start + PIECE_CHARACTERS);
    sample += piece === 0 ? words : ` ${words}`;
  }
  return sample;
}

/**
 * The attribute is the language's code with its score.
 * @throws ConfigError for a language that the detector does not know.
 */
export function languageFilter(name: string, recipe: LanguageRecipe, { languages, detect }: LanguageDetector): Filter {
  const unknown = recipe.languages.filter((language) => !languages.includes(language));
  if (unknown.length > 0) {
    throw new ConfigError(
      `filter ${name}: no language ${unknown.join(", ")}, expected some of ${languages.join(", ")}`,
    );
  }
  return {
    name,
    tag({ text }) {
      const found = detect(languageSample(text));
      return found === undefined ? {} : { [found.language]: wholeText(text, found.score) };
    },
    judge(attributes) {
      const [language, spans] = Object.entries(attributes)[0] ?? [];
      const score = spans?.[0]?.[2];
      if (language === undefined || score === undefined) return { drop: "language unknown" };
      if (!recipe.languages.includes(language))
        return { drop: `language ${language}, wanted ${recipe.languages.join(", ")}` };
      return score >= recipe.minScore
        ? KEEP
        : { drop: `language ${language} ${shown(score)}, at least ${recipe.minScore}` };
    },
  };
}
