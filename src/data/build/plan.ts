/**
 * A plan: the tasks that make a recipe's data, listed once and the same for whoever runs them. A task is idempotent, and its
 * output depends on the plan alone, not on how many workers there are or in which order they go.
 *
 *     read     some files of one source -> documents, what filters find in them, sketches for deduplication
 *     pairs    one partition of all sketches -> documents that are, or are nearly, the same
 *     copies   all pairs -> documents that are dropped
 *     cuts     one partition of all paragraphs -> those that are there already
 *     choose   one read task's documents -> what is dropped, masked or cut, and why
 *     select   all of it -> which documents are held out, and the tokenizer
 *     encode   one read task's documents -> token files
 */
import { z } from "zod";
import { type DataRecipe, parseDataRecipe } from "../../config/data.ts";
import { DataError } from "../../errors.ts";

export const PHASES = ["read", "pairs", "copies", "cuts", "choose", "select", "encode"] as const;
export type Phase = (typeof PHASES)[number];

export interface Task {
  readonly phase: Phase;
  /** From 0 in its phase. */
  readonly index: number;
}

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const FILE = { path: z.string(), bytes: z.int().min(0), fingerprint: z.string() };

const planSchema = z.strictObject({
  version: z.literal(1),
  /** Of all that the bytes depend on. */
  sha256,
  /** With its sources pinned to a version or commit; checked by its own schema. */
  recipe: z.unknown(),
  /** Relative paths of the recipe start here. */
  baseDirectory: z.string(),
  cacheDirectory: z.string(),
  /** What each source came to: a package with its version, a data set with its commit, a path. */
  resolved: z.array(z.string()),
  /** Digests of the files that the recipe names beside its sources: the tokenizer, evaluation texts, modules. */
  inputs: z.record(z.string(), sha256),
  /** Files of each read task, all of one source; in the order of the recipe. */
  reads: z.array(
    z.strictObject({
      /** Index in the recipe. */
      source: z.int().min(0),
      files: z.array(z.strictObject({ ...FILE, attributes: z.array(z.strictObject(FILE)).exactOptional() })).min(1),
    }),
  ),
});

export interface Plan extends Omit<z.output<typeof planSchema>, "recipe"> {
  readonly recipe: DataRecipe;
}

export type PlannedRead = Plan["reads"][number];

/** Name of a task's files: "read-00012". */
export function taskName({ phase, index }: Task): string {
  return `${phase}-${String(index).padStart(5, "0")}`;
}

/** Place of a task's output that has a folder for each source: "speech/00012". */
export function partName(plan: Plan, index: number): string {
  const source = plan.recipe.sources[(plan.reads[index] as PlannedRead).source];
  return `${source?.name}/${String(index).padStart(5, "0")}`;
}

/**
 * Reads a plan.
 * @throws DataError or ConfigError if it is not one.
 */
export function parsePlan(text: string, place: string): Plan {
  const hint = "make it again with `olmoe data plan`";
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DataError(`${place}: not JSON`, { cause, hint });
  }
  const result = planSchema.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new DataError(`${place}: not a plan, ${issue?.path.join(".")}: ${issue?.message}`, { hint });
  }
  const recipe = parseDataRecipe(result.data.recipe, `${place}: recipe`);
  const unknown = result.data.reads.find(({ source }) => source >= recipe.sources.length);
  if (unknown !== undefined || result.data.resolved.length !== recipe.sources.length) {
    const sources = unknown === undefined ? `${result.data.resolved.length} sources` : `source ${unknown.source}`;
    throw new DataError(`${place}: reads ${sources}, the recipe has ${recipe.sources.length}`, { hint });
  }
  return { ...result.data, recipe };
}
