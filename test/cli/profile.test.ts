import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { stringify } from "yaml";
import { tinyRecipe } from "../tinyRecipe.ts";
import { writeTexts } from "../tinyRun.ts";
import { olmoe, temporaryFolder } from "./harness.ts";

const root = await temporaryFolder();
const recipe = join(root, "recipe.yaml");
writeTexts(root);
await writeFile(recipe, stringify(tinyRecipe()));
const train = (run: string, steps: number, ...more: string[]) =>
  olmoe(["train", recipe, "--out", join(root, run), "--set", `train.steps=${steps}`, ...more]);

it("olmoe train --profile prints the table of steps 4 to 8, writes it into the run's folder, and trains on", async () => {
  const { code, stderr } = await train("run", 10, "--profile");
  expect(code).toBe(0);
  expect(stderr).toMatch(/olmoe train, tiny-run, .*\nlimits: .* GB\/s of reads; mean of 5 steps\n/);
  expect(stderr).toMatch(/\nstep +[\d.]+ {2}100\.0 % /);
  expect(stderr).toContain("step 10/10");
  const folder = join(root, "run", "profile");
  expect((await readdir(folder)).sort()).toEqual(["profile.json", "profile.txt", "trace.json"]);
  const { traceEvents } = JSON.parse(await readFile(join(folder, "trace.json"), "utf8"));
  const steps = traceEvents.filter(({ cat }: { cat?: string }) => cat === "step");
  expect(steps.map(({ name }: { name: string }) => name)).toEqual(["step 4", "step 5", "step 6", "step 7", "step 8"]);
});

it("olmoe train --profile=FOLDER writes there, and says so where a run is too short to be profiled", async () => {
  const folder = join(root, "elsewhere");
  expect((await train("short", 5, `--profile=${folder}`)).stderr).toContain("mean of 2 steps");
  expect((await readdir(folder)).length).toBe(3);
  const { code, stderr } = await train("shorter", 3, `--profile=${folder}`);
  expect(code).toBe(0);
  expect(stderr).toContain("  profile: the run ended before step 4 of this start, nothing was profiled\n");
});
