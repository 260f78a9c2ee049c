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

/** Pieces that a sample is made of. */
const PIECES = 3;
/** Characters of a piece, and of one where the first sample leaves doubt. */
const SHORT = 40;
const LONG = 160;
/** A less probable language is looked at again in the longer sample. */
const DOUBT = 0.65;

/** How far a piece is moved so that it begins with a word. */
const MAX_WORD = 24;

/** Beginning, middle and end of a text, each from the start of a word on where one is near. */
export function languageSample(text: string, characters = SHORT): string {
  if (text.length <= PIECES * characters) return text;
  let sample = "";
  for (let piece = 0; piece < PIECES; piece++) {
    const start = Math.floor(((text.length - characters) * piece) / (PIECES - 1));
    const space = piece === 0 ? -1 : text.slice(start, start + MAX_WORD).indexOf(" ");
    const words = text.slice(start + space + 1, start + characters);
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
      let found = detect(languageSample(text));
      if ((found?.score ?? 0) < DOUBT && text.length > PIECES * SHORT) found = detect(languageSample(text, LONG));
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
