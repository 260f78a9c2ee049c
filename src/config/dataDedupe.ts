/** What counts as a duplicate in a recipe of data. */
import { z } from "zod";

const nearSchema = z.strictObject({
  /** Least Jaccard similarity of two documents' sets of shingles of five words. */
  threshold: z.number().min(0.5).max(1).default(0.8),
});

const paragraphsSchema = z.strictObject({
  /** Paragraphs with fewer UTF-16 units are kept, however often they come. */
  minLength: z.int().min(1).default(64),
  /** Share of the paragraphs that occur once and are taken for repeated ones all the same. */
  errorRate: z.number().min(1e-9).max(0.1).default(1e-4),
});

export const dedupeSchema = z.strictObject({
  /** Drop documents whose text is that of an earlier one. */
  exact: z.boolean().default(true),
  /** Drop documents that are nearly an earlier one; null keeps them. */
  near: nearSchema.nullable().default(null),
  /** Cut paragraphs that an earlier document, or the same one, has already; null keeps them. */
  paragraphs: paragraphsSchema.nullable().default(null),
});

export type DedupeOptions = z.output<typeof dedupeSchema>;
