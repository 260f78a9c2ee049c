import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { type RunSummary, readSummary, writeSummary } from "../../src/experiments/summary.io.ts";
import { tinyRecipe } from "../tinyRecipe.ts";
import { writeTexts } from "../tinyRun.ts";
import { olmoe, temporaryFolder } from "./harness.ts";

const root = await temporaryFolder();
const recipe = join(root, "recipe.yaml");
const run = join(root, "run");
const argv = ["train", recipe, "--out", run, "--backend", "reference", "--set", "train.steps=4"];

beforeAll(async () => {
  writeTexts(root);
  await writeFile(recipe, stringify(tinyRecipe()));
});

const SUMMARY: RunSummary = {
  name: "quickstart-smoke",
  sources: ["novel", "code"],
  comparison: [
    { name: "this model", bySource: [2.25, 1.5], all: 1.875 },
    { name: "brotli 11", bySource: [2.5, 2], all: 2.25 },
  ],
  samples: [{ source: "novel", prompt: "Call me", text: " Ishmael.\nSome\tyears \x1b[31mago" }],
  experts: ["layer 0: code goes to expert 3 4.2 times as often as an even share"],
  trainingSeconds: 125,
  tokens: 491_520,
  checkpoint: "/runs/quickstart/checkpoints/step120-tokens491520",
  report: "/runs/quickstart/report.html",
  picture: "/runs/quickstart/experts.png",
};

/** What `printSummary` makes of it. */
const PRINTED = `
Held-out text, bits per byte (lower is better), after 492 k tokens in 2 m 05 s:

              novel   code    all
  this model  2.250  1.500  1.875
  brotli 11   2.500  2.000  2.250

What it writes:

  novel: Call me| Ishmael. Some years [31mago

Which experts fire:
  layer 0: code goes to expert 3 4.2 times as often as an even share

report      /runs/quickstart/report.html
picture     /runs/quickstart/experts.png
checkpoint  /runs/quickstart/checkpoints/step120-tokens491520

Next: npx olmoe run /runs/quickstart/checkpoints/step120-tokens491520 -p "Call me"
`;

describe("olmoe train", () => {
  it("trains, shows what it does on stderr, and gives programs the summary", async () => {
    const { code, stdout, stderr } = await olmoe([...argv, "--json"]);
    expect({
      code,
      stderr: stderr.replaceAll(/[\d.,]+ (k )?tokens\/s/g, "RATE").replaceAll(/RATE {2}.* left/g, "RATE"),
    }).toEqual({
      code: 0,
      stderr: expect.stringMatching(
        /^tiny-run: training on reference typescript, 1 thread, in .*\n {2}reading prose\n/,
      ),
    });
    expect(stderr).toContain("  prose       20.3 kB   4.77 k tokens in 38 documents\n");
    expect(stderr).toMatch(
      /\n {2}step 1\/4 {2}loss 5\.\d{3} .*\n {2}step 4\/4 {2}loss 5\.\d{3} .*\n {2}step 4: held-out/,
    );
    expect(stderr).toMatch(/\n {2}estimate: [\d.]+ MB of memory at the peak, [\d.]+ m?s of steps, [\d.]+ m?s each\n/);
    expect(stderr).toMatch(
      /\)\n {2}512 tokens in [\d.]+ m?s, [\d.,]+ (k )?tokens\/s\n {2}memory at the peak .* [MG]B, estimated .* [MG]B; a step .* m?s, estimated .* m?s\n {2}comparing with baselines, writing the report\n$/,
    );
    const { predicted, outcome } = JSON.parse(await readFile(join(run, "estimate.json"), "utf8"));
    expect([predicted.steps, predicted.tokens, outcome.steps]).toEqual([4, 512, 4]);
    // The process that runs the tests holds much else, which both sides see.
    expect(outcome.peakBytes / predicted.peakBytes).toBeGreaterThan(0.5);
    const [first = ""] = (await readFile(join(run, "metrics.jsonl"), "utf8")).split("\n");
    expect(JSON.parse(first)).toMatchObject({ type: "run", step: 0, name: "tiny-run", overrides: ["train.steps=4"] });
    expect(JSON.parse(await readFile(join(run, "recipe.json"), "utf8"))).toMatchObject({ train: { steps: 4 } });
    const summary = JSON.parse(stdout);
    expect(summary).toEqual(await readSummary(run));
    expect(summary).toMatchObject({ name: "tiny-run", tokens: 512, report: join(run, "report.html") });
    expect(await readFile(summary.report, "utf8")).toContain("Training run: tiny-run");
  });

  it("refuses a folder that has a run, and says that a resumed one is done", async () => {
    expect(await olmoe(argv)).toEqual({
      code: 1,
      stdout: "",
      stderr:
        `tiny-run: training on reference typescript, 1 thread, in ${run}\n` +
        `olmoe: ${run}: holds a run already (step4-tokens512)\n` +
        "hint: add --resume to go on with it, or choose another folder with --out\n",
    });
    const { code, stdout, stderr } = await olmoe([...argv, "--resume"]);
    expect(code).toBe(0);
    expect(stderr).toContain("\n  all 4 steps are done already\n");
    expect(stdout).toContain("Held-out text, bits per byte (lower is better), after 512 tokens in ");
  });

  it("refuses bf16 on a backend without it before it does anything", async () => {
    expect(await olmoe([...argv, "--set", "train.precision=bf16"])).toEqual({
      code: 1,
      stdout: "",
      stderr:
        "olmoe: backend: precision bf16 needs AVX512-BF16 or AMX-BF16, and the reference backend has neither\n" +
        'hint: set train.precision to "auto", which takes bf16 where it is quicker, or to "f32"\n',
    });
  });

  it("names what is wrong with a recipe before it does anything", async () => {
    expect(await olmoe([...argv, "--set", "train.step=5", "--set", "seed=-1"])).toEqual({
      code: 1,
      stdout: "",
      stderr:
        `olmoe: ${recipe}: 2 faults\n` +
        "  - seed: -1, expected number to be >=0\n" +
        '  - train.step: unknown key, did you mean "steps"?\n' +
        "hint: see docs/configuration.md for every key\n",
    });
    expect(await olmoe(["train"])).toEqual({
      code: 2,
      stdout: "",
      stderr: "olmoe: missing required argument 'recipe'\nhint: \"olmoe train --help\" shows the usage\n",
    });
  });
});

describe("olmoe quickstart", () => {
  const folder = join(root, "quickstart");
  const quickstart = ["quickstart", "--smoke", "--out", folder, "--backend", "reference"];
  beforeAll(async () => {
    await mkdir(folder);
    await writeSummary(folder, SUMMARY);
  });

  it("says that a run is done, and shows what it came to again", async () => {
    expect(await olmoe(quickstart)).toEqual({
      code: 0,
      stdout: PRINTED,
      stderr: `quickstart-smoke: done already, in ${folder}; remove that folder to start over\n`,
    });
    const { code, stdout } = await olmoe([...quickstart, "--json"]);
    expect({ code, summary: JSON.parse(stdout) }).toEqual({ code: 0, summary: SUMMARY });
  });
});
