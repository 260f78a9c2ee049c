import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { printable } from "../../src/cli/generationOptions.ts";
import { olmoe, startOlmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const model = join(root, "model");
const reference = ["--backend", "reference", "--cache-type", "f32"];
const TEXT = "the cat sat on the mat. the rat sat on the hat, while the dog ran to the cat";
const inputs = [`cats=${join(root, "cats.txt")}`, `dogs=${join(root, "dogs")}`];

beforeAll(async () => {
  await writeTinyModel(model);
  await writeFile(join(root, "cats.txt"), TEXT);
  await mkdir(join(root, "dogs"));
  await writeFile(join(root, "dogs", "a.txt"), "the dog ran to the hat");
  await writeFile(join(root, "dogs", "b.txt"), "while the dog sat on the cat");
});

const at = (name: string) => join(root, name);
const ablate = (out: string, ...args: readonly string[]) =>
  olmoe(["ablate", model, ...inputs, "--out", at(out), "--context", "16", ...reference, ...args]);

/** The loss of a kind of text by `olmoe score`, in pieces as they are ablated. */
async function lossOf(interventions: readonly object[]): Promise<number> {
  const file = at("mask.json");
  await writeFile(file, JSON.stringify({ interventions }));
  const lines = "the dog ran to the hat\nwhile the dog sat on the cat";
  const { stdout } = await olmoe(["score", model, "--json", "--intervene", file, ...reference], lines);
  const texts: { logprob: number; tokens: number }[] = JSON.parse(stdout).texts;
  return -texts.reduce((sum, { logprob }) => sum + logprob, 0) / texts.reduce((sum, { tokens }) => sum + tokens, 0);
}

describe("olmoe ablate", () => {
  it("measures what each expert is worth, as scores under a mask say", async () => {
    const { code, stdout, stderr } = await ablate("some", "--layers", "1", "--experts", "0,2-3", "--json");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ resamples: 1000, seed: 0, model });
    expect(result.domains.map(({ domain }: { domain: string }) => domain)).toEqual(["cats", "dogs"]);
    expect(result.experts.map(({ layer, expert }: never) => [layer, expert])).toEqual([
      [1, 0],
      [1, 2],
      [1, 3],
    ]);
    const base = await lossOf([]);
    expect(result.domains[1].loss).toBeCloseTo(base, 5);
    for (const { layer, expert, domains, all } of result.experts) {
      const masked = await lossOf([{ kind: "mask", layers: [layer], experts: [expert] }]);
      expect(domains[1].change).toBeCloseTo(masked - base, 5);
      const [low, high] = domains[1].interval;
      expect([low <= domains[1].change, domains[1].change <= high]).toEqual([true, true]);
      const { tokens, domains: kinds } = result;
      const mean = kinds.reduce(
        (sum: number, one: { tokens: number }, i: number) => sum + one.tokens * domains[i].change,
        0,
      );
      expect(all.change).toBeCloseTo(mean / tokens, 10);
    }
    expect((await readdir(at("some"))).sort()).toEqual([
      "ablation.csv",
      "ablation.json",
      "ablation.png",
      "ablation.svg",
      "measured.jsonl",
    ]);
    expect(JSON.parse(await readFile(join(at("some"), "ablation.json"), "utf8"))).toEqual(result);
    expect(await readFile(join(at("some"), "ablation.svg"), "utf8")).toContain("nats per token");
  });

  it("goes on where an interrupted one stopped, to the same result", async () => {
    const whole = await ablate("whole", "--json");
    const log = await readFile(join(at("whole"), "measured.jsonl"), "utf8");
    await mkdir(at("part"));
    await writeFile(join(at("part"), "measured.jsonl"), log.slice(0, log.indexOf("\n", log.length / 3) + 20));
    const rest = await ablate("part", "--json");
    expect(rest.stdout).toBe(whole.stdout);
    expect(rest.stderr).toMatch(/measured\.jsonl: \d+ of 16 experts are measured already\n$/);
    expect(await readFile(join(at("part"), "measured.jsonl"), "utf8")).toBe(log);
    const again = await ablate("whole");
    expect(again.stderr).toMatch(/16 of 16 experts are measured already\n.*whole: 16 experts; /);
    const lines = again.stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^layer +expert +all text +cats +dogs$/);
    expect(lines.slice(1, 3).map((line) => line.split(/ +/)[0])).toEqual(["tokens", "loss"]);
    expect([lines.length, lines[13]]).toEqual([3 + 10 + 1 + 3, "..."]);
    const changes = lines.slice(3, 13).map((line) => Number(/[+-]\d\.\d+/.exec(line)?.[0]));
    expect(changes).toEqual([...changes].sort((a, b) => b - a));
  });

  it("keeps what it has measured when it is interrupted", async () => {
    const long = at("long-cats.txt");
    await writeFile(long, `${TEXT}\n`.repeat(8));
    const args = (out: string) => ["ablate", model, long, "--layers", "0", "--out", at(out), "--json", ...reference];
    const child = startOlmoe(args("cut"));
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    const measured = async () =>
      (await readFile(join(at("cut"), "measured.jsonl"), "utf8").catch(() => "")).split("\n").length - 1;
    while ((await measured()) < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect((await measured()) < 10).toBe(true);
    const rest = await olmoe(args("cut"));
    expect(rest.stderr).toMatch(/measured\.jsonl: [1-7] of 8 experts are measured already\n$/);
    expect(rest.stdout).toBe((await olmoe(args("uncut"))).stdout);
  });

  it("refuses what there is not, and results of something else unless it is forced", async () => {
    const fault = async (...args: readonly string[]) => {
      const { code, stdout, stderr } = await ablate("whole", ...args);
      return { code, stdout, fault: stderr.split("\n")[0]?.replaceAll(root, "") };
    };
    expect(await fault("--layers", "0,7", "--experts", "9")).toEqual({
      code: 1,
      stdout: "",
      fault: "olmoe: ablate: 2 faults",
    });
    expect(await fault("--layers", "a")).toEqual({
      code: 2,
      stdout: "",
      fault: 'olmoe: --layers: "a", expected numbers with commas, such as 0,2,5-7',
    });
    expect((await fault("--max-tokens", "9")).fault).toMatch(
      /^olmoe: \/whole\/measured\.jsonl: it is of another text \(/,
    );
    expect((await fault("--max-tokens", "9", "--force", "--experts", "1")).code).toBe(0);
    const file = await ablate("cats.txt", "--layers", "0");
    expect([file.code, file.stdout, file.stderr.replaceAll(root, "")]).toEqual([
      1,
      "",
      "olmoe: write /cats.txt: EEXIST: file already exists, mkdir '/cats.txt'\nhint: check the path and the disk\n",
    ]);
    const { stderr } = await olmoe(["ablate", model, "--out", at("none"), ...reference]);
    expect(stderr.replaceAll(root, "")).toBe(
      "olmoe: ablate: no inputs, and /model is not from a training run with held-out text\n" +
        "hint: name files or folders to read after the model\n",
    );
  });
});

describe("olmoe steer", () => {
  const sets = ["--towards", at("dogs"), "--away", at("cats.txt")];
  const steer = (...args: readonly string[]) => olmoe(["steer", model, ...args, ...reference]);
  // Long enough for two pieces of 256 tokens.
  const long = at("long.txt");

  it("writes the experts that differ as interventions, measures several strengths and shows what is written", async () => {
    await writeFile(long, TEXT.repeat(12));
    const out = at("steer.json");
    const args = ["--towards", at("dogs"), "--away", long, "--experts", "3", "--strength", "2", "-p", "the"];
    const options = ["--strengths", "0,2,-2", "--new-tokens", "8", "--out", out];
    const { code, stdout, stderr } = await steer(...args, ...options, "--json");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const report = JSON.parse(stdout);
    expect(report.experts.length).toBe(3);
    const differences = report.experts.map(({ difference }: { difference: number }) => Math.abs(difference));
    expect(differences).toEqual([...differences].sort((a, b) => b - a));
    expect(JSON.parse(await readFile(out, "utf8"))).toEqual({ interventions: report.interventions });
    const biased = report.interventions.flatMap(({ layers, experts, value }: never) =>
      (experts as number[]).map((expert) => [(layers as number[])[0], expert, value]),
    );
    const expected = report.experts.map(({ layer, expert, difference }: never) => [
      layer,
      expert,
      2 * Math.sign(difference),
    ]);
    expect(biased.sort()).toEqual(expected.sort());
    expect(report.losses.map(({ strength }: { strength: number }) => strength)).toEqual([0, 2, -2]);
    const [none, plus, minus] = report.losses;
    expect([plus.towards === none.towards, minus.towards === plus.towards]).toEqual([false, false]);
    // The file does what the report says.
    const run = await olmoe([
      "run",
      model,
      "-p",
      "the",
      "--max-tokens",
      "8",
      "--seed",
      "0",
      "--intervene",
      out,
      "--json",
      ...reference,
    ]);
    expect(JSON.parse(run.stdout).text).toBe(report.text.after);
    const shown = await steer(...args, ...options);
    expect(shown.stdout).toMatch(/^layer +expert +towards +away +difference +z\n/);
    expect(shown.stdout).toMatch(/\nstrength +loss towards +loss away\n/);
    expect(shown.stdout).toContain(`\nbefore:\nthe${printable(report.text.before)}\n`);
    expect(shown.stderr).toMatch(/^interventions in .*steer\.json; seed 0; /);
  });

  it("refuses sets that are too small, and sets that are the same", async () => {
    const { code, stderr } = await steer(...sets);
    expect([code, stderr]).toEqual([
      1,
      "olmoe: --away: 1 documents or pieces of 256 tokens, expected at least 2\n" +
        "hint: one half decides which experts differ, the other is measured: name more text\n",
    ]);
    const same = await steer("--towards", at("dogs"), "--away", at("dogs"));
    expect([same.code, same.stderr]).toEqual([
      1,
      "olmoe: steer: both sets use all experts alike, there is nothing to lean on\n",
    ]);
  });
});
