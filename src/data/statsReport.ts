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

/** @param figures drawings of the two charts. */
export function statsReport(
  name: string,
  manifest: Manifest,
  stats: readonly SourceStats[],
  figures: { readonly composition: string; readonly lengths: string },
): Report {
  const tokens = stats.reduce((sum, { trainingTokens }) => sum + trainingTokens, 0);
  const documents = stats.reduce((sum, source) => sum + source.documents, 0);
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
      ...(manifest.recipe === null ? [] : [{ heading: "What was left out", body: readTable(manifest) }]),
    ],
  };
}
