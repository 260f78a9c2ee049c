/** Filters of text in a recipe. Defaults are the published limits. */
import { z } from "zod";

const share = z.number().min(0).max(1);
const count = z.int().min(0);

/** Parts of an attribute's name are joined by "__", so a filter's name can not have it. */
const filterName = z
  .string()
  .regex(/^(?!.*__)[a-z0-9][a-z0-9_-]*$/, 'must be lower-case letters, digits, - and _, without "__"');

const COMMON = {
  /** First part of its attributes' names. Left out: the kind. */
  name: filterName.exactOptional(),
  /** Names of the sources it is for. Left out: all. */
  sources: z.array(z.string().min(1)).min(1).exactOptional(),
};

/** Repeated n-grams of tokens (OLMoE, section 2). */
const repetition = z.strictObject({
  ...COMMON,
  kind: z.literal("repetition"),
  /** N-grams of 1 to so many tokens. */
  maxPeriod: z.int().min(1).max(1000).default(13),
  /** So many times in a row, or more, drop the document. */
  times: z.int().min(3).default(32),
  /** Text is cut every so many characters, as Dolma's v2r2 does with 100000; null for the whole text, as v1. */
  cutCharacters: z.int().min(1).nullable().default(null),
});

/** Code (OLMoE, section 2). */
const starcoder = z.strictObject({
  ...COMMON,
  kind: z.literal("starcoder"),
  minStars: z.number().min(0).default(2),
  maxTopWordShare: share.default(0.3),
  maxTopTwoWordsShare: share.default(0.5),
});

/** Quality and repetition of prose (Rae et al. 2021, arXiv 2112.11446, appendix A.1). */
const gopher = z.strictObject({
  ...COMMON,
  kind: z.literal("gopher"),
  minWords: count.default(50),
  maxWords: count.default(100_000),
  minMeanWordLength: z.number().min(0).default(3),
  maxMeanWordLength: z.number().min(0).default(10),
  /** Words with "#" or an ellipsis. */
  maxSymbolToWordRatio: share.default(0.1),
  maxBulletLines: share.default(0.9),
  maxEllipsisLines: share.default(0.3),
  minAlphabeticWords: share.default(0.8),
  /** Different words out of the, be, to, of, and, that, have, with. */
  minStopWords: z.int().min(0).max(8).default(2),
  maxDuplicateLines: share.default(0.3),
  maxDuplicateParagraphs: share.default(0.3),
  /** Share of characters. */
  maxDuplicateLineCharacters: share.default(0.2),
  maxDuplicateParagraphCharacters: share.default(0.2),
  /** Share of characters of the most frequent n-gram, n from 2 to 4. */
  maxTopNgram: z.tuple([share, share, share]).default([0.2, 0.18, 0.16]),
  /** Share of characters in n-grams that are there more than once, n from 5 to 10. */
  maxDuplicateNgrams: z.tuple([share, share, share, share, share, share]).default([0.15, 0.14, 0.13, 0.12, 0.11, 0.1]),
});

/** Lines and pages of the web (Raffel et al. 2020, arXiv 1910.10683, section 2.2). */
const c4 = z.strictObject({
  ...COMMON,
  kind: z.literal("c4"),
  /** Shorter lines are removed. */
  minLineWords: count.default(5),
  /** Documents that keep fewer sentences are dropped. */
  minSentences: count.default(3),
});

const LENGTHS = {
  minCharacters: count.exactOptional(),
  maxCharacters: count.exactOptional(),
  minBytes: count.exactOptional(),
  maxBytes: count.exactOptional(),
  minWords: count.exactOptional(),
  maxWords: count.exactOptional(),
};

const length = z.strictObject({ ...COMMON, kind: z.literal("length"), ...LENGTHS }).superRefine((filter, context) => {
  if (!Object.keys(LENGTHS).some((key) => key in filter)) {
    const message = `needs at least one of ${Object.keys(LENGTHS).join(", ")}`;
    context.addIssue({ code: "custom", path: [], message });
  }
});

const language = z.strictObject({
  ...COMMON,
  kind: z.literal("language"),
  /** Languages to keep: ISO 639-1 codes, or those of Wikipedias where there is none. */
  languages: z
    .array(z.string().regex(/^[a-z]{2,3}$/, "must be a code of two or three letters, such as en"))
    .min(1)
    .default(["en"]),
  /** Least probability of the best language. */
  minScore: share.default(0.5),
});

/** Personal data (Dolma: Soldaini et al. 2024, arXiv 2402.00159). */
const pii = z.strictObject({
  ...COMMON,
  kind: z.literal("pii"),
  /** Up to so many finds are masked; more drop the document. */
  maxMasked: count.default(5),
});

/** Overlap with evaluation texts (Brown et al. 2020, arXiv 2005.14165, appendix C). */
const contamination = z.strictObject({
  ...COMMON,
  kind: z.literal("contamination"),
  /** Evaluation texts: .jsonl or .jsonl.gz, one item a line, or .txt, one item a paragraph; relative to the recipe. */
  files: z.array(z.string().min(1)).min(1),
  /** JSONL fields that make up an item, joined in this order: a string, or a list of strings. */
  fields: z.array(z.string().min(1)).min(1).default(["text"]),
  /** Words of an n-gram. Items with fewer words are not looked for. */
  ngram: z.int().min(1).max(64).default(13),
  /** The share is that of an item's n-grams that a document has, or of the document's that any item has. */
  shareOf: z.enum(["item", "document"]).default("item"),
  /** A larger share drops the document. */
  maxShare: share.default(0.5),
});

/** A user's own filter. */
const module = z.strictObject({
  ...COMMON,
  kind: z.literal("module"),
  /** An ES module (.js or .mjs) whose default export has the functions tag and judge; relative to the recipe. */
  file: z.string().min(1),
});

const filterSchema = z.discriminatedUnion("kind", [
  repetition,
  starcoder,
  gopher,
  c4,
  length,
  language,
  pii,
  contamination,
  module,
]);

/** Filters of a recipe, in the order in which they judge. */
export const filtersSchema = z.array(filterSchema).superRefine((filters, context) => {
  const names = filters.map(({ name, kind }) => name ?? kind);
  for (const [index, name] of names.entries()) {
    const first = names.indexOf(name);
    const message = `"${name}", is the name of filter ${first} already; give one of them another`;
    if (first < index) context.addIssue({ code: "custom", path: [index, "name"], message });
  }
});

export type FilterRecipe = z.output<typeof filterSchema>;
export type FilterKind = FilterRecipe["kind"];
export type RepetitionRecipe = z.output<typeof repetition>;
export type StarcoderRecipe = z.output<typeof starcoder>;
export type GopherRecipe = z.output<typeof gopher>;
export type C4Recipe = z.output<typeof c4>;
export type LengthRecipe = z.output<typeof length>;
export type LanguageRecipe = z.output<typeof language>;
export type PiiRecipe = z.output<typeof pii>;
export type ContaminationRecipe = z.output<typeof contamination>;
