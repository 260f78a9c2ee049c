/** Limits on attributes of a whole document, and what is said of a document beyond one. */
import { type Attributes, type Span, scoreOf, wholeText } from "../attributes.ts";
import { KEEP, type Verdict } from "./filter.ts";

/** Allowed values of an attribute; both ends are allowed. */
export interface Limit {
  readonly name: string;
  readonly least?: number | undefined;
  readonly most?: number | undefined;
}

/** A number as it stands in a reason: whole, or with up to four digits. */
export function shown(value: number): string {
  return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
}

/** Drops a document for the first limit it is beyond, such as "word_count 12, at least 50". */
export function judgeLimits(attributes: Attributes, limits: readonly Limit[]): Verdict {
  for (const { name, least, most } of limits) {
    const value = scoreOf(attributes, name);
    if (value === undefined) continue;
    if (least !== undefined && value < least) return { drop: `${name} ${shown(value)}, at least ${least}` };
    if (most !== undefined && value > most) return { drop: `${name} ${shown(value)}, at most ${most}` };
  }
  return KEEP;
}

/** Numbers of a whole document as attributes. */
export function wholeTextAttributes(text: string, scores: Readonly<Record<string, number>>): Record<string, Span[]> {
  const attributes: Record<string, Span[]> = {};
  for (const name in scores) attributes[name] = wholeText(text, scores[name] as number);
  return attributes;
}
