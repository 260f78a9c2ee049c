import fc from "fast-check";
import { expect, it } from "vitest";
import { differentWords, documentOf, filterRecipe, verdictOf } from "../../../test/filters.ts";
import { contaminationFilter } from "./contamination.ts";
import { ContaminationIndex } from "./contaminationIndex.ts";
import { textFacts } from "./textFacts.ts";

function indexOf(n: number, items: readonly string[]): ContaminationIndex {
  const index = new ContaminationIndex(n);
  for (const item of items) index.add(item);
  return index;
}

const overlap = (index: ContaminationIndex, text: string) => index.overlap(textFacts(documentOf(text)));

it("compares words in lower case without punctuation and white space", () => {
  const index = indexOf(3, ["Don't look, now: it's \u00dcber"]);
  const text = "so dont   LOOK -- now; (its) \u00fcber ok";
  expect(overlap(index, text)).toEqual({ document: 3 / 5, item: 1, places: [[3, 33]] });
  expect(overlap(index, "look dont now its").places).toEqual([]);
});

it("gives the largest share of one item, counting each of its n-grams once", () => {
  const index = indexOf(2, ["a b c d e", "x y z"]);
  expect(overlap(index, "a b a b q y z")).toEqual({
    document: 3 / 6,
    item: 1 / 2,
    places: [
      [0, 3],
      [4, 7],
      [10, 13],
    ],
  });
});

it("counts an n-gram for every item that has it", () => {
  const index = indexOf(2, ["a b c d", "a b"]);
  expect(overlap(index, "a b")).toEqual({ document: 1, item: 1, places: [[0, 3]] });
});

it("leaves out items that are shorter than an n-gram", () => {
  const index = indexOf(3, ["a b", "", "c d e"]);
  expect([index.items, index.ngrams]).toEqual([3, 1]);
  expect(overlap(index, "a b")).toEqual({ document: 0, item: 0, places: [] });
});

it("finds each n-gram of many items, and the same ones as plain sets, for any texts", () => {
  const words = fc.array(fc.constantFrom("a", "B", "c,", "\u{1f680}", "-"), { maxLength: 30 });
  fc.assert(
    fc.property(fc.array(words, { maxLength: 20 }), words, (items, document) => {
      const plain = (list: readonly string[]) => {
        const kept = list.map((word) => word.toLowerCase().replace(/[,-]/g, "")).filter((word) => word !== "");
        return kept.slice(1).map((word, place) => `${kept[place]} ${word}`);
      };
      const sets = items.map((item) => new Set(plain(item)));
      const own = plain(document);
      const found = overlap(
        indexOf(
          2,
          items.map((item) => item.join(" ")),
        ),
        document.join(" "),
      );
      const shares = sets.map((set) => [...set].filter((ngram) => own.includes(ngram)).length / Math.max(1, set.size));
      expect(found.item).toBe(Math.max(0, ...shares));
      const matched = own.filter((ngram) => sets.some((set) => set.has(ngram)));
      expect(found.document).toBe(matched.length / Math.max(1, own.length));
    }),
  );
});

it("grows with the items, and counts an n-gram of very many items for 64 of them", () => {
  const words = differentWords(5000);
  const index = new ContaminationIndex(2);
  for (let item = 0; item < 2500; item++) index.add(`same thing ${words[2 * item]} ${words[2 * item + 1]}`);
  expect([index.items, index.ngrams]).toEqual([2500, 1 + 2 * 2500]);
  expect(overlap(index, `${words[4998]} ${words[4999]}`).item).toBe(1 / 2);
  expect(overlap(index, `thing ${words[0]} ${words[1]}`).item).toBe(2 / 3);
});

it("drops a document that has more than half of an item, or more than a share of its own", async () => {
  const item = differentWords(14);
  const index = indexOf(13, [item.join(" ")]);
  const filter = (options: Record<string, unknown> = {}) =>
    contaminationFilter("c", filterRecipe({ kind: "contamination", files: ["a.txt"], ...options }), index);
  expect(await verdictOf(filter(), item.slice(0, 13).join(" "))).toEqual({});
  expect(await verdictOf(filter(), item.join(" "))).toEqual({
    drop: "shares 100 % of an evaluation item's 13-grams, at most 50 %",
  });
  const padded = `${item.join(" ")} one two`;
  expect(await verdictOf(filter({ shareOf: "document" }), padded)).toEqual({});
  expect(await verdictOf(filter({ shareOf: "document", maxShare: 0.4 }), padded)).toEqual({
    drop: "shares 50 % of its 13-grams, at most 40 %",
  });
  expect(filter().tag(documentOf(padded))).toEqual({
    share_of_item: [[0, 91, 1]],
    share_of_document: [[0, 91, 0.5]],
    overlap: [[0, 83, 1]],
  });
});
