import { describe, expect, it } from "vitest";
import { differentWords, documentOf, filterRecipe, verdictOf } from "../../../test/filters.ts";
import { gopherFilter } from "./gopher.ts";

const filter = gopherFilter("gopher", filterRecipe({ kind: "gopher" }));
const judge = (text: string) => verdictOf(filter, text);

/** A text that passes: two stop words, and so many different ones. */
const fine = (count: number) => ["the", "of", ...differentWords(count - 2)];
const text = (words: readonly string[]) => words.join(" ");

it("has the measures of a text as attributes", async () => {
  const attributes = await filter.tag(documentOf("- the # cat...\n\n- the # cat...\nof 12"));
  const scores = Object.fromEntries(Object.entries(attributes).map(([name, spans]) => [name, spans[0]?.[2]]));
  // Characters of the lines: 12, 12 and 4. Repeated n-grams: the four words of the first line, twice.
  expect(scores).toEqual({
    word_count: 10,
    mean_word_length: 2.6,
    symbol_to_word_ratio: 0.4,
    fraction_of_words_with_alpha_character: 0.5,
    required_word_count: 2,
    fraction_of_lines_starting_with_bullet_point: 2 / 3,
    fraction_of_lines_ending_with_ellipsis: 2 / 3,
    fraction_of_duplicate_lines: 2 / 3,
    fraction_of_characters_in_duplicate_lines: 22 / 26,
    fraction_of_duplicate_paragraphs: 0,
    fraction_of_characters_in_duplicate_paragraphs: 0,
    fraction_of_characters_in_most_common_2grams: 8 / 26,
    fraction_of_characters_in_most_common_3grams: 10 / 26,
    fraction_of_characters_in_most_common_4grams: 22 / 26,
    fraction_of_characters_in_duplicate_5grams: 0,
    fraction_of_characters_in_duplicate_6grams: 0,
    fraction_of_characters_in_duplicate_7grams: 0,
    fraction_of_characters_in_duplicate_8grams: 0,
    fraction_of_characters_in_duplicate_9grams: 0,
    fraction_of_characters_in_duplicate_10grams: 0,
  });
});

describe("quality", () => {
  it("keeps 50 to 100,000 words", async () => {
    expect(await judge(text(fine(50)))).toEqual({});
    expect(await judge(text(fine(49)))).toEqual({ drop: "word_count 49, at least 50" });
    const limits = gopherFilter("gopher", filterRecipe({ kind: "gopher", maxWords: 60 }));
    expect(await verdictOf(limits, text(fine(60)))).toEqual({});
    expect(await verdictOf(limits, text(fine(61)))).toEqual({ drop: "word_count 61, at most 60" });
  });

  it("keeps a mean word length of 3 to 10", async () => {
    // "the" and "of" have 5 characters, 48 others have 145 or 495 for a mean of 3 or 10.
    const words = (total: number) =>
      fine(50).map((word, index) => (index < 2 ? word : word.slice(1, 3) + "z".repeat(spread(total, index - 2) - 2)));
    const spread = (total: number, index: number) => Math.floor(total / 48) + (index < total % 48 ? 1 : 0);
    expect(await judge(text(words(145)))).toEqual({});
    expect(await judge(text(words(144)))).toEqual({ drop: "mean_word_length 2.98, at least 3" });
    expect(await judge(text(words(495)))).toEqual({});
    expect(await judge(text(words(496)))).toEqual({ drop: "mean_word_length 10.02, at most 10" });
  });

  it("keeps a tenth of words with # or an ellipsis", async () => {
    const marked = (count: number) =>
      fine(50).map((word, index) => (index > 1 && index < 2 + count ? `${word}#` : word));
    expect(await judge(text(marked(5)))).toEqual({});
    expect(await judge(text(marked(6)))).toEqual({ drop: "symbol_to_word_ratio 0.12, at most 0.1" });
    expect(await judge(text(fine(50).map((word) => `${word}..`)))).toHaveProperty(
      "drop",
      "required_word_count 0, at least 2",
    );
    const dots = fine(50).map((word, index) => (index < 2 ? word : `${word}${index % 2 === 0 ? "..." : "\u2026"}`));
    expect(await judge(text(dots))).toEqual({ drop: "symbol_to_word_ratio 0.96, at most 0.1" });
  });

  it("keeps 80 % of words with a letter", async () => {
    const numbers = (count: number) => fine(50).map((word, index) => (index < 50 - count ? word : `${1000 + index}`));
    expect(await judge(text(numbers(10)))).toEqual({});
    expect(await judge(text(numbers(11)))).toEqual({
      drop: "fraction_of_words_with_alpha_character 0.78, at least 0.8",
    });
  });

  it("keeps two different stop words", async () => {
    expect(await judge(text([...differentWords(50), "with", "have"]))).toEqual({});
    expect(await judge(text([...differentWords(50), "with", "with", "The"]))).toEqual({
      drop: "required_word_count 1, at least 2",
    });
  });

  it("keeps 90 % of lines with a bullet and 30 % with an ellipsis", async () => {
    const lines = (marks: number, mark: (line: string) => string) =>
      Array.from({ length: 10 }, (_, line) => {
        const words = text(fine(100).slice(10 * line, 10 * line + 10));
        return line < marks ? mark(words) : words;
      }).join("\n");
    const bullets = ["-", "  *", "\u2022"];
    const bullet = (words: string) => `${bullets[words.length % 3]} ${words}`;
    expect(await judge(lines(9, bullet))).toEqual({});
    expect(await judge(lines(10, bullet))).toEqual({
      drop: "fraction_of_lines_starting_with_bullet_point 1, at most 0.9",
    });
    expect(await judge(lines(3, (words) => `${words}...`))).toEqual({});
    expect(await judge(lines(4, (words) => `${words}\u2026  `))).toEqual({
      drop: "fraction_of_lines_ending_with_ellipsis 0.4, at most 0.3",
    });
  });
});

describe("repetition", () => {
  /** Lines of so many words that are all different, then `copies` of one of `size` words. */
  const copied = (lines: number, words: number, copies: number, size: number, between: string) => {
    const all = fine(lines * words + size);
    const different = Array.from({ length: lines }, (_, line) => text(all.slice(line * words, (line + 1) * words)));
    return [...different, ...Array(copies).fill(text(all.slice(lines * words)))].join(between);
  };
  const lenient = (limits: Record<string, unknown>) =>
    gopherFilter(
      "gopher",
      filterRecipe({ kind: "gopher", maxTopNgram: [1, 1, 1], maxDuplicateNgrams: Array(6).fill(1), ...limits }),
    );

  it("keeps 30 % of lines that are there twice", async () => {
    expect(await verdictOf(lenient({}), copied(7, 20, 3, 1, "\n"))).toEqual({});
    expect(await verdictOf(lenient({}), copied(6, 20, 3, 1, "\n"))).toEqual({
      drop: "fraction_of_duplicate_lines 0.3333, at most 0.3",
    });
  });

  it("keeps 20 % of characters in such lines", async () => {
    // All words but the first two have five characters: 79 of 80 words in 8 lines, 10 words in each copy.
    const share = 100 / (3 + 2 + 78 * 5 + 100);
    expect(await verdictOf(lenient({ maxDuplicateLineCharacters: share }), copied(8, 10, 2, 10, "\n"))).toEqual({});
    expect(await verdictOf(lenient({}), copied(8, 10, 2, 10, "\n"))).toEqual({
      drop: "fraction_of_characters_in_duplicate_lines 0.202, at most 0.2",
    });
  });

  it("judges paragraphs, which empty lines part", async () => {
    const limits = { maxDuplicateLines: 1, maxDuplicateLineCharacters: 1 };
    expect(await verdictOf(lenient(limits), copied(7, 20, 3, 1, "\n \n"))).toEqual({});
    expect(await verdictOf(lenient(limits), copied(6, 20, 3, 1, "\n\n\n"))).toEqual({
      drop: "fraction_of_duplicate_paragraphs 0.3333, at most 0.3",
    });
    expect(await verdictOf(lenient(limits), copied(8, 10, 2, 10, "\n\n"))).toEqual({
      drop: "fraction_of_characters_in_duplicate_paragraphs 0.202, at most 0.2",
    });
  });

  it("judges the most frequent n-gram, n from 2 to 4, with the words' characters", async () => {
    for (const [n, limit] of [
      [2, 0.2],
      [3, 0.18],
      [4, 0.16],
    ] as const) {
      // Ten copies of n words of five characters, each followed by different words, of `total` characters in all.
      const others = differentWords(2000).slice(n);
      const document = (total: number) => {
        const count = total / 5 - 10 * n;
        const per = Math.floor(count / 10);
        const parts = Array.from({ length: 10 }, (_, copy) => [
          ...differentWords(n),
          ...others.slice(copy * per, copy === 9 ? count : (copy + 1) * per),
        ]);
        return text(parts.flat());
      };
      const limits = gopherFilter(
        "gopher",
        filterRecipe({
          kind: "gopher",
          minStopWords: 0,
          maxDuplicateNgrams: Array(6).fill(1),
          maxTopNgram: [2, 3, 4].map((size) => (size === n ? limit : 1)),
        }),
      );
      const exact = Math.round((50 * n) / limit / 5) * 5;
      expect(await verdictOf(limits, document(exact + 5))).toEqual({});
      expect((await verdictOf(limits, document(exact - 5))).drop).toMatch(
        `fraction_of_characters_in_most_common_${n}grams`,
      );
    }
  });

  it("judges repeated n-grams, n from 5 to 10, each character once", async () => {
    for (const [index, limit] of [0.15, 0.14, 0.13, 0.12, 0.11, 0.1].entries()) {
      const n = 5 + index;
      // n words twice, of `total` words of five characters.
      const document = (total: number) => {
        const words = differentWords(total - n);
        return text([...words, ...words.slice(0, n)]);
      };
      const only = Array.from({ length: 6 }, (_, other) => (other === index ? limit : 1));
      const limits = gopherFilter(
        "gopher",
        filterRecipe({ kind: "gopher", minStopWords: 0, maxDuplicateNgrams: only }),
      );
      const least = Math.ceil((2 * n) / limit - 1e-9);
      expect(await verdictOf(limits, document(least))).toEqual({});
      expect((await verdictOf(limits, document(least - 1))).drop).toMatch(
        `fraction_of_characters_in_duplicate_${n}grams`,
      );
    }
  });
});
