import fc from "fast-check";
import { expect, it } from "vitest";
import { documentOf } from "../../../test/filters.ts";
import { charactersBefore, duplicateShares, ngramShares } from "./duplicates.ts";
import { textFacts } from "./textFacts.ts";

function sharesOf(words: readonly string[], last: number) {
  const facts = textFacts(documentOf(words.join(" ")));
  return ngramShares(facts, charactersBefore(facts), last);
}

/** The same by counting strings. */
function plainShares(words: readonly string[], last: number) {
  const all = Math.max(1, words.join("").length);
  return Array.from({ length: last - 1 }, (_, index) => {
    const n = index + 2;
    const ngrams = words.slice(n - 1).map((_, place) => words.slice(place, place + n).join(" "));
    const counts = new Map<string, number>();
    for (const ngram of ngrams) counts.set(ngram, (counts.get(ngram) ?? 0) + 1);
    const [top, count] = [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best), ["", 1]);
    const covered = words.filter((_, word) =>
      ngrams.some((ngram, place) => counts.get(ngram)! > 1 && place <= word && word < place + n),
    );
    const characters = (text: string) => text.replaceAll(" ", "").length;
    return { n, top: count > 1 ? (count * characters(top)) / all : 0, repeated: characters(covered.join("")) / all };
  });
}

it("gives the most frequent n-gram's share, and the share of all that are repeated", () => {
  // "aa b" is there twice (2 * 3 of 11 characters), as is "b cc"; together they cover aa b cc twice.
  expect(sharesOf(["aa", "b", "cc", "d", "aa", "b", "cc"], 4)).toEqual([
    { n: 2, top: 6 / 11, repeated: 10 / 11 },
    { n: 3, top: 10 / 11, repeated: 10 / 11 },
    { n: 4, top: 0, repeated: 0 },
  ]);
});

it("counts n-grams exactly, for any words", () => {
  const words = fc.array(fc.constantFrom("a", "bb", "ccc"), { maxLength: 40 });
  fc.assert(
    fc.property(words, (list) => {
      expect(sharesOf(list, 10)).toEqual(plainShares(list, 10));
    }),
  );
});

it("counts every piece of which there is another, and its characters", () => {
  const facts = textFacts(documentOf("a b\nccc\na  b\n a b\nd"));
  const shares = duplicateShares(facts, charactersBefore(facts), [0, 2, 3, 5, 7, 8]);
  expect(shares).toEqual({ pieces: 3 / 5, characters: 6 / 10 });
});

it("finds no duplicates where there is nothing", () => {
  const facts = textFacts(documentOf(""));
  expect(duplicateShares(facts, charactersBefore(facts), [0])).toEqual({ pieces: 0, characters: 0 });
  expect(sharesOf([], 2)).toEqual([{ n: 2, top: 0, repeated: 0 }]);
});
