/** What filters did, by source and filter, with examples of what they dropped. */
import { formatBytes, formatCount, table } from "../../report/text.ts";
import type { Document } from "../document.ts";
import type { Verdict } from "./filter.ts";
import { hashText } from "./hash.ts";

const MAX_EXAMPLES = 10;
const EXAMPLE_CHARACTERS = 200;

export interface DroppedExample {
  readonly id: string;
  readonly reason: string;
  /** The first 200 characters. */
  readonly text: string;
  /** Which examples are kept: those with the smallest, whatever the order of documents. */
  readonly rank: number;
}

type Examples = readonly DroppedExample[];

/** One filter on one source. Bytes are of UTF-8. */
export interface FilterTally {
  readonly source: string;
  readonly filter: string;
  readonly documentsIn: number;
  readonly bytesIn: number;
  readonly documentsOut: number;
  /** After masking. */
  readonly bytesOut: number;
  readonly documentsDropped: number;
  readonly bytesDropped: number;
  readonly spansMasked: number;
  /** Ten of those dropped, by rank. */
  readonly examples: Examples;
}

/** In the order in which sources and filters first came up. */
export type FilterReport = readonly FilterTally[];

/** One document before a filter, and what became of it. */
export interface FilterOutcome {
  readonly filter: string;
  readonly document: Document;
  readonly verdict: Verdict;
  readonly bytesIn: number;
  /** Of what is left of it; 0 where it is dropped. */
  readonly bytesOut: number;
}

/** The first characters, without half a pair at the end. */
function beginning(text: string): string {
  return [...text.slice(0, 2 * EXAMPLE_CHARACTERS)].slice(0, EXAMPLE_CHARACTERS).join("");
}

function byRank(a: DroppedExample, b: DroppedExample): number {
  if (a.rank !== b.rank) return a.rank - b.rank;
  return compare(a.id, b.id) || compare(a.text, b.text) || compare(a.reason, b.reason);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function join(a: FilterTally, b: FilterTally): FilterTally {
  return {
    source: a.source,
    filter: a.filter,
    documentsIn: a.documentsIn + b.documentsIn,
    bytesIn: a.bytesIn + b.bytesIn,
    documentsOut: a.documentsOut + b.documentsOut,
    bytesOut: a.bytesOut + b.bytesOut,
    documentsDropped: a.documentsDropped + b.documentsDropped,
    bytesDropped: a.bytesDropped + b.bytesDropped,
    spansMasked: a.spansMasked + b.spansMasked,
    examples: b.examples.length === 0 ? a.examples : [...a.examples, ...b.examples].sort(byRank).slice(0, MAX_EXAMPLES),
  };
}

/** The tally of one document that stays. */
function keptTally({ filter, document, verdict, bytesIn, bytesOut }: FilterOutcome): FilterTally {
  const spansMasked = verdict.replace?.length ?? 0;
  const kept = {
    documentsIn: 1,
    bytesIn,
    documentsOut: 1,
    bytesOut,
    documentsDropped: 0,
    bytesDropped: 0,
    spansMasked,
  };
  return { source: document.source, filter, ...kept, examples: [] };
}

/** The tally of one document that is dropped. It is no example where those before are all of lower rank. */
function droppedTally(
  { filter, document, bytesIn }: FilterOutcome,
  reason: string,
  seed: number,
  before: Examples,
): FilterTally {
  const { id, source, text } = document;
  const rank = hashText(`${source}/${filter}/${id}`, seed) >>> 0;
  const worst = before[MAX_EXAMPLES - 1];
  const examples = worst !== undefined && rank > worst.rank ? [] : [{ id, reason, text: beginning(text), rank }];
  const dropped = { documentsOut: 0, bytesOut: 0, documentsDropped: 1, bytesDropped: bytesIn, spansMasked: 0 };
  return { source, filter, documentsIn: 1, bytesIn, ...dropped, examples };
}

/** Reports of several tasks as one. Counts do not depend on how documents were divided into tasks, nor do the examples. */
export function mergeFilterReports(reports: Iterable<FilterReport>): FilterReport {
  const tallies = new Map<string, FilterTally>();
  for (const report of reports) {
    for (const tally of report) {
      const key = JSON.stringify([tally.source, tally.filter]);
      const before = tallies.get(key);
      tallies.set(key, before === undefined ? tally : join(before, tally));
    }
  }
  return [...tallies.values()];
}

/** Counts what filters do. */
export class FilterRecorder {
  readonly #seed: number;
  readonly #tallies = new Map<string, Map<string, FilterTally>>();

  /** @param seed of the choice of examples. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  add(outcome: FilterOutcome): void {
    const { source } = outcome.document;
    const filters = this.#tallies.get(source) ?? new Map<string, FilterTally>();
    this.#tallies.set(source, filters);
    const before = filters.get(outcome.filter);
    const { drop } = outcome.verdict;
    const tally =
      drop === undefined ? keptTally(outcome) : droppedTally(outcome, drop, this.#seed, before?.examples ?? []);
    filters.set(outcome.filter, before === undefined ? tally : join(before, tally));
  }

  /** What was counted so far; plain data, ready for JSON. */
  report(): FilterReport {
    return [...this.#tallies.values()].flatMap((filters) => [...filters.values()]);
  }
}

const HEADER = ["source", "filter", "documents", "dropped", "", "text", "dropped", "", "spans masked"];

function percent(part: number, whole: number): string {
  return whole === 0 ? "-" : `${((100 * part) / whole).toFixed(2)} %`;
}

/** A row for each source and filter. */
export function filterTable(report: FilterReport): string {
  const rows = report.map((tally) => [
    tally.source,
    tally.filter,
    formatCount(tally.documentsIn),
    formatCount(tally.documentsDropped),
    percent(tally.documentsDropped, tally.documentsIn),
    formatBytes(tally.bytesIn),
    formatBytes(tally.bytesIn - tally.bytesOut),
    percent(tally.bytesIn - tally.bytesOut, tally.bytesIn),
    formatCount(tally.spansMasked),
  ]);
  const align = HEADER.map((_, column) => (column < 2 ? "left" : "right") as "left" | "right");
  return table([HEADER, ...rows], { align });
}

/** What was dropped, ten documents for each source and filter. */
export function filterExamples(report: FilterReport): string {
  return report
    .filter((tally) => tally.examples.length > 0)
    .map(({ source, filter, examples }) => {
      const lines = examples.map(({ id, reason, text }) => `  ${id}\n    ${reason}\n    ${JSON.stringify(text)}\n`);
      return `dropped from ${source} by ${filter}, for example:\n${lines.join("")}`;
    })
    .join("\n");
}
