/**
 * A filter looks at documents in two steps. Its tagger writes down what is there, without a decision; its rule decides from
 * that. So what a rule drops can be looked at, and why, beside the documents themselves.
 */
import type { Attributes } from "../attributes.ts";
import type { Document } from "../document.ts";

/** Text that takes the place of a span. */
export interface Replacement {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly text: string;
}

/** What a rule decides of one document: keep it as it is, without some spans, or not at all. */
export interface Verdict {
  /** Why the document is dropped, in a few words with the figure and the limit; absent where it is kept. */
  readonly drop?: string;
  /** In order of `start`, none overlapping. */
  readonly replace?: readonly Replacement[];
}

export interface Filter {
  /** Kind and name of the filter, the first part of its attributes' names. */
  readonly name: string;
  /** What is in the document; names without the filter's own. The same document gives the same attributes. */
  tag(document: Document): Attributes | Promise<Attributes>;
  /** What to do with a document that has these attributes. */
  judge(attributes: Attributes): Verdict;
}

/** Keeps the document as it is. */
export const KEEP: Verdict = {};
