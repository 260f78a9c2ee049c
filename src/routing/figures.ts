/** Figures of results, in the manner of the paper's: results in, vega-lite specs out. */
import type { TopLevelSpec } from "vega-lite";
import { barGrid } from "../report/barGrid.ts";
import { heatMap } from "../report/charts.ts";
import { panelLines } from "../report/panelLines.ts";
import { type SankeyPanel, sankey } from "../report/sankey.ts";
import { squareMaps } from "../report/squareMaps.ts";
import { formatCount } from "../report/text.ts";
import { sumOf } from "./analysis.ts";
import type { CoactivationResult } from "./coactivation.ts";
import type { PathResult } from "./crossLayer.ts";
import type { DomainResult, SpecialisationTest } from "./domains.ts";
import type { LoadChangeResult, LoadResult } from "./load.ts";
import type { MassResult } from "./mass.ts";
import type { RoutingResult } from "./results.ts";
import type { ChurnResult, SaturationResult } from "./saturation.ts";
import { resultName } from "./tables.ts";
import type { TokenIdResult } from "./tokenIds.ts";
import { ID_KINDS, type VocabularyResult } from "./vocabulary.ts";

export interface Figure {
  /** Of its files, without their endings. */
  readonly name: string;
  readonly title: string;
  readonly spec: TopLevelSpec;
}

/** The first, the middle and the last layer: what the paper shows of 16. */
export function figureLayers(layers: readonly number[]): readonly number[] {
  if (layers.length <= 3) return layers;
  return [layers[0]!, layers[Math.floor((layers.length - 1) / 2)]!, layers.at(-1)!];
}

/** Figures of results of one analysis, which differ in k or in what they count. */
export function figuresOf(results: readonly RoutingResult[]): Figure[] {
  const of = <N extends RoutingResult["analysis"]>(name: N) =>
    results.filter((result): result is Extract<RoutingResult, { analysis: N }> => result.analysis === name);
  return [
    ...saturationFigures(of("saturation")),
    ...churnFigures(of("churn")),
    ...of("load").map(loadFigure),
    ...of("load-change").map(loadChangeFigure),
    ...of("domains").filter(hasDomains).map(domainFigure),
    ...of("domain-test").map(testFigure),
    ...of("coactivation").map(coactivationFigure),
    ...of("cross-layer").filter(hasDomains).map(pathFigure),
    ...vocabularyFigures(of("vocabulary")),
    ...of("token-ids").flatMap(tokenIdFigures),
    ...of("mass").map(massFigure),
  ];
}

/** A trace without tokens has none. */
const hasDomains = ({ domains }: { readonly domains: readonly unknown[] }) => domains.length > 0;
const topOf = ({ k }: { readonly k: number }) => (k === 1 ? "first expert" : `first ${k} experts`);
const tokensOf = ({ tokens }: { readonly tokens: number }) => `${formatCount(tokens)} tokens`;
const percentOf = (share: number) => `${Number((100 * share).toPrecision(3))} %`;

function saturationFigures(results: readonly SaturationResult[]): Figure[] {
  const [first] = results;
  if (first === undefined) return [];
  const title = "Router saturation";
  const common = {
    title,
    subtitle: `share of the final checkpoint's experts (${first.final}) that a checkpoint already chooses, ${tokensOf(first)}`,
    yTitle: "saturation",
    percent: true,
    ordered: true,
  };
  const reference = ({ random }: SaturationResult) => ({ value: random, label: `chance ${percentOf(random)}` });
  const byLayer = first.checkpoints.length === 1;
  const spec = byLayer
    ? panelLines({
        ...common,
        xTitle: "layer",
        wholeX: true,
        panels: results.map((result) => ({
          title: topOf(result),
          reference: reference(result),
          series: result.checkpoints.map(({ name, shares, intervals }) => ({
            name,
            points: shares.map((y, index) => ({ x: result.layers[index]!, y, interval: intervals?.[index] })),
          })),
        })),
      })
    : panelLines({
        ...common,
        xTitle: first.checkpoints.every(({ step }) => step !== undefined) ? "step of training" : "checkpoint",
        legendTitle: "layer",
        panels: results.map((result) => ({
          title: topOf(result),
          reference: reference(result),
          series: result.layers.map((layer, index) => ({
            name: String(layer),
            points: result.checkpoints.map(({ step, shares }, place) => ({ x: step ?? place + 1, y: shares[index]! })),
          })),
        })),
      });
  return [{ name: "saturation", title, spec }];
}

function churnFigures(results: readonly ChurnResult[]): Figure[] {
  const [first] = results;
  if (first === undefined) return [];
  const title = "Routing churn";
  const spec = panelLines({
    title,
    subtitle: `experts of a token that are new since the trace before, ${tokensOf(first)}`,
    xTitle: "layer",
    yTitle: "share of experts",
    wholeX: true,
    percent: true,
    ordered: first.changes.length > 1,
    panels: results.map((result) => ({
      title: topOf(result),
      series: result.changes.map(({ before, now, slots: { shares, intervals } }) => ({
        name: `${before} to ${now}`,
        points: shares.map((y, index) => ({ x: result.layers[index]!, y, interval: intervals?.[index] })),
      })),
    })),
  });
  return [{ name: "churn", title, spec }];
}

function loadFigure(result: LoadResult): Figure {
  const title = `Load of experts, ${topOf(result)}`;
  const experts = result.perLayer[0]?.shares.map((_, expert) => String(expert)) ?? [];
  const spec = heatMap({
    title,
    subtitle: `all text together, ${tokensOf(result)}`,
    rows: result.layers.map((layer) => `layer ${layer}`),
    columns: experts,
    columnTitle: "expert",
    legendTitle: "times even share",
    midpoint: 1,
    values: result.perLayer.map(({ shares }) => shares.map((share) => share * experts.length)),
  });
  return { name: `load-k${result.k}`, title, spec };
}

function loadChangeFigure(result: LoadChangeResult): Figure {
  const title = `Load before and after: ${result.before} and ${result.after}`;
  const perLayer = chosenLayers(result.perLayer, result.layers);
  const experts = perLayer[0]?.before.length ?? 0;
  const spec = barGrid({
    title,
    subtitle: `share of slots, ${topOf(result)}, ${tokensOf(result)}`,
    xTitle: "expert",
    rows: perLayer.map(({ layer }) => `layer ${layer}`),
    columns: [""],
    values: perLayer.map(({ before }) => [before]),
    marks: perLayer.map(({ after }) => [after]),
    markNames: [result.before, result.after],
    reference: { value: 1 / experts, label: `even, ${percentOf(1 / experts)}` },
    rowHeight: 110,
    percent: true,
  });
  return { name: resultName(result), title, spec };
}

function domainFigure(result: DomainResult): Figure {
  const title = `Domain specialisation, ${topOf(result)}`;
  const layers = figureLayers(result.layers);
  const spec = barGrid({
    title,
    subtitle: "share of a domain's tokens that go to each expert",
    xTitle: "expert",
    rows: result.domains.map(({ name }) => name),
    columns: layers.map((layer) => `layer ${layer}`),
    values: result.domains.map((domain) => chosenLayers(domain.layers, result.layers).map(({ shares }) => shares)),
    reference: { value: result.uniform, label: `uniform, ${percentOf(result.uniform)}` },
    percent: true,
  });
  return { name: `domains-k${result.k}`, title, spec };
}

function testFigure(result: SpecialisationTest): Figure {
  const title = `Do experts know domains? ${topOf(result)}`;
  const spec = panelLines({
    title,
    subtitle: `mutual information of domain and expert; ${result.shuffles} shuffles of the sequences' domains, p = ${result.mean.p.toPrecision(2)}`,
    xTitle: "layer",
    yTitle: "nats",
    wholeX: true,
    panels: [
      {
        title: `${result.domains.length} domains, ${tokensOf(result)}`,
        series: [
          {
            name: "real domains",
            points: result.perLayer.map(({ layer, information }) => ({ x: layer, y: information })),
          },
          {
            name: "shuffled, up to 95 %",
            points: result.perLayer.map(({ layer, shuffledMean, shuffledHigh }) => ({
              x: layer,
              y: shuffledMean,
              interval: [shuffledMean, shuffledHigh],
            })),
          },
        ],
      },
    ],
  });
  return { name: `domain-test-k${result.k}`, title, spec };
}

/** Experts of a co-activation map at most. */
const MOST_EXPERTS = 32;

function coactivationFigure(result: CoactivationResult): Figure {
  const title = `Expert co-activation, ${topOf(result)}`;
  const counting = result.pairs === "pairs" ? "all pairs" : "neighbours in rank only";
  const experts = result.perLayer[0]?.tokensOf.length ?? 0;
  const spec = squareMaps({
    title,
    subtitle: `of the tokens of an expert (row), the share that goes to another (column) too; ${counting}, ${tokensOf(result)}${experts > MOST_EXPERTS ? `; the ${MOST_EXPERTS} experts of the strongest pairs` : ""}`,
    rowTitle: "of the tokens of expert",
    columnTitle: "also to expert",
    legendTitle: "share of tokens",
    maps: chosenLayers(result.perLayer, result.layers).map(({ layer, shares }) => {
      const chosen = strongest(shares);
      return {
        title: `layer ${layer}`,
        names: chosen.map(String),
        values: chosen.map((row) => chosen.map((column) => shares[row]![column]!)),
      };
    }),
  });
  return { name: result.pairs === "pairs" ? "coactivation" : "coactivation-adjacent-ranks", title, spec };
}

/** The experts of the strongest pairs, strongest first, so that these lie along the diagonal. */
function strongest(shares: readonly (readonly number[])[]): number[] {
  const pairs = shares.flatMap((row, i) => row.flatMap((value, j) => (i === j ? [] : [{ i, j, value }])));
  const order = pairs.filter(({ value }) => value > 0).sort((a, b) => b.value - a.value || a.i - b.i || a.j - b.j);
  const used = new Set(order.flatMap(({ i, j }) => [i, j]));
  for (let expert = 0; expert < shares.length; expert++) used.add(expert);
  return [...used].slice(0, MOST_EXPERTS);
}

/** An expert with less than this many times an even share is one of "other". */
const SHOWN_TIMES = 1.5;
const OTHER = "other";

function pathFigure(result: PathResult): Figure {
  const title = `From layer to layer, ${topOf(result)}`;
  const spec = sankey({
    title,
    subtitle: `tokens that go from expert to expert; those with less than ${SHOWN_TIMES} times an even share are in "${OTHER}"${result.paths === "equal-ranks" && result.k > 1 ? "; experts of equal rank" : ""}`,
    rest: OTHER,
    panels: result.domains.map((domain) => pathPanel(result, domain)),
  });
  return { name: `cross-layer-k${result.k}${result.paths === "pairs" ? "" : "-equal-ranks"}`, title, spec };
}

function pathPanel({ steps }: PathResult, { name, tokens, perStep }: PathResult["domains"][number]): SankeyPanel {
  const tables = perStep.map(({ shares }) => shares);
  const experts = tables[0]?.length ?? 0;
  // Out of the layer, or into the last one.
  const loads = [
    ...tables.map((table) => table.map(sumOf)),
    Array.from({ length: experts }, (_, column) => sumOf((tables.at(-1) ?? []).map((row) => row[column]!))),
  ];
  const groups = loads.map((load) => {
    const even = sumOf(load) / experts;
    const all = load.map((_, expert) => expert);
    const shown = all.filter((expert) => load[expert]! > SHOWN_TIMES * even);
    const others = all.filter((expert) => !shown.includes(expert));
    return [
      ...shown.map((expert) => ({ name: String(expert), experts: [expert] })),
      ...(others.length === 0 ? [] : [{ name: OTHER, experts: others }]),
    ];
  });
  return {
    title: `${name}, ${formatCount(tokens)} tokens`,
    columns: groups.map((nodes, index) => ({
      title: `layer ${steps[index]?.[0] ?? steps.at(-1)![1]}`,
      nodes: nodes.map((node) => node.name),
    })),
    flows: tables.map((table, index) =>
      groups[index]!.map((from) =>
        groups[index + 1]!.map((to) =>
          sumOf(from.experts.flatMap((row) => to.experts.map((column) => table[row]![column]!))),
        ),
      ),
    ),
  };
}

const KIND_NAMES = { input: "input", predicted: "predicted next", truth: "true next" } as const;

function vocabularyFigures(results: readonly VocabularyResult[]): Figure[] {
  const [first] = results;
  if (first === undefined) return [];
  const ks = [...new Set(results.map(({ k }) => k))];
  const kinds = ID_KINDS.filter((kind) => results.some((result) => result.kind === kind));
  const which = first.mean === "released" ? "all ids alike, as released" : "by occurrences";
  const title = "Vocabulary specialisation by layer";
  const lines = panelLines({
    title,
    subtitle: `mean of each id's largest share of one expert, ${which}; ids that occur at least ${first.leastOccurrences} times`,
    xTitle: "layer",
    yTitle: "specialisation",
    wholeX: true,
    percent: true,
    legendTitle: "id",
    panels: ks.map((k) => ({
      title: topOf({ k }),
      series: results
        .filter((result) => result.k === k)
        .map(({ kind, perLayer }) => ({
          name: KIND_NAMES[kind],
          points: perLayer.map(({ layer, specialisation, interval }) => ({ x: layer, y: specialisation, interval })),
        })),
    })),
  });
  const bars = ks.map((k): Figure => {
    const own = results.filter((result) => result.k === k);
    const barTitle = `Vocabulary specialisation by expert, ${topOf({ k })}`;
    const spec = barGrid({
      title: barTitle,
      subtitle: `mean share of the ids whose busiest expert it is, ${which}`,
      xTitle: "expert",
      rows: kinds.map((kind) => KIND_NAMES[kind]),
      columns: figureLayers(first.layers).map((layer) => `layer ${layer}`),
      values: kinds.map((kind) => {
        const result = own.find((one) => one.kind === kind) ?? own[0]!;
        return chosenLayers(result.perLayer, result.layers).map(({ experts }) =>
          experts.map(({ specialisation }) => specialisation),
        );
      }),
      percent: true,
    });
    return { name: `vocabulary-experts-k${k}`, title: barTitle, spec };
  });
  // One layer is no line.
  return [...(first.layers.length > 1 ? [{ name: "vocabulary", title, spec: lines }] : []), ...bars];
}

function tokenIdFigures(result: TokenIdResult): Figure[] {
  const bins = result.histograms[0]?.counts.length ?? 1;
  const domains = [...new Set(result.histograms.map(({ domain }) => domain))];
  const experts = [...new Set(result.histograms.map(({ expert }) => expert))];
  if (domains.length === 0) return [];
  return result.layers.map((layer) => {
    const title = `Token ids by an expert's share of them, layer ${layer}, ${topOf(result)}`;
    const at = (domain: string, expert: number) =>
      result.histograms.find((one) => one.layer === layer && one.domain === domain && one.expert === expert)!;
    const spec = barGrid({
      title,
      subtitle: `share of the ids that occur at least ${result.leastOccurrences} times in a domain, on a square-root scale`,
      xTitle: "share of the id's tokens that go to the expert",
      rows: domains,
      columns: experts.map((expert) => `expert ${expert}`),
      values: domains.map((domain) =>
        experts.map((expert) => {
          const { counts, ids } = at(domain, expert);
          return counts.map((count) => count / ids);
        }),
      ),
      upright: { value: result.uniform * bins, label: `uniform, ${percentOf(result.uniform)}` },
      xRange: [0, 1],
      rowHeight: 96,
      squareRoot: true,
      percent: true,
    });
    return { name: `token-ids-layer${layer}-k${result.k}`, title, spec };
  });
}

function massFigure(result: MassResult): Figure {
  const title = result.of === "weights" ? "Weight of the first experts" : "Probability of the first experts";
  const spec = panelLines({
    title,
    subtitle: `mean over ${tokensOf(result)}`,
    xTitle: "first experts of a token",
    yTitle: result.of === "weights" ? "sum of weights" : "probability",
    wholeX: true,
    percent: true,
    ordered: true,
    legendTitle: "layer",
    panels: [
      {
        title: "",
        series: result.perLayer.map(({ layer, cumulative }) => ({
          name: String(layer),
          points: cumulative.map((y, rank) => ({ x: rank + 1, y })),
        })),
      },
    ],
  });
  return { name: `mass-${result.of}`, title, spec };
}

/** Those of the entries whose layers a figure shows. */
function chosenLayers<T extends { readonly layer: number }>(entries: readonly T[], layers: readonly number[]): T[] {
  const shown = figureLayers(layers);
  return entries.filter(({ layer }) => shown.includes(layer));
}
