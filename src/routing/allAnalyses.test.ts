/** All analyses at once, their figures, tables and sentences. */
import { describe, expect, it } from "vitest";
import { type RunOfTokens, traceOf } from "../../test/routingTraces.ts";
import { renderSvg } from "../report/render.io.ts";
import { ANALYSES, type AnalysisName, analyseTraces } from "./allAnalyses.ts";
import { analyse } from "./analysis.ts";
import { figureLayers, figuresOf } from "./figures.ts";
import type { RoutingResult } from "./results.ts";
import { layersText, routingReport } from "./routingReport.ts";
import { csvOf, headlineOf, resultName, tableOf } from "./tables.ts";
import { vocabularySpecialisation } from "./vocabulary.ts";

/** Two domains, layers 0 and 3, four experts of which a token has two. */
function named(name: string, shift = 0, step?: number) {
  const run = (sequence: number, source: number): RunOfTokens => ({
    sequence,
    source,
    tokens: [0, 1, 2, 3].map((id) => {
      const expert = (2 * source + (id % 2) + shift) % 4;
      return {
        id,
        experts: [
          [expert, (expert + 1) % 4],
          [source, 2],
        ],
        weights: [
          [0.5, 0.25],
          [0.75, 0.125],
        ],
      };
    }),
  });
  const shape = { numExperts: 4, slots: 2, layers: [0, 3], sources: ["code", 'a "b", c'] };
  const runs = [run(0, 0), run(1, 1), run(2, 0), run(3, 1)];
  return { name, trace: traceOf([runs], { ...shape, ...(step === undefined ? {} : { step }) }) };
}

const few = { resamples: 20, seed: 1 };

describe("analyseTraces", () => {
  it("makes every analysis that one trace allows, for the first expert and all", async () => {
    const results = await analyseTraces([named("one")], few);
    expect(results.map((result) => `${resultName(result)} ${layersText(result.layers)} ${result.tokens}`)).toEqual([
      "load-k2 0, 3 16",
      "domains-k1 0, 3 16",
      "domains-k2 0, 3 16",
      "domain-test-k2 0, 3 16",
      "coactivation-k2 0, 3 16",
      "cross-layer-k1 0, 3 16",
      "vocabulary-input-k1 0, 3 16",
      "vocabulary-predicted-k1 0, 3 16",
      "vocabulary-truth-k1 0, 3 12",
      "vocabulary-input-k2 0, 3 16",
      "vocabulary-predicted-k2 0, 3 16",
      "vocabulary-truth-k2 0, 3 12",
      "token-ids-k2 3 16",
      "mass-probabilities 0, 3 16",
    ]);
  });

  it("compares several, and leaves out what k = 1 or one layer can not show", async () => {
    const results = await analyseTraces([named("a", 1), named("b")], { ...few, k: 1, layers: [3] });
    expect(results.map(resultName)).toEqual([
      "load-k1",
      "domains-k1",
      "domain-test-k1",
      "vocabulary-input-k1",
      "vocabulary-predicted-k1",
      "vocabulary-truth-k1",
      "token-ids-k1",
      "mass-probabilities",
      "saturation-k1",
      "churn-k1",
      "load-change-a-b",
    ]);
  });

  it("gives the same for the same seed", async () => {
    expect(await analyseTraces([named("one")], few)).toEqual(await analyseTraces([named("one")], few));
  });

  it("refuses to compare one, and to analyse none", async () => {
    const fault = (work: Promise<unknown>) => work.then(String, (error: Error) => error.message);
    expect([
      await fault(analyseTraces([])),
      await fault(analyseTraces([named("a")], { only: ["load", "churn"] })),
      await fault(analyseTraces([named("a")], { k: 3 })),
    ]).toEqual([
      "analyse: no trace, expected at least 1",
      "churn: 1 trace, expected at least 2",
      "k: 3, expected a whole number from 1 to 2, the experts of a token in the trace",
    ]);
  });
});

describe("figures, tables and sentences", () => {
  it("exist for every analysis, and figures can be drawn", async () => {
    const traces = [named("early", 1, 10), named("middle", 2, 20), named("late", 0, 30)];
    const results = await analyseTraces(traces, few);
    expect([...new Set(results.map(({ analysis }) => analysis))].sort()).toEqual([...ANALYSES].sort());
    const figures = figuresOf(results);
    expect(figures.map(({ name }) => name)).toEqual([
      "saturation",
      "churn",
      "load-k2",
      "load-change-early-late",
      "domains-k1",
      "domains-k2",
      "domain-test-k2",
      "coactivation",
      "cross-layer-k1",
      "vocabulary",
      "vocabulary-experts-k1",
      "vocabulary-experts-k2",
      "token-ids-layer3-k2",
      "mass-probabilities",
    ]);
    for (const { spec, title } of figures) expect(await renderSvg(spec)).toContain(title.slice(0, 12));
    for (const result of results) {
      const { columns, rows } = tableOf(result);
      expect(rows.filter((row) => row.length !== columns.length)).toEqual([]);
    }
  });

  it("say what stands out", async () => {
    const only: readonly AnalysisName[] = ANALYSES.filter((name) => name !== "domain-test");
    const results = await analyseTraces([named("early", 1), named("late")], { resamples: 0, k: 2, only });
    expect(results.map((result) => `${result.analysis}: ${headlineOf(result)}`)).toEqual([
      "load: entropy 75.0 % to 100.0 % of even, busiest expert 2.00 times an even share (layer 3), 1 unused",
      "domains: 100.0 % of code goes to expert 1 of layer 0; uniform 50.0 %",
      "coactivation: 100.0 % of the tokens of expert 0 in layer 3 have expert 2 too",
      "cross-layer: 100.0 % of code goes from expert 1 of layer 0 to 0 of layer 3",
      "vocabulary: input ids: specialisation none by layer, 0 ids",
      "vocabulary: predicted ids: specialisation none by layer, 0 ids",
      "vocabulary: truth ids: specialisation none by layer, 0 ids",
      "token-ids: no ids",
      "mass: the first 2 experts: 50.0 % of the probability by layer",
      "saturation: early: 75.0 % of the first 2 experts of late, by layer 50.0 % to 100.0 %",
      "churn: early to late: 25.0 % of the experts new, 50.0 % of the tokens with another set",
      "load-change: early to late: 0.0 % of the slots moved",
    ]);
  });

  it("write CSV as others read it", async () => {
    const [domains] = await analyseTraces([named("one")], { resamples: 0, only: ["domains"], k: 1, layers: [3] });
    expect(csvOf(tableOf(domains!))).toBe(
      [
        "domain,layer,expert,share,low,high",
        "code,3,0,1,,",
        "code,3,1,0,,",
        "code,3,2,0,,",
        "code,3,3,0,,",
        '"a ""b"", c",3,0,0,,',
        '"a ""b"", c",3,1,1,,',
        '"a ""b"", c",3,2,0,,',
        '"a ""b"", c",3,3,0,,',
        "",
      ].join("\r\n"),
    );
    expect(csvOf({ columns: ["a"], rows: [[Number.NaN], [undefined], ["x\ny"]] })).toBe('a\r\n\r\n\r\n"x\ny"\r\n');
  });

  it("tell intervals in CSV and on the page where there are any", async () => {
    const only: AnalysisName[] = ["coactivation", "cross-layer", "vocabulary", "mass"];
    const results = await analyseTraces([named("one")], { ...few, only, k: 2 });
    const [pairs, paths] = results.map((result) => csvOf(tableOf(result)).split("\r\n"));
    // Of sequences of one source alone three experts are used, with 1, 1/2 and 1/2 or with 0, 0 and 1/2.
    expect(pairs!.slice(0, 4)).toEqual([
      "layer,expert,other,tokens_of_expert,share,low,high",
      `0,all,largest,,0.5,${1 / 6},${5 / 6}`,
      "0,0,0,8,1,,",
      "0,0,1,8,0.5,0,1",
    ]);
    expect(paths!.filter((row) => !row.endsWith(",,"))).toEqual([
      "domain,from_layer,to_layer,from,to,share,low,high",
      "code,0,3,1,0,1,1,1",
      '"a ""b"", c",0,3,3,1,1,1,1',
      "",
    ]);
    const pageOf = (some: readonly RoutingResult[]) =>
      routingReport({ title: "t", lead: "l", results: some, figures: new Map(), vocabulary: new Map() }).sections;
    const captions = (some: readonly RoutingResult[]) =>
      pageOf(some).flatMap(({ body }) => body.flatMap((block) => ("caption" in block ? [block.caption] : [])));
    expect(captions(results)).toEqual([
      "The strongest pairs, k = 2: of the tokens of the first, the share that has the second too; 95 % intervals in brackets",
      "The strongest path of each domain, k = 2; 95 % intervals in brackets",
      "Layer 3, k = 2: input ids whose busiest expert it is, with the share of their tokens that it serves; ids that occur at least 10 times",
      "What the first expert and the first 2 have of the probabilities; 95 % intervals in brackets",
    ]);
    expect(pageOf(results)[0]!.body[2]).toMatchObject({
      rows: [
        [
          "0",
          "0 with 1: 50.0 % (0.0 to 100.0), 0 with 3: 50.0 % (0.0 to 100.0), 1 with 0: 50.0 % (50.0 to 50.0)",
          "50.0 % (16.7 to 83.3)",
        ],
        [
          "3",
          "0 with 2: 100.0 % (100.0 to 100.0), 1 with 2: 100.0 % (100.0 to 100.0), 2 with 0: 50.0 % (0.0 to 100.0)",
          "83.3 % (50.0 to 100.0)",
        ],
      ],
    });
    // Ids of the trace do not occur ten times.
    const words = await analyse(named("one").trace, [
      vocabularySpecialisation({ leastOccurrences: 1, k: 2 }),
      vocabularySpecialisation({ leastOccurrences: 1, k: 1, kind: "truth" }),
    ]);
    expect(pageOf(words)[0]!.body[3]).toEqual({
      kind: "table",
      caption: "Specialisation of ids; 95 % intervals in brackets",
      columns: [
        { name: "layer", align: "right" },
        { name: "input, k = 2", align: "right" },
        { name: "truth, k = 1", align: "right" },
      ],
      // Ids' busiest experts are those of "code", where that has others than the second source.
      rows: [
        ["0", "50.0 % (50.0 to 50.0)", "50.0 % (0.0 to 100.0)"],
        ["3", "100.0 % (100.0 to 100.0)", "50.0 % (0.0 to 100.0)"],
        ["mean", "75.0 % (75.0 to 75.0)", "50.0 % (0.0 to 100.0)"],
      ],
    });
    const none = await analyseTraces([named("one")], { resamples: 0, only, k: 2 });
    expect(captions(none)).toEqual([expect.stringContaining("Layer 3")]);
  });

  it("show few layers of many", () => {
    const sixteen = Array.from({ length: 16 }, (_, layer) => layer);
    expect([figureLayers(sixteen), figureLayers([1, 2, 5]), figureLayers([])]).toEqual([[0, 7, 15], [1, 2, 5], []]);
    expect([layersText(sixteen), layersText([0, 7, 15]), layersText([3])]).toEqual(["0 to 15", "0, 7, 15", "3"]);
  });

  it("draw a trace without a token", async () => {
    const empty = { name: "empty", trace: traceOf([], { numExperts: 4, slots: 2, layers: [0, 1] }) };
    const figures = figuresOf(await analyseTraces([empty], few));
    for (const { spec } of figures) expect(await renderSvg(spec)).toMatch(/^<svg/);
  });
});
