/** The filters of a plan, made once in a process, and what they find in a document. */
import path from "node:path";
import { loadTokenizer } from "../../tokenizer/io.ts";
import type { Document } from "../document.ts";
import type { AttributesByFilter } from "../filters/attributeLine.ts";
import { createFilters, isFor, type NamedFilter } from "../filters/create.io.ts";
import type { TaskContext } from "./context.ts";
import type { Plan } from "./plan.ts";
import type { NamedVerdict } from "./verdicts.ts";

const made = new WeakMap<Plan, Promise<NamedFilter[]>>();

async function makeFilters({ plan, signal }: TaskContext): Promise<NamedFilter[]> {
  const { baseDirectory, recipe } = plan;
  const { file } = recipe.tokenizer;
  const tokenizer =
    recipe.filters.some(({ kind }) => kind === "repetition") && file !== undefined
      ? await loadTokenizer(path.resolve(baseDirectory, file))
      : undefined;
  const encode = (text: string) => {
    if (tokenizer === undefined) throw new Error("internal: a filter encodes without a tokenizer");
    return tokenizer.encode(text);
  };
  return createFilters(recipe.filters, { encode, baseDirectory, ...(signal === undefined ? {} : { signal }) });
}

/** Filters of one source: evaluation texts and language tables are loaded by the first task that needs them. */
export async function filtersFor(source: string, context: TaskContext): Promise<NamedFilter[]> {
  const filters = made.get(context.plan) ?? makeFilters(context);
  made.set(context.plan, filters);
  return (await filters).filter((filter) => isFor(filter, source));
}

/** Kinds that wait for something; the others share what they find out about a text, so they go first. */
const SLOW: ReadonlySet<string> = new Set(["repetition", "module"]);

/** What all filters find in a document, by their names. */
export async function tagAll(filters: readonly NamedFilter[], document: Document): Promise<AttributesByFilter> {
  const found: Record<string, Awaited<ReturnType<NamedFilter["tag"]>>> = {};
  for (const filter of filters) if (!SLOW.has(filter.kind)) found[filter.name] = await filter.tag(document);
  for (const filter of filters) if (SLOW.has(filter.kind)) found[filter.name] = await filter.tag(document);
  return found;
}

/** What the filters say, in the order of the recipe. */
export function judgeAll(filters: readonly NamedFilter[], found: AttributesByFilter): NamedVerdict[] {
  return filters.map((filter) => [filter.name, filter.judge(found[filter.name] ?? {})]);
}
