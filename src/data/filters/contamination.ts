/** Documents that overlap with evaluation texts. */
import type { ContaminationRecipe } from "../../config/dataFilters.ts";
import { scoreOf, wholeText } from "../attributes.ts";
import type { ContaminationIndex } from "./contaminationIndex.ts";
import { type Filter, KEEP } from "./filter.ts";
import { shown } from "./limits.ts";
import { textFacts } from "./textFacts.ts";

/**
 * Attributes are both shares, and the spans that overlap.
 * @param index of the evaluation texts, with n-grams of `recipe.ngram` words.
 */
export function contaminationFilter(
  name: string,
  { shareOf, maxShare }: Pick<ContaminationRecipe, "shareOf" | "maxShare">,
  index: ContaminationIndex,
): Filter {
  return {
    name,
    tag(document) {
      const { item, document: own, places } = index.overlap(textFacts(document));
      return {
        share_of_item: wholeText(document.text, item),
        share_of_document: wholeText(document.text, own),
        overlap: places.map(([start, end]) => [start, end, 1] as const),
      };
    },
    judge(attributes) {
      const share = scoreOf(attributes, `share_of_${shareOf}`) ?? 0;
      if (share <= maxShare) return KEEP;
      const whose = shareOf === "item" ? "an evaluation item's" : "its";
      return {
        drop: `shares ${shown(100 * share)} % of ${whose} ${index.n}-grams, at most ${shown(100 * maxShare)} %`,
      };
    },
  };
}
