/** Writes the report of a finished run: report.html, the experts' heat map as a picture, and summary.json. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Backend } from "../backend/backend.ts";
import type { Recipe } from "../config/recipe.ts";
import { openTrace } from "../formats/trace.io.ts";
import { LocalEngine } from "../infer/localEngine.ts";
import { TextGeneration } from "../infer/textGeneration.ts";
import { htmlReport } from "../report/html.ts";
import { renderPng, renderSvg } from "../report/render.io.ts";
import { readMetrics } from "../train/metrics.io.ts";
import type { TrainOutcome } from "../train/run.io.ts";
import { heldOutTraces } from "../train/traces.io.ts";
import { replaceFile } from "../util/files.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { compareWithBaselines } from "./baselines.io.ts";
import { expertChart, expertSentences, runReport, trainingSeconds } from "./runReport.ts";
import { describeTest, type RunRouting, runRouting } from "./runRouting.ts";
import { type RunSummary, type Sample, writeSummary } from "./summary.io.ts";

export interface ReportOptions {
  readonly backend: Backend;
  readonly recipe: Recipe;
  /** The run's folder. */
  readonly directory: string;
  /** Of a run that is done. */
  readonly outcome: TrainOutcome;
  readonly signal?: AbortSignal | undefined;
}

const PROMPT_CHARS = 120;
const SAMPLE_TOKENS = 120;
const PICTURE_WIDTH = 1800;

/** Start of a document, a few words that take at most half of the model's context. */
async function promptOf(text: string, { decoder, data: { tokenizer } }: TrainOutcome): Promise<string> {
  const ids = await tokenizer.encode([...text].slice(0, PROMPT_CHARS).join(""));
  const start = tokenizer.decode(ids.subarray(0, decoder.config.maxPositionEmbeddings / 2));
  // Ends between words, so that the model does not have to guess half of one.
  return start.replace(/\uFFFD+$/, "").replace(/(?<=\S)\s\S*$/, "");
}

/** Continues the start of a held-out document of each source. The same seed gives the same text; none can be had of a
 * model whose experts choose their tokens. */
async function writeSamples({ backend, outcome, recipe, signal }: ReportOptions): Promise<Sample[]> {
  const { decoder, data, heldOut } = outcome;
  const samples: Sample[] = [];
  if (decoder.config.routing === "expert_choice") return samples;
  const engine = new LocalEngine(backend, decoder, { cacheType: "f32" });
  try {
    for (const { source, documents } of heldOut) {
      const document = documents.find(({ text }) => text.length > 2 * PROMPT_CHARS) ?? documents[0];
      const prompt = await promptOf(document?.text ?? "", outcome);
      const generation = new TextGeneration({ engine, tokenizer: data.tokenizer }, prompt, {
        maxTokens: Math.min(SAMPLE_TOKENS, Math.floor(decoder.config.maxPositionEmbeddings / 2)),
        temperature: 0.8,
        topP: 0.95,
        seed: recipe.seed,
        signal,
      });
      samples.push({ source, prompt, text: (await generation.result).text });
    }
  } finally {
    await engine.close();
  }
  return samples;
}

/** What the traces of held-out text say, the newest of which is the finished model's; undefined where there are none. */
async function routingOf({ directory, recipe, signal }: ReportOptions): Promise<RunRouting | undefined> {
  const paths = await heldOutTraces(directory);
  const traces = await Promise.all(paths.map((path) => openTrace(path)));
  try {
    return traces.length === 0 ? undefined : await runRouting(traces, { seed: recipe.seed, signal });
  } finally {
    for (const trace of traces) await trace.close();
  }
}

/**
 * Compares a finished run with its baselines, lets the model write, draws and writes everything.
 * @throws ResourceError when a file can not be written; the signal's reason when it is aborted.
 */
export async function writeRunReport(options: ReportOptions): Promise<RunSummary> {
  const { backend, recipe, directory, outcome, signal } = options;
  const { evaluation, checkpoint, decoder } = outcome;
  if (evaluation === undefined || checkpoint === undefined) throw new Error("internal: the run is not done");
  const comparison = await compareWithBaselines(backend, outcome, evaluation, recipe, signal);
  const samples = await writeSamples(options);
  const metrics = await readMetrics(join(directory, "metrics.jsonl"));
  const routing = await routingOf(options);
  const facts = {
    recipe,
    config: decoder.config,
    metrics,
    evaluation,
    comparison,
    samples,
    routing,
    machine: `${backend.name} ${backend.isa}, ${backend.threads} ${backend.threads === 1 ? "thread" : "threads"}`,
    checkpoint: shownPath(checkpoint),
  };
  await mkdir(directory, { recursive: true });
  const report = join(directory, "report.html");
  const html = htmlReport(await runReport(facts, renderSvg));
  await replaceFile(report, (file) => file.writeFile(html));
  const chart = expertChart(evaluation, decoder.config);
  const picture = chart === undefined ? undefined : join(directory, "experts.png");
  if (chart !== undefined && picture !== undefined) {
    const svg = await renderSvg(chart);
    await replaceFile(join(directory, "experts.svg"), (file) => file.writeFile(svg));
    await replaceFile(picture, (file) => file.writeFile(renderPng(svg, { width: PICTURE_WIDTH })));
  }
  const summary: RunSummary = {
    name: recipe.name,
    sources: evaluation.sources.map(({ source }) => source),
    comparison,
    samples,
    experts: [
      ...expertSentences(evaluation, decoder.config),
      ...(routing?.test === undefined ? [] : [describeTest(routing.test)]),
    ],
    trainingSeconds: trainingSeconds(metrics),
    tokens: outcome.tokens,
    checkpoint,
    report,
    ...(picture === undefined ? {} : { picture }),
  };
  await writeSummary(directory, summary);
  return summary;
}
