import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { DataError } from "../errors.ts";
import { ablationResult, withoutExpert } from "./ablation.ts";
import { AblationLog, ablationRecipe } from "./ablationLog.io.ts";
import { ablationChart, ablationCsv } from "./ablationReport.ts";
import { lossesUnder } from "./losses.ts";
import type { Sequence } from "./recordTrace.ts";

const sequence = (source: string, length: number): Sequence => ({ source, ids: new Int32Array(length) });
/** Of 2, 3, 1 and 4 scored tokens. */
const SEQUENCES = [sequence("cats", 3), sequence("dogs", 4), sequence("cats", 2), sequence("dogs", 5)];
const BASELINE = [4, 6, 2, 8];
const ABLATIONS = [
  { layer: 0, expert: 1, nats: [6, 6, 3, 8] },
  { layer: 2, expert: 0, nats: [4, 9, 2, 4] },
];

describe("the result of an ablation", () => {
  it("is the change of nats over tokens, per domain and over all", () => {
    expect(ablationResult(SEQUENCES, BASELINE, ABLATIONS, { resamples: 0 })).toEqual({
      domains: [
        { domain: "cats", sequences: 2, tokens: 3, loss: 2 },
        { domain: "dogs", sequences: 2, tokens: 7, loss: 2 },
      ],
      loss: 2,
      tokens: 10,
      experts: [
        {
          layer: 0,
          expert: 1,
          domains: [
            { change: 1, interval: null },
            { change: 0, interval: null },
          ],
          all: { change: 0.3, interval: null },
        },
        {
          layer: 2,
          expert: 0,
          domains: [
            { change: 0, interval: null },
            { change: -1 / 7, interval: null },
          ],
          all: { change: -0.1, interval: null },
        },
      ],
    });
  });

  it("has intervals of resampled sequences, from the lowest to the highest that there can be of two", () => {
    const result = ablationResult(SEQUENCES, BASELINE, ABLATIONS, { resamples: 400, seed: 1 });
    // Both sequences of the cats change by 1 a token; those of the dogs by 3 / 3 and -4 / 4.
    expect(result.experts.map(({ domains }) => domains.map(({ interval }) => interval))).toEqual([
      [
        [1, 1],
        [0, 0],
      ],
      [
        [0, 0],
        [-1, 1],
      ],
    ]);
    expect(ablationResult(SEQUENCES, BASELINE, ABLATIONS, { resamples: 400, seed: 1 })).toEqual(result);
  });

  it("is a table with a line for each expert and domain, and a picture with a panel for each", () => {
    const result = ablationResult(SEQUENCES, BASELINE, ABLATIONS, { resamples: 0 });
    expect(ablationCsv(result).split("\n")).toEqual([
      "layer,expert,domain,tokens,loss,change,low,high",
      "0,1,cats,3,3,1,,",
      "0,1,dogs,7,2,0,,",
      "0,1,all,10,2.3,0.3,,",
      "2,0,cats,3,2,0,,",
      `2,0,dogs,7,${2 - 1 / 7},${-1 / 7},,`,
      "2,0,all,10,1.9,-0.1,,",
      "",
    ]);
    const panels = (
      ablationChart(result, "it") as { vconcat: { title: { text: string }; data: { values: object[] } }[] }
    ).vconcat;
    expect(panels.map(({ title }) => title.text)).toEqual(["All text", "cats", "dogs"]);
    // What was not measured is a gap.
    expect(panels[1]?.data.values).toEqual([
      { row: "0", column: "0", value: null },
      { row: "0", column: "1", value: 1 },
      { row: "2", column: "0", value: 0 },
      { row: "2", column: "1", value: null },
    ]);
    const one = ablationResult([sequence("cats", 3)], [4], [{ layer: 0, expert: 1, nats: [5] }]);
    expect(one.experts[0]).toEqual({
      layer: 0,
      expert: 1,
      domains: [{ change: 0.5, interval: null }],
      all: { change: 0.5, interval: null },
    });
    expect(ablationCsv(one)).toBe("layer,expert,domain,tokens,loss,change,low,high\n0,1,cats,2,2.5,0.5,,\n");
  });
});

describe("lossesUnder", () => {
  const sequences = Array.from({ length: 5 }, (_, index) => sequence("a", index + 2));
  const variants = [undefined, ...Array.from({ length: 9 }, (_, expert) => withoutExpert({ layer: 0, expert }))];

  it("gives the sums of each variant in order, with a bounded number of sequences at work", async () => {
    let [running, most] = [0, 0];
    const engine = {
      logprobs: async (ids: ArrayLike<number>, { interventions }: { interventions?: unknown } = {}) => {
        most = Math.max(most, ++running);
        for (let turns = 0; turns < (ids.length * 7) % 5; turns++)
          await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        const place = variants.findIndex((one) => JSON.stringify(one) === JSON.stringify(interventions));
        return new Float32Array(ids.length - 1).fill(-place);
      },
    };
    const found: Float64Array[] = [];
    for await (const nats of lossesUnder(engine, sequences, variants)) found.push(nats);
    expect(found).toEqual(
      variants.map((_, place) => Float64Array.of(place, 2 * place, 3 * place, 4 * place, 5 * place)),
    );
    expect([most > 8, most <= 16]).toEqual([true, true]);
  });

  it("leaves no failure without a handler while its caller is busy", async () => {
    const controller = new AbortController();
    const { signal } = controller;
    let asked = 0;
    const engine = {
      logprobs: (ids: ArrayLike<number>) => {
        if (asked++ < 10) return Promise.resolve(new Float32Array(ids.length - 1));
        return new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
    };
    const losses = lossesUnder(engine, sequences, variants, signal);
    await losses.next();
    controller.abort(new Error("stop"));
    // Longer than Node waits with an unhandled rejection, which would fail the test.
    await new Promise((resolve) => setTimeout(resolve, 5));
    await expect(losses.next()).rejects.toThrow("stop");
  });

  it("fails with the first failure, and with the signal's reason", async () => {
    const engine = { logprobs: async () => Promise.reject(new Error("no")) };
    await expect(lossesUnder(engine, sequences, variants).next()).rejects.toThrow("no");
    const signal = AbortSignal.abort(new Error("stop"));
    await expect(lossesUnder(engine, sequences, variants, signal).next()).rejects.toThrow("stop");
  });
});

describe("what has been measured", async () => {
  const folder = await mkdtemp(join(tmpdir(), "olmoe-ablation-"));
  afterAll(() => rm(folder, { recursive: true }));
  const recipe = ablationRecipe("m1", SEQUENCES);
  const hint = "choose another --out, or begin anew with --force";
  let logs = 0;
  const written = async (content: string) => {
    const path = join(folder, `${logs++}.jsonl`);
    await writeFile(path, content);
    return path;
  };
  const head = `${JSON.stringify(recipe)}\n`;
  const baseline = '{"baseline":[4,6,2,8]}\n';
  const first = '{"layer":0,"expert":1,"nats":[6,6,3,8]}\n';

  it("is there again when the log is opened again, without a line that was cut off", async () => {
    const path = join(folder, "log.jsonl");
    const log = await AblationLog.open(path, recipe);
    await log.addBaseline(Float64Array.from(BASELINE));
    for (const ablation of ABLATIONS) await log.add({ ...ablation, nats: Float64Array.from(ablation.nats) });
    const whole = await readFile(path, "utf8");
    expect(whole).toBe(`${head}${baseline}${first}{"layer":2,"expert":0,"nats":[4,9,2,4]}\n`);
    await writeFile(path, whole.slice(0, -5));
    const again = await AblationLog.open(path, recipe);
    expect([again.baseline, again.ablations]).toEqual([BASELINE, [ABLATIONS[0]]]);
    expect([again.has({ layer: 0, expert: 1 }), again.has({ layer: 2, expert: 0 })]).toEqual([true, false]);
    expect(await readFile(path, "utf8")).toBe(`${head}${baseline}${first}`);
  });

  it.each<[string, string]>([
    [`${JSON.stringify({ ...recipe, model: "m2" })}\n`, "it is of another model (m2, expected m1)"],
    [`${JSON.stringify({ ...recipe, text: "t" })}\n`, `it is of another text (t, expected ${recipe.text})`],
    ["a\n", "line 1 is not valid JSON"],
    ["[1]\n", "line 1 is not the head of an ablation"],
    [`${head}${first}`, "line 2 is not what it should be"],
    [`${head}${baseline}{"layer":0}\n`, "line 3 is not what it should be"],
    [`${head}${baseline}{"layer":0,"expert":1,"nats":[6,6]}\n`, "line 3 is not what it should be"],
  ])("is refused where it is of something else or damaged (%#)", async (content, fault) => {
    const path = await written(content);
    await expect(AblationLog.open(path, recipe)).rejects.toThrow(new DataError(`${path}: ${fault}`, { hint }));
    expect(await readFile(path, "utf8")).toBe(content);
  });

  it("is told by its texts: other tokens or names are another recipe", () => {
    const texts = [SEQUENCES, SEQUENCES.slice(1), [sequence("cat", 3), ...SEQUENCES.slice(1)], [sequence("cats", 2)]];
    expect(new Set(texts.map((list) => ablationRecipe("m1", list).text)).size).toBe(4);
  });
});
