/** `olmoe analyze`: statistics and figures of routing traces, or of the counts that the paper's authors released. */
import { basename, resolve } from "node:path";
import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import { openTrace } from "../formats/trace.io.ts";
import { formatCount, formatDuration, formatRate, table } from "../report/text.ts";
import { ANALYSES, type AnalysisName, analyseTraces } from "../routing/allAnalyses.ts";
import type { AnalysisProgress } from "../routing/analysis.ts";
import type { NamedTrace } from "../routing/compare.ts";
import { readReleasedCounts } from "../routing/released.io.ts";
import { ID_MODEL } from "../routing/released.ts";
import { analyseReleased } from "../routing/releasedResults.ts";
import type { RoutingResult } from "../routing/results.ts";
import { layersText } from "../routing/routingReport.ts";
import { headlineOf } from "../routing/tables.ts";
import { writeResults } from "../routing/writeResults.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { numberList, type Session, wholeNumber, writeJson } from "./common.ts";
import { ProgressLine } from "./progressLine.ts";

interface AnalyzeFlags {
  readonly out: string;
  readonly only?: readonly AnalysisName[];
  readonly k?: number;
  readonly layers?: readonly number[];
  readonly seed: number;
  readonly counts?: string;
  readonly model: string;
  readonly json?: boolean;
}

const HELP = `
Analyses: ${ANALYSES.slice(0, 6).join(", ")},
${ANALYSES.slice(6).join(", ")}.
Of several traces the last is analysed, and all are compared in the order given: saturation and churn
need traces of one text, load-change compares the first with the last. The folder gets the numbers as
JSON and CSV, the figures as SVG and PNG, and report.html with everything and all definitions.

--counts takes a folder of what the paper's authors counted instead of traces:
  expert_counts.json           models.NAME.{num_experts, top_k, topk, top1}, and in topk and top1
                               DOMAIN.{tokens, counts[layer][expert]}; layers
  crosslayer_counts.json       models.NAME.{num_experts, topk, top1}, and in these
                               DOMAIN[pair of layers][expert][expert]; layer_pairs
  eid2token_DOMAIN.json.gz     experts[layer][expert] = [ids, counts], of olmoe's top_k; layers
  top_tokens_per_expert.json   domains.DOMAIN[layer][expert].top = [[id, text, ...], ...]
The last three may be missing.

Examples:
  $ olmoe analyze held-out.trace --out routing
  $ olmoe analyze step100.trace step200.trace final.trace --out saturation --only saturation,churn
  $ olmoe analyze --counts routing-counts --out paper`;

function nameList(text: string): AnalysisName[] {
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !(ANALYSES as readonly string[]).includes(name));
  if (unknown !== undefined) throw new UsageError(`--only: "${unknown}", expected some of ${ANALYSES.join(", ")}`);
  return ANALYSES.filter((name) => names.includes(name));
}

export function register(command: Command, session: Session): void {
  command
    .argument("[traces...]", "files of olmoe trace, olmoe run and others; checkpoints from the first to the final one")
    .requiredOption("-o, --out <folder>", "folder for numbers, figures and report.html")
    .option("--only <names>", "analyses to make, with commas (default: all that the traces allow)", nameList)
    .option(
      "--k <count>",
      "experts of each token to count (default: 1 and all, where the paper has both)",
      wholeNumber("--k", 1),
    )
    .option("--layers <numbers>", "layers to count, such as 0,7-9 (default: all)", numberList("--layers"))
    .option("--seed <number>", "of intervals and shuffles", wholeNumber("--seed", 0), 0)
    .option("--counts <folder>", "released counts, instead of traces")
    .option("--model <name>", "of the released counts", ID_MODEL)
    .option("--json", "print the results for programs")
    .addHelpText("after", HELP)
    .action((traces: string[], flags: AnalyzeFlags) => analyze(traces, flags, session));
}

interface Analysed {
  readonly lead: string;
  readonly results: readonly RoutingResult[];
  readonly vocabulary: ReadonlyMap<number, string>;
}

async function analyze(paths: readonly string[], flags: AnalyzeFlags, session: Session): Promise<void> {
  if ((flags.counts === undefined) === (paths.length === 0)) {
    const given = flags.counts === undefined ? "no trace" : "both traces and --counts";
    throw new UsageError(`analyze: ${given}, expected traces, or a folder of counts after --counts`);
  }
  const line = new ProgressLine(session);
  try {
    const { lead, results, vocabulary } =
      flags.counts === undefined
        ? await ofTraces(paths, flags, session, line)
        : await ofCounts(flags.counts, flags, session);
    if (results.length === 0) {
      throw new UsageError(`--only: ${flags.only?.join(", ")} of ${layersAndK(flags)} shows nothing`, {
        hint: "co-activation needs k above 1, cross-layer routing at least two layers",
      });
    }
    const written = await writeResults(resolve(flags.out), results, {
      title: "Routing analysis",
      lead,
      vocabulary,
      signal: session.signal,
      onProgress: (done, of) => line.show(done / of, `figure ${done} of ${of}`),
    });
    line.stop();
    if (flags.json) writeJson(session, results);
    else printResults(results, session);
    session.stderr.write(`report  ${shownPath(written[0]!)}  (and ${written.length - 1} files beside it)\n`);
  } finally {
    line.stop();
  }
}

function layersAndK({ k, layers }: AnalyzeFlags): string {
  return `k ${k ?? "as it is"} and layers ${layers?.join(", ") ?? "as they are"}`;
}

async function ofTraces(
  paths: readonly string[],
  { only, k, layers, seed }: AnalyzeFlags,
  { signal }: Session,
  line: ProgressLine,
): Promise<Analysed> {
  const opened = [];
  try {
    for (const path of paths) opened.push(await openTrace(path));
    const names = namesOf(paths);
    const traces: NamedTrace[] = opened.map((trace, index) => ({ name: names[index]!, trace }));
    const results = await analyseTraces(traces, { only, k, layers, seed, signal, onProgress: progressOf(line) });
    const last = traces.at(-1)!;
    const sources = last.trace.sources.join(", ");
    return {
      lead: `${formatCount(last.trace.tokens)} tokens of ${sources}, routed by ${last.trace.header.model.name} (${last.name})${names.length === 1 ? "" : `, compared with ${names.slice(0, -1).join(", ")}`}.`,
      results,
      vocabulary: last.trace.vocabulary,
    };
  } finally {
    for (const trace of opened) await trace.close();
  }
}

/** Files by their names where these differ, else by their paths. */
function namesOf(paths: readonly string[]): string[] {
  const names = paths.map((path) => basename(path).replace(/\.trace$/, ""));
  return new Set(names).size === names.length ? names : [...paths];
}

/** Each pass over traces starts anew. */
function progressOf(line: ProgressLine) {
  let [start, before] = [performance.now(), 0];
  return ({ tokens, of }: AnalysisProgress) => {
    if (tokens < before) start = performance.now();
    before = tokens;
    const seconds = Math.max((performance.now() - start) / 1000, 1e-3);
    const rate = tokens / seconds;
    line.show(
      tokens / Math.max(1, of),
      `${formatCount(tokens)} tokens, ${formatRate(rate, "tokens")}, ${formatDuration((of - tokens) / rate)} left`,
    );
  };
}

async function ofCounts(folder: string, flags: AnalyzeFlags, { signal }: Session): Promise<Analysed> {
  if (flags.layers !== undefined) throw new UsageError("--layers: not for --counts, whose layers are what they are");
  const { model, only, k } = flags;
  const counts = await readReleasedCounts(folder, signal);
  return {
    lead: `The counts that the paper's authors released for ${model}, through the statistics of this package.`,
    results: analyseReleased(counts, model, { only, k }),
    vocabulary: counts.vocabulary,
  };
}

function printResults(results: readonly RoutingResult[], { stdout }: Session): void {
  const rows = results.map((result) => [
    result.analysis,
    String(result.k),
    layersText(result.layers),
    formatCount(result.tokens),
    headlineOf(result),
  ]);
  const align = ["left", "right", "left", "right", "left"] as const;
  stdout.write(`${table([["analysis", "k", "layers", "tokens", "what stands out"], ...rows], { align })}\n`);
  const definitions = new Map(results.map(({ analysis, definition }) => [definition, analysis]));
  stdout.write(`\n${Array.from(definitions, ([definition, analysis]) => `${analysis}: ${definition}`).join("\n")}\n`);
}
