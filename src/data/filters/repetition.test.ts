import { expect, it } from "vitest";
import { filterRecipe, verdictOf } from "../../../test/filters.ts";
import type { RepetitionRecipe } from "../../config/dataFilters.ts";
import { piecesOf, repetitionFilter } from "./repetition.ts";

/** One token for each character. */
const encode = (text: string) => Int32Array.from(text, (character) => character.codePointAt(0)!);

const filter = (options: Record<string, unknown> = {}) =>
  repetitionFilter("repetition", filterRecipe<RepetitionRecipe>({ kind: "repetition", ...options }), encode);

it("keeps 31 repetitions of 1 to 13 tokens and drops 32", async () => {
  for (const unit of ["a", "ab", "abcdefghijklm"]) {
    expect(await verdictOf(filter(), `x${unit.repeat(31)}y`)).toEqual({});
    expect(await verdictOf(filter(), `x${unit.repeat(32)}y`)).toEqual({
      drop: "an n-gram is there 32 times in a row, at most 31",
    });
  }
  expect(await verdictOf(filter(), "abcdefghijklmn".repeat(40))).toEqual({});
});

it("looks at pieces by themselves where the text is cut", async () => {
  expect(await verdictOf(filter({ cutCharacters: 31 }), "a".repeat(62))).toEqual({});
  expect(await verdictOf(filter({ cutCharacters: 32 }), "a".repeat(62))).toHaveProperty("drop");
});

it("waits for an encoder that takes its time", async () => {
  const slow = repetitionFilter("r", filterRecipe({ kind: "repetition" }), async (text) => encode(text));
  expect(await verdictOf(slow, "a".repeat(32))).toHaveProperty("drop");
});

it("cuts by code points, and an empty text into one piece", () => {
  expect([...piecesOf("a\u{1f680}bc", 2)]).toEqual(["a\u{1f680}", "bc"]);
  expect([...piecesOf("abcd", 2)]).toEqual(["ab", "cd"]);
  expect([...piecesOf("abcd", null)]).toEqual(["abcd"]);
  expect([...piecesOf("", 2)]).toEqual([""]);
});
