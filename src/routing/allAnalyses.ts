/** All analyses of some traces at once: what `olmoe analyze` does, apart from files. */
import { ConfigError } from "../errors.ts";
import { type AnalyseOptions, type Analysis, analyse, chooseK, type LayerOptions } from "./analysis.ts";
import { coactivation } from "./coactivation.ts";
import type { NamedTrace } from "./compare.ts";
import { crossLayerRouting } from "./crossLayer.ts";
import { domainSpecialisation, specialisationTest } from "./domains.ts";
import { type ExpertCounts, expertCounting } from "./expertCounts.ts";
import { figureLayers } from "./figures.ts";
import { loadBalance, loadChange } from "./load.ts";
import { weightMass } from "./mass.ts";
import type { ResampleOptions } from "./resample.ts";
import type { RoutingResult } from "./results.ts";
import { routerSaturation, routingChurn } from "./saturation.ts";
import { tokenIdRouting } from "./tokenIds.ts";
import { ID_KINDS, vocabularySpecialisation } from "./vocabulary.ts";

/** Names of all analyses, in the order of a report. */
export const ANALYSES = [
  "load",
  "domains",
  "domain-test",
  "coactivation",
  "cross-layer",
  "vocabulary",
  "token-ids",
  "mass",
  "saturation",
  "churn",
  "load-change",
] as const satisfies readonly RoutingResult["analysis"][];
export type AnalysisName = (typeof ANALYSES)[number];

/** Those that compare traces of one text with each other, and those that compare any two. */
const OF_ONE_TEXT: readonly AnalysisName[] = ["saturation", "churn"];
const COMPARISONS: readonly AnalysisName[] = [...OF_ONE_TEXT, "load-change"];

export interface AllOptions extends LayerOptions, ResampleOptions, AnalyseOptions {
  /** Default: all that the traces allow. */
  readonly only?: readonly AnalysisName[] | undefined;
}

/**
 * Analyses the last of the traces, and compares all of them in the order given, such as checkpoints from the first to the
 * final one. Where no k is asked for, analyses whose k the paper varies are made for the first expert and for all of a token.
 * @throws ConfigError where traces can not be compared, or comparisons are asked of one trace.
 */
export async function analyseTraces(traces: readonly NamedTrace[], options: AllOptions = {}): Promise<RoutingResult[]> {
  const { only = ANALYSES } = options;
  const last = traces.at(-1);
  if (last === undefined) throw new ConfigError("analyse: no trace, expected at least 1");
  const comparison = options.only?.find((name) => COMPARISONS.includes(name));
  if (comparison !== undefined && traces.length === 1) {
    throw new ConfigError(`${comparison}: 1 trace, expected at least 2`, { hint: "name several traces" });
  }
  const results = await analyse(last.trace, analysesOf(last, options), options);
  return traces.length === 1 ? [...results] : [...results, ...(await comparisonsOf(traces, only, options))];
}

/** First expert, and all of a token; or what is asked for. */
function ksOf({ trace }: NamedTrace, k: number | undefined): number[] {
  return [...new Set(k === undefined ? [1, trace.header.slots] : [chooseK(trace, k)])];
}

// biome-ignore lint/suspicious/noExplicitAny: analyses of different counts.
type AnyAnalysis = Analysis<any, RoutingResult>;

function analysesOf(named: NamedTrace, { k, layers, seed, resamples, only = ANALYSES }: AllOptions): AnyAnalysis[] {
  const { header } = named.trace;
  const ks = ksOf(named, k);
  const all = { k: k ?? header.slots, layers, seed, resamples };
  // The paper follows tokens through three layers, and looks at ids in the last.
  const shown = layers ?? figureLayers(header.layers);
  const kinds = ID_KINDS.filter((kind) => kind !== "predicted" || header.columns.includes("predicted"));
  const of = header.columns.includes("probabilities") ? "probabilities" : "weights";
  const made: Partial<Record<AnalysisName, () => AnyAnalysis[]>> = {
    load: () => [loadBalance(all)],
    domains: () => ks.map((each) => domainSpecialisation({ ...all, k: each })),
    "domain-test": () => [specialisationTest(all)],
    coactivation: () => (all.k > 1 ? [coactivation(all)] : []),
    "cross-layer": () => (shown.length > 1 ? [crossLayerRouting({ ...all, k, layers: shown })] : []),
    vocabulary: () => ks.flatMap((each) => kinds.map((kind) => vocabularySpecialisation({ ...all, k: each, kind }))),
    "token-ids": () => [tokenIdRouting({ k: all.k, layers: shown.slice(-1) })],
    mass: () => [weightMass({ ...all, of })],
  };
  return ANALYSES.filter((name) => only.includes(name)).flatMap((name) => made[name]?.() ?? []);
}

async function comparisonsOf(
  traces: readonly NamedTrace[],
  only: readonly AnalysisName[],
  options: AllOptions,
): Promise<RoutingResult[]> {
  const narrowest = traces.reduce((one, other) => (other.trace.header.slots < one.trace.header.slots ? other : one));
  const ks = OF_ONE_TEXT.some((name) => only.includes(name)) ? ksOf(narrowest, options.k) : [];
  const results: RoutingResult[] = [];
  for (const k of ks) {
    if (only.includes("saturation")) results.push(await routerSaturation(traces, { ...options, k }));
    if (only.includes("churn")) results.push(await routingChurn(traces, { ...options, k }));
  }
  if (only.includes("load-change")) {
    const [before, after] = await Promise.all([traces[0]!, traces.at(-1)!].map((one) => loadOf(one, options)));
    results.push(loadChange(before!, after!));
  }
  return results;
}

/** Load alone, as an analysis without statistics. */
async function loadOf({ name, trace }: NamedTrace, { k, layers, signal }: AllOptions) {
  const counter = expertCounting({ k, layers }).start(trace);
  for await (const chunk of trace.chunks({ columns: ["experts"], signal })) counter.add(chunk);
  return { name, counts: counter.counts() satisfies ExpertCounts };
}
