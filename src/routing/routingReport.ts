/** Results as one page. */
import type { Block, Report, ReportSection } from "../report/html.ts";
import { formatCount } from "../report/text.ts";
import { tokenBytes } from "../tokenizer/byteLevel.ts";
import { ANALYSES, type AnalysisName } from "./allAnalyses.ts";
import type { CoactivationResult } from "./coactivation.ts";
import type { PathResult } from "./crossLayer.ts";
import { type Figure, figureLayers } from "./figures.ts";
import type { MassResult } from "./mass.ts";
import type { Interval } from "./resample.ts";
import type { RoutingResult } from "./results.ts";
import { headlineOf, percent } from "./tables.ts";
import type { VocabularyResult } from "./vocabulary.ts";

export interface ReportFacts {
  readonly title: string;
  /** What was analysed, in a sentence. */
  readonly lead: string;
  readonly results: readonly RoutingResult[];
  /** Figures of the results, drawn, by the analysis that they show. */
  readonly figures: ReadonlyMap<AnalysisName, readonly { readonly figure: Figure; readonly svg: string }[]>;
  /** How tokens are written in the tokenizer's vocabulary. */
  readonly vocabulary: ReadonlyMap<number, string>;
}

const HEADINGS: Readonly<Record<AnalysisName, string>> = {
  load: "How evenly experts are used",
  domains: "Which experts serve which domain",
  "domain-test": "Is that more than chance?",
  coactivation: "Which experts work together",
  "cross-layer": "Where tokens go from layer to layer",
  vocabulary: "Which experts serve which words",
  "token-ids": "How an expert's share of a word is distributed",
  mass: "How sure the router is",
  saturation: "How early the router settles",
  churn: "How much routing still changes",
  "load-change": "What adaptation changes",
};

/** A section for each analysis, with its definition, k, layers, tokens and figures. */
export function routingReport({ title, lead, results, figures, vocabulary }: ReportFacts): Report {
  return {
    title,
    lead,
    sections: ANALYSES.flatMap((name): ReportSection[] => {
      const own = results.filter(({ analysis }) => analysis === name);
      if (own.length === 0) return [];
      const drawn = (figures.get(name) ?? []).map(
        ({ figure, svg }): Block => ({ kind: "figure", title: figure.title, svg }),
      );
      return [
        {
          heading: HEADINGS[name],
          body: [...definitions(own), factsTable(own), ...drawn, ...intervals(own), ...words(own, vocabulary)],
        },
      ];
    }),
  };
}

function definitions(results: readonly RoutingResult[]): Block[] {
  return [...new Set(results.map(({ definition }) => definition))].map((text) => ({ kind: "text", text }));
}

/** Layers as they are spoken of: 0 to 15, or 0, 7, 15. */
export function layersText(layers: readonly number[]): string {
  const inRow = layers.length > 3 && layers.every((layer, index) => layer === layers[0]! + index);
  return inRow ? `${layers[0]} to ${layers.at(-1)}` : layers.join(", ");
}

function factsTable(results: readonly RoutingResult[]): Block {
  return {
    kind: "table",
    columns: [
      { name: "what stands out" },
      { name: "k", align: "right" },
      { name: "layers" },
      { name: "tokens", align: "right" },
    ],
    rows: results.map((result) => [
      headlineOf(result),
      String(result.k),
      layersText(result.layers),
      formatCount(result.tokens),
    ]),
  };
}

/** Numbers that are quoted, with their intervals; nothing where there are none. */
function intervals(results: readonly RoutingResult[]): Block[] {
  const each = results.flatMap((result): Block[] => {
    switch (result.analysis) {
      case "coactivation":
        return result.perLayer.some(({ meanLargestInterval }) => meanLargestInterval) ? [pairTable(result)] : [];
      case "cross-layer": {
        const steps = result.domains.flatMap(({ perStep }) => perStep);
        return steps.some(({ strongestInterval }) => strongestInterval) ? [pathTable(result)] : [];
      }
      case "mass":
        return result.perLayer.some((layer) => layer.intervals) ? [massTable(result)] : [];
      default:
        return [];
    }
  });
  return [...each, ...specialisationTable(results.filter((result) => result.analysis === "vocabulary"))];
}

/** A share with its interval: 62.9 % (61.0 to 64.7). */
function withInterval(share: number, interval: Interval | undefined): string {
  if (interval === undefined || !interval.every(Number.isFinite)) return percent(share);
  return `${percent(share)} (${interval.map((bound) => (100 * bound).toFixed(1)).join(" to ")})`;
}

/** Pairs of a layer in the page, at most: the table of the CSV has more. */
const MOST_PAIRS = 3;

function pairTable({ k, perLayer }: CoactivationResult): Block {
  return {
    kind: "table",
    caption: `The strongest pairs, k = ${k}: of the tokens of the first, the share that has the second too; 95 % intervals in brackets`,
    columns: [
      { name: "layer", align: "right" },
      { name: "strongest pairs" },
      { name: "mean of each expert's largest", align: "right" },
    ],
    rows: perLayer.map(({ layer, strongest, meanLargest, meanLargestInterval }) => [
      String(layer),
      strongest
        .slice(0, MOST_PAIRS)
        .map(({ expert, other, share, interval }) => `${expert} with ${other}: ${withInterval(share, interval)}`)
        .join(", "),
      withInterval(meanLargest, meanLargestInterval),
    ]),
  };
}

function pathTable({ k, steps, domains }: PathResult): Block {
  return {
    kind: "table",
    caption: `The strongest path of each domain, k = ${k}; 95 % intervals in brackets`,
    columns: [
      { name: "domain" },
      ...steps.map(([from, to]) => ({ name: `layer ${from} to ${to}`, align: "right" as const })),
    ],
    rows: domains.map(({ name, perStep }) => [
      name,
      ...perStep.map(
        ({ strongest: [from, to, share], strongestInterval }) =>
          `${from} to ${to}: ${withInterval(share, strongestInterval)}`,
      ),
    ]),
  };
}

/** Of all ids and k side by side; their layers are the same. */
function specialisationTable(results: readonly VocabularyResult[]): Block[] {
  const known = results.filter(({ overall }) => overall.interval);
  if (known.length === 0) return [];
  const columns = known.map(({ perLayer, overall }) =>
    [...perLayer, overall].map(({ specialisation, interval }) => withInterval(specialisation, interval)),
  );
  return [
    {
      kind: "table",
      caption: "Specialisation of ids; 95 % intervals in brackets",
      columns: [
        { name: "layer", align: "right" },
        ...known.map(({ kind, k }) => ({ name: `${kind}, k = ${k}`, align: "right" as const })),
      ],
      rows: [...known[0]!.layers, "mean"].map((layer, row) => [String(layer), ...columns.map((cells) => cells[row]!)]),
    },
  ];
}

function massTable({ k, of, perLayer }: MassResult): Block {
  return {
    kind: "table",
    caption: `What the first expert and the first ${k} have of the ${of}; 95 % intervals in brackets`,
    columns: [
      { name: "layer", align: "right" },
      { name: "first expert", align: "right" },
      { name: `first ${k}`, align: "right" },
    ],
    rows: perLayer.map(({ layer, cumulative, intervals }) => [
      String(layer),
      ...[0, k - 1].map((rank) => withInterval(cumulative[rank]!, intervals?.[rank])),
    ]),
  };
}

/** Experts and ids in a table of words, at most. */
const MOST_EXPERTS = 12;
const MOST_IDS = 8;

/** The most specialised experts of the middle layer with their ids, by input and as far as tokens are known. */
function words(results: readonly RoutingResult[], vocabulary: ReadonlyMap<number, string>): Block[] {
  return results.flatMap((result) =>
    result.analysis === "vocabulary" && result.kind === "input" ? [wordTable(result, vocabulary)] : [],
  );
}

function wordTable(
  { k, perLayer, layers, leastOccurrences }: VocabularyResult,
  vocabulary: ReadonlyMap<number, string>,
): Block {
  const shown = figureLayers(layers);
  const layer = shown[Math.floor(shown.length / 2)];
  const experts = (perLayer.find((one) => one.layer === layer)?.experts ?? [])
    .map((expert, index) => ({ ...expert, index }))
    .filter(({ ids }) => ids > 0)
    .sort((a, b) => Math.min(b.ids, MOST_IDS) - Math.min(a.ids, MOST_IDS) || b.specialisation - a.specialisation)
    .slice(0, MOST_EXPERTS);
  return {
    kind: "table",
    caption: `Layer ${layer}, k = ${k}: input ids whose busiest expert it is, with the share of their tokens that it serves; ids that occur at least ${leastOccurrences} times`,
    columns: [{ name: "expert", align: "right" }, { name: "ids", align: "right" }, { name: "most specialised" }],
    rows: experts.map(({ index, ids, top }) => [
      String(index),
      formatCount(ids),
      top
        .slice(0, MOST_IDS)
        .map(({ id, share }) => `${tokenText(id, vocabulary)} ${Math.round(100 * share)} %`)
        .join(", "),
    ]),
  };
}

/** A token in quotes, with marks for what can not be seen; its id where it is not known. */
function tokenText(id: number, vocabulary: ReadonlyMap<number, string>): string {
  const entry = vocabulary.get(id);
  if (entry === undefined) return `id ${id}`;
  const text = new TextDecoder().decode(tokenBytes(entry));
  return `\u201c${text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\u00b7")}\u201d`;
}
