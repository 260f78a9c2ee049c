import { expect, it } from "vitest";
import { documentOf, filterRecipe, verdictOf } from "../../../test/filters.ts";
import type { LengthRecipe } from "../../config/dataFilters.ts";
import { lengthFilter } from "./length.ts";

const filter = (limits: Record<string, number>) =>
  lengthFilter("length", filterRecipe<LengthRecipe>({ kind: "length", ...limits }));

it("counts code points, bytes of UTF-8 and words", () => {
  expect(filter({ minWords: 1 }).tag(documentOf("ab \u00e9 \u{1f680}"))).toEqual({
    characters: [[0, 7, 6]],
    bytes: [[0, 7, 10]],
    words: [[0, 7, 3]],
  });
});

it("allows both limits and drops beyond them", async () => {
  const limits = filter({ minCharacters: 3, maxCharacters: 5 });
  expect(await verdictOf(limits, "abc")).toEqual({});
  expect(await verdictOf(limits, "abcde")).toEqual({});
  expect(await verdictOf(limits, "ab")).toEqual({ drop: "characters 2, at least 3" });
  expect(await verdictOf(limits, "abcdef")).toEqual({ drop: "characters 6, at most 5" });
  expect(await verdictOf(filter({ maxBytes: 1 }), "\u00e9")).toEqual({ drop: "bytes 2, at most 1" });
  expect(await verdictOf(filter({ minWords: 2 }), "one")).toEqual({ drop: "words 1, at least 2" });
});
