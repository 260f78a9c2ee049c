/** Verdicts of several filters on one document, as one, and what they make of its text. */
import type { Verdict } from "../filters/filter.ts";
import { applyReplacements } from "../filters/replacements.ts";

/** What becomes of one document; files hold one for each, `{}` for most. */
export interface Choice {
  /** Name of the filter that drops it, and its reason. */
  readonly drop?: readonly [filter: string, reason: string];
  /** Spans of the text as it was read, of all filters. */
  readonly replace?: NonNullable<Verdict["replace"]>;
}

/** A filter's name and what it says. */
export type NamedVerdict = readonly [filter: string, verdict: Verdict];

/**
 * The first filter that drops a document has its word; else all replacements are made.
 * @param verdicts in the order of the recipe.
 */
export function choiceOf(verdicts: readonly NamedVerdict[]): Choice {
  for (const [filter, { drop }] of verdicts) if (drop !== undefined) return { drop: [filter, drop] };
  const replace = verdicts.flatMap(([, { replace: own = [] }]) => own);
  return replace.length === 0 ? {} : { replace };
}

/** What is left of a text. */
export function chosenText(text: string, { replace = [] }: Choice): string {
  return applyReplacements(text, replace);
}
