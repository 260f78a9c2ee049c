/** Replacing spans of a text, of one filter or of several that looked at the same text. */
import type { Replacement } from "./filter.ts";

/** Spans that overlap become one, with the text of the one that starts first, or of the longer one. */
function joinOverlapping(replacements: readonly Replacement[]): Replacement[] {
  const joined: Replacement[] = [];
  for (const replacement of replacements.toSorted((a, b) => a.start - b.start || b.end - a.end)) {
    const last = joined.at(-1);
    if (last === undefined || replacement.start >= last.end) joined.push(replacement);
    else joined[joined.length - 1] = { ...last, end: Math.max(last.end, replacement.end) };
  }
  return joined;
}

/**
 * The text with spans replaced. All spans count places of the text as it is given, so the replacements of several filters
 * can be applied together; where some overlap, the text of the first goes in place of all of them.
 */
export function applyReplacements(text: string, replacements: readonly Replacement[]): string {
  const pieces: string[] = [];
  let place = 0;
  for (const { start, end, text: instead } of joinOverlapping(replacements)) {
    pieces.push(text.slice(place, start), instead);
    place = end;
  }
  return pieces.length === 0 ? text : pieces.join("") + text.slice(place);
}
