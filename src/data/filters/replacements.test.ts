import { expect, it } from "vitest";
import { applyReplacements } from "./replacements.ts";

it("replaces spans in any order, all counted in the text as it was", () => {
  const replacements = [
    { start: 4, end: 5, text: "XX" },
    { start: 0, end: 2, text: "" },
  ];
  expect(applyReplacements("abcdefg", replacements)).toBe("cdXXfg");
  expect(applyReplacements("abc", [])).toBe("abc");
});

it("joins spans that overlap, and keeps those apart that touch", () => {
  const replacements = [
    { start: 1, end: 4, text: "" },
    { start: 2, end: 3, text: "M" },
    { start: 3, end: 6, text: "N" },
    { start: 6, end: 7, text: "O" },
  ];
  expect(applyReplacements("abcdefgh", replacements)).toBe("aOh");
});

it("takes the longer of two spans that start together", () => {
  const replacements = [
    { start: 0, end: 1, text: "short" },
    { start: 0, end: 3, text: "long" },
  ];
  expect(applyReplacements("abcd", replacements)).toBe("longd");
});
