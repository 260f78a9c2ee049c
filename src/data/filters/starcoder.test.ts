import { expect, it } from "vitest";
import { differentWords, filterRecipe, verdictOf } from "../../../test/filters.ts";
import { starcoderFilter } from "./starcoder.ts";

const filter = starcoderFilter("starcoder", filterRecipe({ kind: "starcoder" }));
const stars = { max_stars_count: 2 };

it("keeps two stars and drops fewer, or an unknown number", async () => {
  const text = differentWords(10).join(" ");
  expect(await verdictOf(filter, text, { max_stars_count: 2 })).toEqual({});
  const few = (count: string) => ({ drop: `num_github_stars_doc ${count}, at least 2` });
  expect(await verdictOf(filter, text, { max_stars_count: 1.9 })).toEqual(few("1.9"));
  expect(await verdictOf(filter, text, { max_stars_count: null })).toEqual(few("0"));
  expect(await verdictOf(filter, text, { max_stars_count: "many" })).toEqual(few("0"));
  expect(await verdictOf(filter, text)).toEqual(few("0"));
});

it("keeps 30 % of one word and 50 % of two, and drops more", async () => {
  const text = (a: number, b: number, rest: number) =>
    [...Array(a).fill("a"), ...Array(b).fill("b"), ...differentWords(rest)].join(" ");
  expect(await verdictOf(filter, text(30, 20, 50), stars)).toEqual({});
  expect(await verdictOf(filter, text(31, 1, 68), stars)).toEqual({ drop: "top_word_share 0.31, at most 0.3" });
  expect(await verdictOf(filter, text(30, 21, 49), stars)).toEqual({ drop: "top_two_words_share 0.51, at most 0.5" });
});
