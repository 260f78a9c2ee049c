import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { tinyRecipe } from "../../test/tinyRecipe.ts";
import { ConfigError } from "../errors.ts";
import { resolveModel } from "./presets.ts";
import { readSweep } from "./sweep.io.ts";
import { parseSweep, variantsOf } from "./sweep.ts";

const HINT = "see docs/sweeps.md for every key";
const RUNS_HINT = "nothing was started: correct the sweep or its base recipe, or choose another folder with --out";
const RUNS = [{ name: "a" }, { name: "b", set: { "train.loss.z": 0 } }];

describe("a sweep with one fault", () => {
  const sweep = { name: "s", base: "recipe.yaml", runs: RUNS };
  it.each<[object, string]>([
    [{ runs: [] }, "runs: [], expected array to have >=1 items"],
    [{ runs: undefined }, "(root): needs exactly one of runs and grid"],
    [{ grid: { seed: [1] } }, "(root): needs exactly one of runs and grid"],
    [{ runs: undefined, grid: {} }, "grid: empty, needs at least one field"],
    [{ runs: undefined, grid: { "train.steps": [] } }, "grid.train.steps: [], expected array to have >=1 items"],
    [{ seeds: [] }, "seeds: [], expected array to have >=1 items"],
    [{ seeds: [1, 2, 1] }, "seeds.2: 1, is in the list already"],
    [{ seeds: [-1] }, "seeds.0: -1, expected number to be >=0"],
    [{ runs: [{ name: "a" }, { name: "b" }, { name: "a" }] }, 'runs.2.name: "a", is the name of run 0 already'],
    [{ runs: [{ name: "A b" }] }, 'runs.0.name: "A b", must be lower-case letters, digits, - and _'],
    [{ runs: [{ name: "a", sets: {} }] }, 'runs.0.sets: unknown key, did you mean "set"?'],
    [{ runs: [{ name: "a", set: ["x"] }] }, 'runs.0.set: ["x"], expected record, received array'],
    [{ run: [] }, 'run: unknown key, did you mean "runs"?'],
    [{ base: 3 }, "base: 3, expected a file or a recipe"],
    [{ base: undefined }, "base: missing, expected a file or a recipe"],
    [{ seeds: Array.from({ length: 129 }, (_, seed) => seed) }, "(root): 258 runs, must be at most 256"],
  ])("%o names it", (changes, fault) => {
    expect(() => parseSweep({ ...sweep, ...changes }, "my.yaml")).toThrow(
      new ConfigError(`my.yaml: ${fault}`, { hint: HINT }),
    );
  });

  it("throws nothing but its own error, whatever the value", () => {
    const keys = fc.constantFrom("name", "base", "set", "runs", "grid", "seeds", "a.b", "x");
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof({ maxDepth: 4 }, fc.anything(), fc.dictionary(keys, tie("value")), fc.array(tie("value"))),
    }));
    fc.assert(
      fc.property(value, (anything) => {
        try {
          variantsOf(parseSweep({ ...sweep, ...(anything as object) }));
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
        }
      }),
      { seed: 1, numRuns: 100 },
    );
  });
});

describe("a grid", () => {
  const variants = (grid: object) => variantsOf(parseSweep({ name: "s", base: {}, grid }), "my.yaml");

  it("is every combination of its values, named by their last keys", () => {
    expect(variants({ "train.loss.balance": [0, 0.01], "model.mlpType": ["moe", "dense"] })).toEqual([
      {
        name: "balance-0_mlptype-moe",
        label: "balance=0, mlpType=moe",
        set: { "train.loss.balance": 0, "model.mlpType": "moe" },
      },
      {
        name: "balance-0_mlptype-dense",
        label: "balance=0, mlpType=dense",
        set: { "train.loss.balance": 0, "model.mlpType": "dense" },
      },
      {
        name: "balance-0-01_mlptype-moe",
        label: "balance=0.01, mlpType=moe",
        set: { "train.loss.balance": 0.01, "model.mlpType": "moe" },
      },
      {
        name: "balance-0-01_mlptype-dense",
        label: "balance=0.01, mlpType=dense",
        set: { "train.loss.balance": 0.01, "model.mlpType": "dense" },
      },
    ]);
  });

  it("names fields by their whole path where two end alike", () => {
    expect(variants({ "train.seed": [1], "data.seed": [2], "train.clip": [null] }).map(({ label }) => label)).toEqual([
      "train.seed=1, data.seed=2, clip=null",
    ]);
  });

  it("refuses values that give the same name twice, and names too long for a folder", () => {
    expect(() => variants({ "train.steps": [5, 5] })).toThrow(
      new ConfigError('my.yaml: grid: two runs are named "steps-5" (steps=5)', {
        hint: "remove repeated values, or list the runs by name under runs",
      }),
    );
    expect(() => variants({ a: ["x".repeat(120)] })).toThrow(
      new ConfigError(`my.yaml: grid: "a-${"x".repeat(120)}" has 122 letters, at most 100`, {
        hint: "list the runs by name under runs",
      }),
    );
  });
});

describe("readSweep", () => {
  const folder = mkdtempSync(join(tmpdir(), "olmoe-sweep-config-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, "base"));
  writeFileSync(join(folder, "base", "recipe.yaml"), stringify(tinyRecipe()));
  const file = join(folder, "sweep.yaml");
  const read = (sweep: object, overrides: string[] = []) => {
    writeFileSync(file, stringify({ name: "s", base: "base/recipe.yaml", ...sweep }));
    return readSweep(file, overrides);
  };
  const refused = (sweep: object, fault: string, overrides: string[] = []) =>
    expect(read(sweep, overrides)).rejects.toThrow(new ConfigError(`${file}: ${fault}`, { hint: RUNS_HINT }));

  it("resolves every run: the base, changes for all, the command line's, the variant's, the seed", async () => {
    const set = { "train.steps": 5, "train.keep": 3, "train.loss.z": 1 };
    const { name, runs, baseDirectory } = await read({ runs: RUNS, set, seeds: [3, 4] }, ["train.steps=6", "seed=9"]);
    expect({ name, baseDirectory }).toEqual({ name: "s", baseDirectory: join(folder, "base") });
    expect(
      runs.map(({ name: run, variant, recipe: { seed, data, train, ...recipe } }) => [
        run,
        variant.label,
        recipe.name,
        seed,
        // What is held out does not depend on the run's seed.
        data.seed,
        [train.steps, train.keep, train.loss.z],
      ]),
    ).toEqual([
      ["a-seed3", "a", "a-seed3", 3, 9, [6, 3, 1]],
      ["a-seed4", "a", "a-seed4", 4, 9, [6, 3, 1]],
      ["b-seed3", "b", "b-seed3", 3, 9, [6, 3, 0]],
      ["b-seed4", "b", "b-seed4", 4, 9, [6, 3, 0]],
    ]);
    expect(runs.at(-1)?.overrides).toEqual([
      "train.steps=5",
      "train.keep=3",
      "train.loss.z=1",
      "train.steps=6",
      "seed=9",
      "train.loss.z=0",
      "seed=4",
    ]);
  });

  it("takes a recipe in the sweep itself, and its seed where no other is given", async () => {
    const { runs, baseDirectory } = await read({ base: tinyRecipe(), runs: [{ name: "a" }] });
    expect(baseDirectory).toBe(folder);
    expect(runs.map(({ name, recipe: { seed, data } }) => [name, seed, data.seed])).toEqual([["a", 7, undefined]]);
  });

  it("checks the recipes of all runs, and reports each variant once", async () => {
    await refused(
      { runs: [{ name: "a", set: { "train.steps": "many" } }], seeds: [1, 2] },
      'run "a-seed1": train.steps: "many", expected number, received string',
    );
    await refused(
      {
        runs: [
          { name: "a" },
          { name: "b", set: { "train.step": 3, "train.keep": 0 } },
          { name: "c", set: { "data.sources.7.name": "x" } },
          { name: "d", set: { "train..lr": 1 } },
        ],
      },
      "3 runs can not be started\n" +
        '  - run "b": 2 faults\n' +
        "    - train.keep: 0, expected number to be >=1\n" +
        '    - train.step: unknown key, did you mean "steps"?\n' +
        '  - run "c": data.sources has entries 0 to 3\n' +
        '  - run "d": "train..lr" is no field of a recipe',
    );
  });

  it("reads recipes/moe-vs-dense.yaml: a mixture and its twin, whose active parameters differ by the router's alone", async () => {
    const { runs } = await readSweep(fileURLToPath(new URL("../../recipes/moe-vs-dense.yaml", import.meta.url)));
    expect(runs.map(({ name }) => name)).toEqual(
      ["moe", "dense"].flatMap((name) => [1, 2, 3].map((seed) => `${name}-seed${seed}`)),
    );
    expect(new Set(runs.map(({ recipe }) => recipe.data.seed))).toEqual(new Set([6198]));
    const [moe, , , dense] = runs.map(({ recipe: { model, train } }) => ({ config: resolveModel(model), train }));
    expect(moe?.train).toEqual(dense?.train);
    const [mixture, twin] = [moe, dense].map((one) => one!.config);
    expect(mixture!.numExpertsPerTok * mixture!.intermediateSize).toBe(twin!.intermediateSize);
  });

  it("names a base that is not there", async () => {
    await expect(read({ base: "none.yaml", runs: RUNS })).rejects.toThrow(
      new ConfigError(`${join(folder, "none.yaml")}: no such recipe`, {
        hint: "recipes/quickstart.yaml is one to start from",
      }),
    );
  });
});
