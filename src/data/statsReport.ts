/** The page of `olmoe data stats`: composition, lengths and what was left out. */
import type { TopLevelSpec } from "vega-lite";
import { barChart, heatMap } from "../report/charts.ts";
import type { Block, Report, TableBlock } from "../report/html.ts";
import { formatBytes, formatCount } from "../report/text.ts";
import type { Manifest } from "./manifest.ts";
import type { SourceStats } from "./stats.io.ts";

const share = (part: number, whole: number) => (whole === 0 ? 0 : (100 * part) / whole);

/** Share of the training tokens and of the text of each source. */
export function compositionChart(stats: readonly SourceStats[]): TopLevelSpec {
  const tokens = stats.reduce((sum, { trainingTokens }) => sum + trainingTokens, 0);
  const bytes = stats.reduce((sum, { textBytes }) => sum + textBytes, 0);
  const series = [
    { name: "training tokens", values: stats.map(({ trainingTokens }) => share(trainingTokens, tokens)) },
  ];
  if (bytes > 0) series.push({ name: "bytes of text", values: stats.map(({ textBytes }) => share(textBytes, bytes)) });
  return barChart({
    title: "What the data is made of",
    subtitle: `${formatCount(tokens)} training tokens`,
    yTitle: "percent of all sources",
    groups: stats.map(({ name }) => name),
    series,
    decimals: 1,
  });
}

/** "4+" of bin 2. */
function binName(bin: number): string {
  return bin === 0 ? "1" : `${2 ** bin}+`;
}

/** Share of each source's documents by their length. */
export function lengthChart(stats: readonly SourceStats[]): TopLevelSpec {
  const bins = Math.max(...stats.map(({ lengths }) => lengths.length));
  const first = Math.min(
    ...stats.map(({ lengths }) => lengths.findIndex((count) => count > 0)).filter((bin) => bin >= 0),
  );
  const shown = Array.from({ length: bins - first }, (_, index) => first + index);
  return heatMap({
    title: "How long the documents are",
    subtitle: "share of a source's documents, by their number of tokens, up to the next column's",
    rowTitle: "source",
    columnTitle: "tokens, from",
    legendTitle: "percent",
    rows: stats.map(({ name }) => name),
    columns: shown.map(binName),
    values: stats.map(({ lengths, documents }) => shown.map((bin) => share(lengths[bin] ?? 0, documents))),
  });
}

/** Series that a chart can hold apart. */
const MAX_FILTERS = 6;

/** Share of each source's text that filters and deduplication took, those that took most; undefined where none did. */
export function droppedChart({ sources }: Manifest): TopLevelSpec | undefined {
  const report = sources.flatMap(({ filters }) => filters);
  const taken = (filter: string) =>
    report
      .filter((tally) => tally.filter === filter)
      .reduce((sum, { bytesIn, bytesOut }) => sum + bytesIn - bytesOut, 0);
  const names = [...new Set(report.map(({ filter }) => filter))].filter((filter) => taken(filter) > 0);
  const shown = names.toSorted((one, other) => taken(other) - taken(one)).slice(0, MAX_FILTERS);
  if (shown.length === 0) return undefined;
  return barChart({
    title: "What was left out",
    subtitle: "text that each filter, and deduplication, dropped or cut of what came to it",
    yTitle: "percent of a source's text",
    groups: sources.map(({ name }) => name),
    series: shown.map((filter) => ({
      name: filter,
      values: sources.map(({ filters }) => {
        const tally = filters.find((one) => one.filter === filter);
        return tally === undefined ? 0 : Math.max(0, share(tally.bytesIn - tally.bytesOut, tally.bytesIn));
      }),
    })),
    decimals: 1,
  });
}

/** A row for each source and filter. */
function filtersTable({ sources }: Manifest): TableBlock[] {
  const report = sources.flatMap(({ filters }) => filters);
  if (report.length === 0) return [];
  return [
    {
      kind: "table",
      caption: "Filters and deduplication, in their order; dropped.txt has examples",
      columns: [
        { name: "source" },
        { name: "filter" },
        ...["documents", "dropped", "text", "dropped or cut", "spans masked"].map(right),
      ],
      rows: report.map((tally) => [
        tally.source,
        tally.filter,
        formatCount(tally.documentsIn),
        `${formatCount(tally.documentsDropped)} (${share(tally.documentsDropped, tally.documentsIn).toFixed(2)} %)`,
        formatBytes(tally.bytesIn),
        `${share(tally.bytesIn - tally.bytesOut, tally.bytesIn).toFixed(2)} %`,
        formatCount(tally.spansMasked),
      ]),
    },
  ];
}

const right = (name: string) => ({ name, align: "right" as const });

function sourceTable(stats: readonly SourceStats[]): TableBlock {
  return {
    kind: "table",
    columns: [
      { name: "source" },
      ...["documents", "text", "training tokens", "held out", "bytes a token", "longest document"].map(right),
    ],
    rows: stats.map((source) => [
      source.name,
      formatCount(source.documents),
      source.textBytes === 0 ? "-" : formatBytes(source.textBytes),
      formatCount(source.trainingTokens),
      formatCount(source.heldOutTokens),
      source.textBytes === 0 ? "-" : (source.textBytes / (source.trainingTokens + source.heldOutTokens)).toFixed(2),
      `${formatCount(source.longest)} tokens`,
    ]),
  };
}

/** What was read and what is left; nothing for token files that were made elsewhere. */
function readTable({ recipe, sources }: Manifest): TableBlock[] {
  if (recipe === null) return [];
  return [
    {
      kind: "table",
      caption: "From files to documents that are kept",
      columns: [
        { name: "source" },
        { name: "from" },
        ...["files", "broken", "empty", "documents", "text", "kept", "text kept"].map(right),
      ],
      rows: sources.map((source) => [
        source.name,
        source.resolved,
        formatCount(source.files),
        formatCount(source.broken),
        formatCount(source.empty),
        formatCount(source.documents),
        formatBytes(source.bytes),
        formatCount(source.keptDocuments),
        formatBytes(source.keptBytes),
      ]),
    },
  ];
}

/** @param figures drawings of the charts. */
export function statsReport(
  name: string,
  manifest: Manifest,
  stats: readonly SourceStats[],
  figures: { readonly composition: string; readonly lengths: string; readonly dropped?: string | undefined },
): Report {
  const tokens = stats.reduce((sum, { trainingTokens }) => sum + trainingTokens, 0);
  const documents = stats.reduce((sum, source) => sum + source.documents, 0);
  const dropped: Block[] =
    figures.dropped === undefined ? [] : [{ kind: "figure", svg: figures.dropped, title: "Text that was left out" }];
  const body: Block[] = [
    {
      kind: "numbers",
      items: [
        { value: formatCount(tokens), label: "training tokens" },
        { value: formatCount(documents), label: "documents" },
        { value: manifest.tokenizer.vocabSize.toLocaleString("en"), label: "entries in the vocabulary" },
      ],
    },
    { kind: "figure", svg: figures.composition, title: "Share of each source" },
    sourceTable(stats),
    { kind: "figure", svg: figures.lengths, title: "Length of documents" },
  ];
  return {
    title: name,
    lead: `${formatCount(tokens)} training tokens from ${stats.length} sources.`,
    sections: [
      { heading: "Composition", body },
      ...(manifest.recipe === null
        ? []
        : [{ heading: "What was left out", body: [...readTable(manifest), ...dropped, ...filtersTable(manifest)] }]),
    ],
  };
}
