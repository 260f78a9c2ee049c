/**
 * Sweeps: one recipe in several variants, each with several seeds. A sweep is data too: YAML, checked at the door, with
 * every run's recipe resolved and checked before the first one starts.
 */
import { z } from "zod";
import { ConfigError } from "../errors.ts";
import { parseConfig } from "./check.ts";

/** More runs than this are taken for a mistake in a grid. */
const MAX_RUNS = 256;

/** Longer names make bad folders. */
const MAX_NAME = 100;

const nameSchema = z.string().regex(/^[a-z0-9][a-z0-9_-]*$/, "must be lower-case letters, digits, - and _");
/** Fields of a recipe by their paths, such as `train.optimizer.lr`. */
const changesSchema = z.record(z.string().min(1), z.unknown());

const sweepSchema = z
  .strictObject({
    name: nameSchema,
    /** The recipe that the runs change: a file, relative to this one, or the recipe itself. */
    base: z.union([z.string().min(1), z.record(z.string(), z.unknown())], { error: "expected a file or a recipe" }),
    /** Changes for all runs. */
    set: changesSchema.default({}),
    /** The variants, each a name and its changes. */
    runs: z
      .array(z.strictObject({ name: nameSchema, set: changesSchema.default({}) }))
      .min(1)
      .optional(),
    /** Instead of `runs`: values for some fields, all combinations of which are run. */
    grid: z.record(z.string().min(1), z.array(z.unknown()).min(1)).optional(),
    /** Each variant is run with each of these; left out: once, with the recipe's seed. */
    seeds: z.array(z.int().min(0)).min(1).optional(),
  })
  .superRefine(({ runs, grid, seeds }, context) => {
    const fault = (path: (string | number)[], message: string) => context.addIssue({ code: "custom", path, message });
    if ((runs === undefined) === (grid === undefined)) fault([], "needs exactly one of runs and grid");
    if (grid !== undefined && Object.keys(grid).length === 0) fault(["grid"], "empty, needs at least one field");
    for (const [index, { name }] of (runs ?? []).entries()) {
      const first = runs?.findIndex((run) => run.name === name) ?? index;
      if (first < index) fault(["runs", index, "name"], `"${name}", is the name of run ${first} already`);
    }
    for (const [index, seed] of (seeds ?? []).entries()) {
      if ((seeds ?? []).indexOf(seed) < index) fault(["seeds", index], `${seed}, is in the list already`);
    }
    const variants = Object.values(grid ?? {}).reduce((product, values) => product * values.length, runs?.length ?? 1);
    const count = variants * (seeds?.length ?? 1);
    if (count > MAX_RUNS) fault([], `${count} runs, must be at most ${MAX_RUNS}`);
  });

export type SweepRecipe = z.output<typeof sweepSchema>;

/** One variant of a sweep: what it is called and what it changes. */
export interface Variant {
  /** For folders: lower-case letters, digits, - and _. */
  readonly name: string;
  /** For people, such as "balance=0.01, z=0". */
  readonly label: string;
  readonly set: Readonly<Record<string, unknown>>;
}

/**
 * Checks a sweep; its runs' recipes are checked by whoever reads them.
 * @throws ConfigError listing every fault.
 */
export function parseSweep(value: unknown, place = "sweep"): SweepRecipe {
  return parseConfig(sweepSchema, value, place, "see docs/sweeps.md for every key");
}

/** The part of a path that tells it from the others: its last key, or all of it where two end alike. */
function shortNames(paths: readonly string[]): string[] {
  const last = (path: string) => path.slice(path.lastIndexOf(".") + 1);
  const lasts = paths.map(last);
  return paths.map((path) => (lasts.filter((key) => key === last(path)).length > 1 ? path : last(path)));
}

/** Every combination of the values of a grid, the last field changing fastest. */
function combinations(grid: Readonly<Record<string, readonly unknown[]>>): Record<string, unknown>[] {
  return Object.entries(grid).reduce<Record<string, unknown>[]>(
    (sets, [path, values]) => sets.flatMap((set) => values.map((value) => ({ ...set, [path]: value }))),
    [{}],
  );
}

/** The variants of a sweep in order. @throws ConfigError for a grid with values that can not be told apart by name. */
export function variantsOf({ runs, grid = {} }: SweepRecipe, place = "sweep"): Variant[] {
  if (runs !== undefined) return runs.map(({ name, set }) => ({ name, label: name, set }));
  const names = shortNames(Object.keys(grid));
  const variants = combinations(grid).map((set) => {
    const parts = Object.values(set).map((value, index) => {
      return `${names[index]}=${typeof value === "string" ? value : JSON.stringify(value)}`;
    });
    const label = parts.join(", ");
    const name = parts
      .join("_")
      .replace(/[^A-Za-z0-9_]/g, "-")
      .toLowerCase();
    return { name, label, set };
  });
  const repeated = variants.find(({ name }, index) => variants.findIndex((other) => other.name === name) < index);
  if (repeated !== undefined) {
    throw new ConfigError(`${place}: grid: two runs are named "${repeated.name}" (${repeated.label})`, {
      hint: "remove repeated values, or list the runs by name under runs",
    });
  }
  const long = variants.find(({ name }) => name.length > MAX_NAME);
  if (long !== undefined) {
    throw new ConfigError(`${place}: grid: "${long.name}" has ${long.name.length} letters, at most ${MAX_NAME}`, {
      hint: "list the runs by name under runs",
    });
  }
  return variants;
}
