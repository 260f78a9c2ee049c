import { expect, it } from "vitest";
import { documentOf, filterRecipe, verdictOf } from "../../../test/filters.ts";
import type { C4Recipe } from "../../config/dataFilters.ts";
import { c4Filter } from "./c4.ts";
import { applyReplacements } from "./replacements.ts";

const filter = (options: Partial<C4Recipe> = {}) => c4Filter("c4", filterRecipe({ kind: "c4", ...options }));
const any = filter({ minSentences: 0 });

/** The text that stays. */
async function left(text: string): Promise<string> {
  const { replace = [] } = await verdictOf(any, text);
  return applyReplacements(text, replace);
}

it("tags lines and documents as Dolma's c4_v1 does", () => {
  const text = "Home\nThis line has five words.\nNo.\n{ lorem Ipsum of JavaScript, here.";
  expect(filter().tag(documentOf(text))).toEqual({
    lines_with_no_ending_punctuation: [[0, 5, 1]],
    lines_with_too_few_words: [
      [0, 5, 1],
      [31, 35, 1],
    ],
    lines_with_javascript: [[35, 69, 1]],
    sentence_count: [[0, 69, 1]],
    line_count: [[0, 69, 4]],
    has_curly_brace: [[0, 69, 1]],
    has_lorem_ipsum: [[0, 69, 1]],
  });
});

it("removes lines of four words and keeps those of five", async () => {
  expect(await left("One two three four.\nOne two three four five.\n")).toBe("One two three four five.\n");
});

it("removes lines that do not end in a full stop, question mark, exclamation mark or quotation mark", async () => {
  const line = "one two three four five";
  for (const end of [".", "?", "!", '"', "\u201d", ".  "])
    expect(await left(`${line}${end}\n`)).toBe(`${line}${end}\n`);
  for (const end of ["", ",", ":", ")", "'"]) expect(await left(`${line}${end}\n`)).toBe("");
});

it("removes lines with javascript in any case, also inside a word", async () => {
  const fine = "One two three four five.\n";
  expect(await left(`${fine}Please enable your JavaScript now.\n${fine}See the javascript: link over there.\n`)).toBe(
    fine + fine,
  );
});

it("removes empty lines, and lines that follow each other together", async () => {
  expect(await verdictOf(any, "\nOne two three four five.\n\n1\njavascript is all there is")).toEqual({
    replace: [
      { start: 0, end: 1, text: "" },
      { start: 26, end: 55, text: "" },
    ],
  });
});

it("drops documents with fewer than three sentences in the lines that stay", async () => {
  const sentences = (count: number) => "This is (really) a sentence. ".repeat(count).trim();
  expect(await verdictOf(filter(), sentences(3))).toEqual({});
  expect(await verdictOf(filter(), `${sentences(2)}\nShort one. Not this.`)).toEqual({
    drop: "2 sentences in the lines that stay, at least 3",
  });
  expect(await verdictOf(filter(), 'He said (or so they say!) "yes." Then he left?')).toEqual({});
});

it("drops documents with a curly bracket or lorem ipsum", async () => {
  expect(await verdictOf(any, "a {")).toEqual({ drop: "has a curly bracket" });
  expect(await verdictOf(any, "Lorem ipsum dolor")).toEqual({ drop: 'has "lorem ipsum"' });
});
