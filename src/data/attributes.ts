/**
 * What filters find in a document, in the form of Dolma's attributes: named lists of spans with scores. In memory spans
 * count UTF-16 units, as strings do here; files count code points, as Dolma's tools do.
 */

/** From `start` to `end`, exclusive, and what was found there: a share, a count, or 1 for "yes". */
export type Span = readonly [start: number, end: number, score: number];

/** By name, such as `gopher_fraction_of_symbols`. */
export type Attributes = Readonly<Record<string, readonly Span[]>>;

/** One number for a whole document, as most taggers give. */
export function wholeText(text: string, score: number): Span[] {
  return text.length === 0 ? [] : [[0, text.length, score]];
}

/** The number of a whole-document attribute; undefined where the tagger found nothing to say. */
export function scoreOf(attributes: Attributes, name: string): number | undefined {
  return attributes[name]?.[0]?.[2];
}
