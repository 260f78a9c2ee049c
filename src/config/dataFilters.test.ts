import { expect, it } from "vitest";
import { parseConfig } from "./check.ts";
import { filtersSchema } from "./dataFilters.ts";

const parse = (value: unknown) => parseConfig(filtersSchema, value, "recipe");

it("fills in the published limits", () => {
  expect(
    parse([{ kind: "repetition" }, { kind: "starcoder" }, { kind: "c4" }, { kind: "language" }, { kind: "pii" }]),
  ).toEqual([
    { kind: "repetition", maxPeriod: 13, times: 32, cutCharacters: null },
    { kind: "starcoder", minStars: 2, maxTopWordShare: 0.3, maxTopTwoWordsShare: 0.5 },
    { kind: "c4", minLineWords: 5, minSentences: 3 },
    { kind: "language", languages: ["en"], minScore: 0.5 },
    { kind: "pii", maxMasked: 5 },
  ]);
  expect(parse([{ kind: "contamination", files: ["a.txt"] }])).toEqual([
    { kind: "contamination", files: ["a.txt"], fields: ["text"], ngram: 13, shareOf: "item", maxShare: 0.5 },
  ]);
});

it("takes codes of two and three letters for languages", () => {
  const [filter] = parse([{ kind: "language", languages: ["en", "ceb"] }]);
  expect(filter).toEqual({ kind: "language", languages: ["en", "ceb"], minScore: 0.5 });
  expect(() => parse([{ kind: "language", languages: ["english"] }])).toThrow(
    "must be a code of two or three letters, such as en",
  );
});

it("refuses two filters of one name", () => {
  expect(() => parse([{ kind: "pii" }, { kind: "c4" }, { kind: "c4", name: "pii" }])).toThrow(
    'recipe: 2.name: "pii", is the name of filter 0 already; give one of them another',
  );
});

it("refuses names that attributes can not have, and a length without limits", () => {
  expect(() => parse([{ kind: "pii", name: "a__b" }])).toThrow('recipe: 0.name: "a__b", must be lower-case letters');
  expect(() => parse([{ kind: "length" }])).toThrow("recipe: 0: needs at least one of minCharacters, maxCharacters");
  expect(() => parse([{ kind: "gopher", minWord: 5 }])).toThrow("recipe: 0.minWord: unknown key");
});
