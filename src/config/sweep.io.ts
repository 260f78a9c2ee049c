/** Reads sweeps: YAML, with the recipe of every run resolved and checked. */
import { dirname, resolve } from "node:path";
import { ConfigError } from "../errors.ts";
import { inlineData } from "./dataRecipe.io.ts";
import { parseRecipe, type Recipe } from "./recipe.ts";
import { parseSweep, type SweepRecipe, type Variant, variantsOf } from "./sweep.ts";
import { applyOverride, readMapping, setField } from "./yaml.io.ts";

/** One run of a sweep. */
export interface SweepRun {
  /** Folder and recipe name: the variant's, with the seed where there are several. */
  readonly name: string;
  readonly variant: Variant;
  readonly recipe: Recipe;
  /** What it changes in the base, as `key.path=value`, in the order applied. */
  readonly overrides: readonly string[];
}

/** A sweep that can be run. */
export interface Sweep {
  readonly name: string;
  readonly variants: readonly Variant[];
  /** Variant by variant, seed by seed. */
  readonly runs: readonly SweepRun[];
  /** Relative paths in the recipes start here. */
  readonly baseDirectory: string;
}

interface Base {
  readonly value: Readonly<Record<string, unknown>>;
  readonly directory: string;
}

async function readBase(file: string, { base }: SweepRecipe): Promise<Base> {
  const directory = dirname(resolve(file));
  if (typeof base !== "string") return { value: await inlineData(base as Record<string, unknown>, file), directory };
  const path = resolve(directory, base);
  return { value: await inlineData(await readMapping(path), path), directory: dirname(path) };
}

/** The recipe of one run. Seeds change weights and order, not the text: what is held out is the same for all of them. */
function recipeOf(
  base: Base,
  changes: readonly ((recipe: Record<string, unknown>) => void)[],
  run: SweepRunPlan,
): Recipe {
  const recipe = structuredClone(base.value) as Record<string, unknown>;
  for (const change of changes) change(recipe);
  const place = `run "${run.name}"`;
  for (const [path, value] of Object.entries(run.variant.set)) setField(recipe, path, structuredClone(value), place);
  recipe.name = run.name;
  const checked = parseRecipe(recipe, place);
  if (checked.data.heldOutBytes === 0) {
    throw new ConfigError(
      `${place}: data.heldOutBytes: 0, a sweep compares held-out losses and needs some text for them`,
    );
  }
  if (run.seed === undefined) return checked;
  return { ...checked, seed: run.seed, data: { ...checked.data, seed: checked.data.seed ?? checked.seed } };
}

const written = (changes: Readonly<Record<string, unknown>>) =>
  Object.entries(changes).map(([path, value]) => `${path}=${JSON.stringify(value)}`);

interface SweepRunPlan {
  readonly name: string;
  readonly variant: Variant;
  readonly seed: number | undefined;
}

/**
 * Reads and checks a sweep.
 * @param overrides `key.path=value` for the recipes of all runs, after the sweep's own changes for all.
 * @throws ConfigError for a file that is missing or not YAML, or listing every fault of the sweep or of its recipes.
 */
export async function readSweep(file: string, overrides: readonly string[] = []): Promise<Sweep> {
  const sweep = parseSweep(await readMapping(file), file);
  const variants = variantsOf(sweep, file);
  const base = await readBase(file, sweep);
  const common = [
    (recipe: Record<string, unknown>) => {
      for (const [path, value] of Object.entries(sweep.set))
        setField(recipe, path, structuredClone(value), `${file}: set`);
    },
    ...overrides.map((text) => (recipe: Record<string, unknown>) => applyOverride(recipe, text)),
  ];
  const plans = variants.flatMap((variant): SweepRunPlan[] => {
    if (sweep.seeds === undefined) return [{ name: variant.name, variant, seed: undefined }];
    return sweep.seeds.map((seed) => ({ name: `${variant.name}-seed${seed}`, variant, seed }));
  });
  const runs: SweepRun[] = [];
  const faults = new Map<Variant, string>();
  for (const plan of plans) {
    try {
      const { name, variant, seed } = plan;
      const own = { ...variant.set, ...(seed === undefined ? {} : { seed }) };
      const changes = [...written(sweep.set), ...overrides, ...written(own)];
      runs.push({ name, variant, recipe: recipeOf(base, common, plan), overrides: changes });
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      // The seeds of a variant have the same faults.
      if (!faults.has(plan.variant)) faults.set(plan.variant, error.message);
    }
  }
  if (faults.size > 0) throw faultyRuns(file, [...faults.values()]);
  return { name: sweep.name, variants, runs, baseDirectory: base.directory };
}

/** One error for the faults of several runs, each already naming its run. */
export function faultyRuns(place: string, faults: readonly string[]): ConfigError {
  const [only] = faults;
  const list = faults.map((fault) => `  - ${fault.replaceAll("\n", "\n  ")}`).join("\n");
  const text = faults.length === 1 ? only : `${faults.length} runs can not be started\n${list}`;
  return new ConfigError(`${place}: ${text}`, {
    hint: "nothing was started: correct the sweep or its base recipe, or choose another folder with --out",
  });
}
