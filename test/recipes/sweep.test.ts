/** A whole sweep on the command line: runs, resumes, fails in part, and reports. */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { openBackend } from "../../src/backend/io.ts";
import { readSweep } from "../../src/config/sweep.io.ts";
import { runSweep, type SweepEvent } from "../../src/experiments/sweep.io.ts";
import { olmoe, temporaryFolder } from "../cli/harness.ts";
import { tinyRecipe } from "../tinyRecipe.ts";
import { writeTexts } from "../tinyRun.ts";

const root = await temporaryFolder();
const at = (...path: string[]) => join(root, ...path);
const file = at("sweep.yaml");
const out = at("runs");

const RUNS = [
  { name: "moe", set: {} },
  { name: "dense", set: { "model.mlpType": "dense", "model.numExperts": 1, "model.numExpertsPerTok": 1 } },
];

function writeSweep(changes: object = {}): void {
  const set = { "train.steps": 6, "train.evalEvery": 2, "train.evalTokens": 1e6 };
  writeFileSync(file, stringify({ name: "twins", base: "base.yaml", set, runs: RUNS, seeds: [1, 2], ...changes }));
}

const sweep = (...flags: string[]) => olmoe(["sweep", file, "--out", out, "--backend", "reference", ...flags]);
const lines = (text: string) => text.replaceAll(root, "DIR").trimEnd().split("\n");
/** Times and rates as words. */
const steady = (text: string) =>
  lines(text).map((line) => line.replace(/[\d.,]+( k)? tokens\/s/, "RATE").replace(/[\d.]+ (ms|s)$/, "TIME"));

beforeAll(() => {
  writeTexts(root);
  writeFileSync(at("base.yaml"), stringify(tinyRecipe()));
  writeSweep();
});

/** Bits per byte of a run's last evaluation. */
function finalBits(run: string): number {
  const last = readFileSync(join(out, run, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .at(-1);
  return JSON.parse(last ?? "").bits_per_byte;
}

describe("olmoe sweep", () => {
  it("runs every variant with every seed, on data that is prepared once, and compares them", async () => {
    const { code, stdout, stderr } = await sweep();
    expect({ code, stderr: lines(stderr).filter((line) => line.startsWith("run ")) }).toEqual({
      code: 0,
      stderr: ["moe-seed1", "moe-seed2", "dense-seed1", "dense-seed2"].map(
        (name, index) => `run ${index + 1} of 4, ${name}, starts`,
      ),
    });
    // The text is read for the first run only.
    expect(stderr.match(/ {2}reading prose\n/g)?.length).toBe(1);
    expect(readdirSync(join(out, "data")).length).toBe(1);
    const [first = ""] = readFileSync(join(out, "dense-seed2", "metrics.jsonl"), "utf8").split("\n");
    expect(JSON.parse(first)).toMatchObject({ type: "run", name: "dense-seed2" });
    expect(JSON.parse(first).overrides.slice(-2)).toEqual(["model.numExpertsPerTok=1", "seed=2"]);
    const range = (...runs: string[]) => {
      const bits = runs.map(finalBits);
      const mean = (bits[0]! + bits[1]!) / 2;
      return { mean, text: [mean, Math.min(...bits), Math.max(...bits)].map((value) => value.toFixed(4)) };
    };
    const [moe, dense] = [range("moe-seed1", "moe-seed2"), range("dense-seed1", "dense-seed2")];
    const row = ([mean, least, most]: string[]) => `${mean}  ${least} .. ${most}`;
    const table = steady(stdout);
    expect(table.slice(0, 4)).toEqual([
      "",
      "Held-out text, bits per byte (lower is better):",
      "",
      expect.stringMatching(/^ {2}variant {2}parameters {2}active {2}runs {2}tokens each {2}bits per byte {5}least/),
    ]);
    expect(table[4]).toContain(`moe            54 k  35.6 k     2          768         ${row(moe.text)}`);
    expect(table[5]).toContain(`2          768         ${row(dense.text)}`);
    const [better, worse] = moe.mean < dense.mean ? ["moe", "dense"] : ["dense", "moe"];
    const difference = Math.abs(moe.mean - dense.mean).toFixed(4);
    expect(table[7]).toContain(`${better} is ${difference} bits per byte below ${worse}; the ranges of their runs `);
    expect(lines(stdout).slice(-2)).toEqual(["report  DIR/runs/report.html", "chart   DIR/runs/curves.png"]);
  });

  it("writes a page, a chart and a summary", () => {
    const page = readFileSync(join(out, "report.html"), "utf8");
    for (const text of ["Sweep: twins", "2 variants, 4 runs done, on reference typescript, 1 thread.", "dense-seed2"]) {
      expect(page).toContain(text);
    }
    expect(page).toContain("dense: model.mlpType: &quot;dense&quot;, model.numExperts: 1, model.numExpertsPerTok: 1");
    expect(readFileSync(join(out, "curves.svg"), "utf8")).toContain("twins: held-out loss");
    expect(statSync(join(out, "curves.png")).size).toBeGreaterThan(5000);
    const summary = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"));
    const [moe] = summary.variants;
    expect(moe.runs.map(({ name, seed, tokens, bitsPerByte }: never) => [name, seed, tokens, bitsPerByte])).toEqual([
      ["moe-seed1", 1, 768, finalBits("moe-seed1")],
      ["moe-seed2", 2, 768, finalBits("moe-seed2")],
    ]);
    // Steps 2, 4 and the last; all of the same text.
    expect(moe.runs[0].curve.map(([tokens]: [number]) => tokens)).toEqual([256, 512, 768]);
    expect(Object.keys(moe.runs[0].sources)).toEqual(["prose", "code", "list", "number"]);
  });

  it("leaves runs that are done as they are, and gives programs the same result", async () => {
    const before = readFileSync(join(out, "moe-seed1", "metrics.jsonl"), "utf8");
    const { code, stdout, stderr } = await sweep("--json");
    expect(code).toBe(0);
    expect(lines(stderr).slice(1)).toEqual(
      ["moe-seed1", "moe-seed2", "dense-seed1", "dense-seed2"].map(
        (name, index) => `run ${index + 1} of 4, ${name}, is done already`,
      ),
    );
    const { variants, name } = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"));
    expect(JSON.parse(stdout)).toEqual({ name, variants });
    expect(readFileSync(join(out, "moe-seed1", "metrics.jsonl"), "utf8")).toBe(before);
  });

  it("refuses other recipes in the same folder before any of them starts", async () => {
    const { code, stdout, stderr } = await sweep("--set", "train.optimizer.lr=1e-3");
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(lines(stderr).slice(1)).toEqual([
      "olmoe: twins: 4 runs can not be started",
      ...["moe-seed1", "moe-seed2", "dense-seed1", "dense-seed2"].map(
        (name) =>
          `  - run "${name}": DIR/runs/${name} holds a run of another recipe: train.optimizer.lr is 0.001, was 0.005`,
      ),
      "hint: nothing was started: correct the sweep or its base recipe, or choose another folder with --out",
    ]);
  });
});

describe("a sweep with a run that fails", () => {
  const failing = () =>
    writeSweep({
      seeds: [1],
      runs: [{ name: "high", set: { "train.optimizer.lr": 1e39 } }, RUNS[0]],
    });

  it("goes on with the others, reports it, and ends with an error", async () => {
    failing();
    const fails = at("fails");
    const { code, stdout, stderr } = await sweep("--out", fails);
    expect(code).toBe(1);
    const [, fault = ""] = /^ {2}high-seed1: (step 2: loss NaN, .* is not finite)$/m.exec(stderr) ?? [];
    expect(lines(stderr).slice(-2)).toEqual([
      "olmoe: twins: 1 of the runs failed: high-seed1",
      "hint: the messages are above and in report.html; the same command tries them again",
    ]);
    expect(stderr).toContain(`${fault}\n  hint: start again with a lower train.optimizer.lr, `);
    expect(stderr).toContain("\nrun 2 of 2, moe-seed1, starts\n");
    expect(stdout).toMatch(/\n {2}high +- +- +0 of 1 +- +- +- +- +-\n {2}moe +54 k +35\.6 k +1 +768 /);
    expect(readFileSync(join(fails, "report.html"), "utf8")).toContain(`high-seed1: ${fault}`);
    expect(JSON.parse(readFileSync(join(fails, "summary.json"), "utf8")).variants[0]).toEqual({
      name: "high",
      label: "high",
      runs: [],
      failed: [{ name: "high-seed1", error: fault }],
    });
  });

  it("checks all runs before it starts one: patterns and warm starts too", async () => {
    writeSweep({
      seeds: [1],
      runs: [
        RUNS[0],
        { name: "all", set: { "train.freeze": ["*"] } },
        { name: "warm", set: { "train.init.from": "no" } },
      ],
    });
    const { code, stderr } = await sweep("--out", at("refused"));
    expect(code).toBe(1);
    expect(lines(stderr).slice(1)).toEqual([
      "olmoe: twins: 2 runs can not be started",
      '  - run "all-seed1": train.freeze: all 69 tensors match ("*"), nothing is left to train',
      '  - run "warm-seed1": DIR/no: no such folder, looked for config.json in it',
      "hint: nothing was started: correct the sweep or its base recipe, or choose another folder with --out",
    ]);
    expect(existsSync(at("refused"))).toBe(false);
  });

  it("names an empty list and a wrong type before anything is opened", async () => {
    writeSweep({ runs: [] });
    expect(await sweep("--out", at("refused"))).toEqual({
      code: 1,
      stdout: "",
      stderr: `olmoe: ${file}: runs: [], expected array to have >=1 items\nhint: see docs/sweeps.md for every key\n`,
    });
    writeSweep({ set: { "train.steps": "many" }, seeds: [1], runs: [RUNS[0]] });
    expect(await sweep("--out", at("refused"))).toEqual({
      code: 1,
      stdout: "",
      stderr:
        `olmoe: ${file}: run "moe-seed1": train.steps: "many", expected number, received string\n` +
        "hint: nothing was started: correct the sweep or its base recipe, or choose another folder with --out\n",
    });
  });
});

describe("a sweep that is interrupted", () => {
  it("stops with a checkpoint, and goes on to the same bits as one that was not", async () => {
    writeSweep();
    const backend = await openBackend({ backend: "reference" });
    const controller = new AbortController();
    const options = { sweep: await readSweep(file), directory: at("stopped"), cacheDirectory: at("cache"), backend };
    const stop = (event: SweepEvent) => {
      if (event.type !== "train" || event.run.name !== "moe-seed2" || event.event.type !== "step") return;
      if (event.event.metrics.step === 3) controller.abort();
    };
    const stopped = await runSweep({ ...options, signal: controller.signal, onEvent: stop });
    expect({ ...stopped, result: stopped.result.variants.map(({ runs }) => runs.length) }).toEqual({
      status: "interrupted",
      result: [1, 0],
      report: undefined,
      chart: undefined,
    });
    const states: string[] = [];
    const { result } = await runSweep({
      ...options,
      onEvent: (event) => event.type === "run" && states.push(`${event.run.name} ${event.state}`),
    });
    expect(states).toEqual([
      "moe-seed1 is done already",
      "moe-seed2 starts",
      "dense-seed1 starts",
      "dense-seed2 starts",
    ]);
    const whole = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"));
    const bits = (variants: { runs: { bitsPerByte: number }[] }[]) =>
      variants.map(({ runs }) => runs.map(({ bitsPerByte }) => bitsPerByte));
    expect(bits(result.variants as never)).toEqual(bits(whole.variants));
  });

  it("prepares the data again where it is gone, and for each tokenizer once", async () => {
    rmSync(at("stopped", "data"), { recursive: true });
    writeSweep({
      runs: [RUNS[0], { name: "small", set: { "tokenizer.vocabSize": 300 } }],
      set: { "train.steps": 1 },
    });
    const { code, stderr } = await sweep("--out", at("two"));
    expect(code).toBe(0);
    expect(stderr.match(/ {2}making the tokenizer/g)?.length).toBe(2);
    expect(readdirSync(at("two", "data")).length).toBe(2);
  });
});
