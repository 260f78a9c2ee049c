/**
 * What the paper drops of StarCoder's code (OLMoE, arXiv 2409.02060, section 2): files of repositories with few stars, and
 * files of which one or two words make up most. The paper does not say what a word is; here it is what white space parts.
 */
import type { StarcoderRecipe } from "../../config/dataFilters.ts";
import type { Filter } from "./filter.ts";
import { judgeLimits, wholeTextAttributes } from "./limits.ts";
import { type TextFacts, textFacts } from "./textFacts.ts";

/** Stars of the repository as Dolma's code_starcoder_taggers_v2 reads them: 0 where they are not known. */
function starsOf(metadata: Readonly<Record<string, unknown>> | undefined): number {
  const stars = Number(metadata?.max_stars_count ?? 0);
  return Number.isFinite(stars) ? stars : 0;
}

/** Shares of the most frequent word, and of the two most frequent together. */
function topWordShares({ words, counts, distinct }: TextFacts): [one: number, two: number] {
  let [first, second] = [0, 0];
  for (let id = 0; id < distinct; id++) {
    const count = counts[id] as number;
    if (count > first) {
      second = first;
      first = count;
    } else if (count > second) second = count;
  }
  const all = Math.max(1, words);
  return [first / all, (first + second) / all];
}

export function starcoderFilter(name: string, recipe: StarcoderRecipe): Filter {
  const limits = [
    { name: "num_github_stars_doc", least: recipe.minStars },
    { name: "top_word_share", most: recipe.maxTopWordShare },
    { name: "top_two_words_share", most: recipe.maxTopTwoWordsShare },
  ];
  return {
    name,
    tag(document) {
      const [top, topTwo] = topWordShares(textFacts(document));
      return wholeTextAttributes(document.text, {
        num_github_stars_doc: starsOf(document.metadata),
        top_word_share: top,
        top_two_words_share: topTwo,
      });
    },
    judge: (attributes) => judgeLimits(attributes, limits),
  };
}
