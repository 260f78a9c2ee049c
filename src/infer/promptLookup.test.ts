import { expect, it } from "vitest";
import { guessNext } from "./promptLookup.ts";

const guess = (ids: number[], most = 3) => [...guessNext(Int32Array.from(ids), most)];

it("guesses what followed the longest earlier match of the last tokens, the latest of several", () => {
  expect(guess([1, 2, 7, 8, 1, 2])).toEqual([7, 8, 1]);
  expect(guess([1, 2, 7, 1, 2, 8, 1, 2])).toEqual([8, 1, 2]);
  // Three agree at the start, only two later.
  expect(guess([5, 1, 2, 7, 1, 2, 8, 5, 1, 2])).toEqual([7, 1, 2]);
  expect(guess([1, 2, 7, 8, 1, 2], 1)).toEqual([7]);
});

it("guesses nothing without a match of two, and where nothing is wanted", () => {
  expect(guess([1, 2, 3, 4])).toEqual([]);
  expect(guess([4, 2, 3, 4])).toEqual([]);
  expect(guess([1, 2, 1, 2], 0)).toEqual([]);
  expect(guess([])).toEqual([]);
});

it("may guess tokens of the match itself", () => {
  expect(guess([3, 3, 3], 5)).toEqual([3]);
  expect(guess([1, 2, 1, 2, 1], 9)).toEqual([2, 1]);
});
