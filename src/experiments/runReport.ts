/** The report of a training run: what it learned, against what, what it writes, and which experts serve what. */
import { moeLayers } from "../config/architecture.ts";
import type { ModelConfig } from "../config/model.ts";
import type { Recipe } from "../config/recipe.ts";
import { isVariant } from "../config/variant.ts";
import { countParameters } from "../model/counts.ts";
import { heatMapGrid, type LineSeries, lineChart } from "../report/charts.ts";
import type { Block, Report } from "../report/html.ts";
import { formatCount, formatDuration } from "../report/text.ts";
import type { Evaluation } from "../train/evaluate.ts";
import type { EvalMetrics, Metrics, TrainMetrics } from "../train/metrics.io.ts";
import { describeLoads, expertLoads } from "./expertLoad.ts";
import { describeMemory, healthCharts } from "./healthCharts.ts";
import { type RunRouting, routingBlocks } from "./runRouting.ts";
import type { Comparison, Sample } from "./summary.io.ts";
import { thinned } from "./thin.ts";

export interface RunFacts {
  readonly recipe: Recipe;
  readonly config: ModelConfig;
  readonly metrics: readonly Metrics[];
  readonly evaluation: Evaluation;
  readonly comparison: readonly Comparison[];
  /** None of a model that can not write: one whose experts choose their tokens. */
  readonly samples: readonly Sample[];
  /** Of a run that recorded traces of held-out text. */
  readonly routing?: RunRouting | undefined;
  /** Backend, instruction set, threads: one line. */
  readonly machine: string;
  /** Newest checkpoint, as it is typed. */
  readonly checkpoint: string;
}

/** Draws a spec; the caller has the renderer. */
export type RenderSvg = (spec: ReturnType<typeof lineChart>) => Promise<string>;

/** Seconds the training steps took. */
export function trainingSeconds(metrics: readonly Metrics[]): number {
  let [seconds, before] = [0, 0];
  for (const line of metrics) {
    if (line.type !== "train") continue;
    seconds += (line.tokens - before) / line.tokens_per_sec;
    before = line.tokens;
  }
  return seconds;
}

/** Loss curves of training and of each source's held-out text. */
export function lossCharts(metrics: readonly Metrics[]): ReturnType<typeof lineChart>[] {
  const train = metrics.filter((line): line is TrainMetrics => line.type === "train");
  const evals = metrics.filter((line): line is EvalMetrics => line.type === "eval");
  const sources = Object.keys(evals[0]?.sources ?? {});
  const held: LineSeries[] = sources.map((source) => ({
    name: source,
    points: evals.map((line) => [line.tokens, line.sources[source]?.bits_per_byte ?? Number.NaN]),
  }));
  return [
    lineChart({
      title: "Training loss",
      xTitle: "tokens",
      yTitle: "nats per token",
      series: [{ name: "training", points: thinned(train.map((line) => [line.tokens, line.cross_entropy])) }],
    }),
    lineChart({ title: "Held-out loss by kind of text", xTitle: "tokens", yTitle: "bits per byte", series: held }),
    lineChart({
      title: "Load-balancing loss",
      subtitle: "1 is perfect balance",
      xTitle: "tokens",
      yTitle: "loss",
      series: [{ name: "balance", points: thinned(train.map((line) => [line.tokens, line.balance_loss])) }],
    }),
  ];
}

/** Held-out text that tells experts apart: experts that choose take as much of every kind. */
function tellingSources({ sources }: Evaluation, { routing }: ModelConfig): Evaluation["sources"] {
  return routing === "expert_choice" ? [] : sources;
}

/** Sentences about the experts of each layer: see `describeLoads`. */
export function expertSentences(evaluation: Evaluation, config: ModelConfig): string[] {
  return describeLoads(tellingSources(evaluation, config), moeLayers(config));
}

/** The heat map of experts by kind of text, one panel a layer; undefined where there is nothing to tell. */
export function expertChart(evaluation: Evaluation, config: ModelConfig): ReturnType<typeof heatMapGrid> | undefined {
  const loads = expertLoads(tellingSources(evaluation, config), moeLayers(config));
  if (loads.length === 0) return undefined;
  return heatMapGrid({
    title: "Which experts serve which kind of text",
    subtitle: "share of a kind's tokens that go to an expert, over an even share; held-out text",
    rows: evaluation.sources.map(({ source }) => source),
    rowTitle: "kind of text",
    columnTitle: "expert",
    legendTitle: "times even share",
    midpoint: 1,
    panels: loads.map(({ layer, experts, relative }) => ({
      title: `Layer ${layer}`,
      columns: experts.map(String),
      values: relative,
    })),
  });
}

function comparisonTable(comparison: readonly Comparison[], sources: readonly string[]): Block {
  return {
    kind: "table",
    caption: "Bits per byte on held-out text: lower is better",
    columns: [{ name: "" }, ...[...sources, "all"].map((name) => ({ name, align: "right" as const }))],
    rows: comparison.map(({ name, bySource, all }) => [name, ...[...bySource, all].map((bits) => bits.toFixed(3))]),
  };
}

/** Stands where a model has written nothing, because its experts choose their tokens. */
const NOT_CAUSAL: Block = {
  kind: "text",
  text:
    "Experts choose their tokens in this model, so that what it makes of a token depends on the text after it. It can not " +
    "write, and its scores are not to be compared with those of models that see the past alone.",
};

function samplesSection(samples: readonly Sample[]): Report["sections"][number] {
  return {
    heading: "What it writes",
    body: samples.map(({ source, prompt, text }): Block => ({ kind: "sample", title: source, prompt, text })),
  };
}

/** Puts the report together. */
export async function runReport(facts: RunFacts, renderSvg: RenderSvg): Promise<Report> {
  const { recipe, config, metrics, evaluation, comparison, samples } = facts;
  const counts = countParameters(config);
  const sources = evaluation.sources.map(({ source }) => source);
  const last = metrics.filter((line) => line.type === "train").at(-1);
  const experts = expertChart(evaluation, config);
  const figure = async (spec: ReturnType<typeof lineChart>, title: string): Promise<Block> => ({
    kind: "figure",
    title,
    svg: await renderSvg(spec),
  });
  const curves = await Promise.all(
    lossCharts(metrics).map((spec, index) =>
      figure(spec, ["Training loss", "Held-out loss by kind of text", "Load-balancing loss"][index] as string),
    ),
  );
  const health = await Promise.all(healthCharts(metrics, config).map(({ title, spec }) => figure(spec, title)));
  const memory: Block[] = [{ kind: "list", items: describeMemory(metrics) }];
  return {
    title: `Training run: ${recipe.name}`,
    lead:
      `A model of ${formatCount(counts.total)} parameters, ${formatCount(counts.active)} of them active for each token, ` +
      `after ${formatCount(last?.tokens ?? 0)} tokens of ${sources.join(", ")}.`,
    sections: [
      {
        heading: "What it learned",
        body: [
          {
            kind: "numbers",
            items: [
              { value: evaluation.bitsPerByte.toFixed(3), label: "bits per byte, held out, all kinds" },
              { value: formatDuration(trainingSeconds(metrics)), label: `training steps, ${facts.machine}` },
              { value: formatCount(last?.tokens ?? 0), label: "training tokens" },
            ],
          },
          comparisonTable(comparison, sources),
          ...(samples.length === 0 ? [NOT_CAUSAL] : []),
          ...curves,
        ],
      },
      ...(experts === undefined
        ? []
        : [
            {
              heading: "Which experts fire",
              body: [
                await figure(experts, "Experts by kind of text"),
                { kind: "list" as const, items: expertSentences(evaluation, config) },
                ...(facts.routing === undefined ? [] : await routingBlocks(facts.routing, renderSvg)),
              ],
            },
          ]),
      ...(health.length === 0 ? [] : [{ heading: "How training went", body: [...health, ...memory] }]),
      ...(samples.length === 0 ? [] : [samplesSection(samples)]),
      {
        heading: "What to try next",
        body: [
          {
            kind: "list",
            items: [
              ...(samples.length === 0 ? [] : [`Let it write: npx olmoe run ${facts.checkpoint} -p "Call me"`]),
              `Look at it: npx olmoe info ${facts.checkpoint}`,
              ...(facts.routing === undefined
                ? []
                : [`See where its tokens go: npx olmoe explore ${facts.checkpoint}`]),
              "Train on your own text: copy recipes/quickstart.yaml, set a source's path, and run npx olmoe train RECIPE",
              "Change one choice of the paper, such as train.loss.balance or model.numExpertsPerTok, and compare the curves",
              ...(isVariant(config)
                ? []
                : [`Load it in transformers: AutoModelForCausalLM.from_pretrained("${facts.checkpoint}")`]),
            ],
          },
        ],
      },
    ],
  };
}
