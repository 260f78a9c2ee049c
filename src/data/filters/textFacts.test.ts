import fc from "fast-check";
import { expect, it } from "vitest";
import { documentOf } from "../../../test/filters.ts";
import { charactersBefore } from "./duplicates.ts";
import { hasLetter, textFacts } from "./textFacts.ts";

/** What Python's str.isspace says of characters of one unit. */
const PYTHON_SPACE = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);

/** The facts in a form that can be compared. */
function shown(text: string) {
  const facts = textFacts(documentOf(text));
  const { words, distinct, lines, starts, ends, ids, counts, firsts, lineStarts, lineWords } = facts;
  return {
    words: Array.from({ length: words }, (_, word) => text.slice(starts[word], ends[word])),
    ids: [...ids.subarray(0, words)],
    counts: [...counts.subarray(0, distinct)],
    firsts: [...firsts.subarray(0, distinct)],
    lineStarts: [...lineStarts.subarray(0, lines + 1)],
    lineWords: [...lineWords.subarray(0, lines + 1)],
  };
}

it("finds words, equal words and lines", () => {
  expect(shown("to be\n\n or to")).toEqual({
    words: ["to", "be", "or", "to"],
    ids: [0, 1, 2, 0],
    counts: [2, 1, 1],
    firsts: [0, 1, 2],
    lineStarts: [0, 6, 7, 14],
    lineWords: [0, 2, 2, 4],
  });
});

it("has one line and no words for an empty text", () => {
  expect(shown("")).toEqual({ words: [], ids: [], counts: [], firsts: [], lineStarts: [0, 1], lineWords: [0, 0] });
});

it("parts words at Python's white space, for any text", () => {
  const characters = fc.constantFrom(
    "a",
    "b",
    " ",
    "\n",
    "\u0085",
    "\u001c",
    "\ufeff",
    "\u00a0",
    "\ud800",
    "\u{1f680}",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(characters).map((list) => list.join("")),
        fc.string({ unit: "binary" }),
      ),
      (text) => {
        const words = Array.from({ length: text.length }, (_, place) =>
          PYTHON_SPACE.has(text[place]!) ? " " : text[place],
        )
          .join("")
          .split(" ")
          .filter((word) => word !== "");
        const found = shown(text);
        expect(found.words).toEqual(words);
        const distinct = [...new Set(words)];
        expect(found.ids).toEqual(words.map((word) => distinct.indexOf(word)));
        expect(found.counts).toEqual(distinct.map((word) => words.filter((other) => other === word).length));
        expect(found.lineStarts.length).toBe(text.split("\n").length + 1);
      },
    ),
  );
});

it("counts a pair of surrogates as one character, and knows letters of every script", () => {
  const facts = textFacts(documentOf("a\u{1f680} \u{1f680} \u{10428} \u00e9 7"));
  expect([...charactersBefore(facts).subarray(0, 6)]).toEqual([0, 2, 3, 4, 5, 6]);
  expect([0, 1, 2, 3, 4].map((word) => hasLetter(facts, word))).toEqual([true, false, true, true, false]);
});

it("finds words in a text that is too long for the memory that is kept", () => {
  const found = shown("ab\n".repeat(400_000));
  expect([found.words.length, found.counts, found.lineStarts.length]).toEqual([400_000, [400_000], 400_002]);
});
