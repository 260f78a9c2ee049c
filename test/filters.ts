/** What tests of filters share. */
import { filtersSchema } from "../src/config/dataFilters.ts";
import type { Document } from "../src/data/document.ts";
import type { Filter, Verdict } from "../src/data/filters/filter.ts";

/** A document of a text. */
export function documentOf(text: string, metadata?: Readonly<Record<string, unknown>>): Document {
  return { id: "a", text, source: "web", path: "a.txt", line: 1, metadata };
}

/** One entry of a recipe, checked and with its defaults. */
export function filterRecipe<T>(entry: Readonly<Record<string, unknown>>): T {
  return filtersSchema.parse([entry])[0] as T;
}

/** What a filter decides of a text. */
export async function verdictOf(filter: Filter, text: string, metadata?: Record<string, unknown>): Promise<Verdict> {
  return filter.judge(await filter.tag(documentOf(text, metadata)));
}

/** So many different words of five letters. */
export function differentWords(count: number): string[] {
  const letter = (value: number) => String.fromCharCode(97 + (value % 26));
  return Array.from({ length: count }, (_, word) => `w${letter(word)}${letter(word / 26)}${letter(word / 676)}x`);
}
