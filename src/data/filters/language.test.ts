import { beforeAll, expect, it } from "vitest";
import { filterRecipe, verdictOf } from "../../../test/filters.ts";
import type { Filter } from "./filter.ts";
import { type LanguageDetector, languageFilter, languageSample } from "./language.ts";
import { loadLanguageDetector } from "./languageDetector.io.ts";

let detector: LanguageDetector;
let english: Filter;
beforeAll(async () => {
  detector = await loadLanguageDetector();
  english = languageFilter("language", filterRecipe({ kind: "language" }), detector);
});

const ENGLISH = "The boats come down the river in the morning, and the miller counts them before the rain.";
const GERMAN = "Die Boote kommen am Morgen den Fluss herunter, und der M\u00fcller z\u00e4hlt sie vor dem Regen.";

it("keeps the wanted language and drops others", async () => {
  expect(await verdictOf(english, ENGLISH)).toEqual({});
  expect(await verdictOf(english, GERMAN)).toEqual({ drop: "language de, wanted en" });
  const both = languageFilter("language", filterRecipe({ kind: "language", languages: ["de", "en"] }), detector);
  expect(await verdictOf(both, GERMAN)).toEqual({});
});

it("drops what has no language, and what scores too low", async () => {
  expect(await verdictOf(english, "12345 67890")).toEqual({ drop: "language unknown" });
  expect(await verdictOf(english, "")).toEqual({ drop: "language unknown" });
  const strict = languageFilter("language", filterRecipe({ kind: "language", minScore: 1 }), detector);
  expect((await verdictOf(strict, ENGLISH)).drop).toMatch(/^language en 0\.\d+, at least 1$/);
});

it("names the languages there are for one that is not known", () => {
  const unknown = () => languageFilter("lang", filterRecipe({ kind: "language", languages: ["en", "xx"] }), detector);
  expect(unknown).toThrow(/^filter lang: no language xx, expected some of af, als, am, /);
});

it("looks at the beginning, the middle and the end of a long text, from words on", () => {
  expect(languageSample(ENGLISH)).toBe(ENGLISH);
  const long = `${"start ".repeat(20)}${"middle ".repeat(10)}${"end ".repeat(30)}`;
  const sample = languageSample(long);
  expect(sample.length).toBeLessThanOrEqual(122);
  expect(sample).toMatch(/^(start )+star (middle )+(end )+$/);
});

it("looks at more of a long text where the language is in doubt", async () => {
  const lengths: number[] = [];
  const scored = (score: number) => {
    const detect = (text: string) => {
      lengths.push(text.length);
      return { language: "en", score };
    };
    return languageFilter("language", filterRecipe({ kind: "language" }), { languages: ["en"], detect });
  };
  await verdictOf(scored(0.65), "a".repeat(5000));
  await verdictOf(scored(0.64), "a".repeat(5000));
  await verdictOf(scored(0.64), "a".repeat(120));
  expect(lengths).toEqual([122, 122, 482, 120]);
});
