/** Results as tables for other programs, and in a sentence. */
import { formatCount } from "../report/text.ts";
import { sumOf } from "./analysis.ts";
import type { Interval } from "./resample.ts";
import type { RoutingResult } from "./results.ts";
import type { LayerShares } from "./saturation.ts";

type Cell = string | number | undefined;

export interface ResultTable {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

const BOUNDS = ["low", "high"];
const bounds = (interval: Interval | undefined): Cell[] => [interval?.[0], interval?.[1]];

/** One row for each number. */
export function tableOf(result: RoutingResult): ResultTable {
  switch (result.analysis) {
    case "saturation":
      return {
        columns: ["checkpoint", "step", "layer", "saturation", ...BOUNDS],
        rows: result.checkpoints.flatMap(({ name, step, shares, intervals }) =>
          shares.map((share, index) => [name, step, result.layers[index], share, ...bounds(intervals?.[index])]),
        ),
      };
    case "churn":
      return {
        columns: ["before", "now", "of", "layer", "churn", ...BOUNDS],
        rows: result.changes.flatMap(({ before, now, tokens, slots }) =>
          Object.entries({ tokens, slots }).flatMap(([of, { shares, intervals }]) =>
            shares.map((share, index) => [before, now, of, result.layers[index], share, ...bounds(intervals?.[index])]),
          ),
        ),
      };
    case "load":
      return {
        columns: ["layer", "expert", "share"],
        rows: result.perLayer.flatMap(({ layer, shares }) => shares.map((share, expert) => [layer, expert, share])),
      };
    case "load-change":
      return {
        columns: ["layer", "expert", "before", "after"],
        rows: result.perLayer.flatMap(({ layer, before, after }) =>
          before.map((share, expert) => [layer, expert, share, after[expert]]),
        ),
      };
    case "domains":
      return {
        columns: ["domain", "layer", "expert", "share", ...BOUNDS],
        rows: result.domains.flatMap(({ name, layers }) =>
          layers.flatMap(({ layer, shares, intervals }) =>
            shares.map((share, expert) => [name, layer, expert, share, ...bounds(intervals?.[expert])]),
          ),
        ),
      };
    case "domain-test":
      return {
        columns: ["layer", "information", "shuffled_mean", "shuffled_high", "p"],
        rows: [...result.perLayer, { layer: "mean", ...result.mean }].map((row) => [
          row.layer,
          row.information,
          row.shuffledMean,
          row.shuffledHigh,
          row.p,
        ]),
      };
    case "coactivation":
      return {
        columns: ["layer", "expert", "other", "tokens_of_expert", "share", ...BOUNDS],
        rows: result.perLayer.flatMap(({ layer, shares, tokensOf, strongest, meanLargest, meanLargestInterval }) => {
          const intervals = new Map(strongest.map(({ expert, other, interval }) => [`${expert} ${other}`, interval]));
          return [
            [layer, "all", "largest", undefined, meanLargest, ...bounds(meanLargestInterval)],
            ...shares.flatMap((row, i) =>
              row.map((share, j) => [layer, i, j, tokensOf[i], share, ...bounds(intervals.get(`${i} ${j}`))]),
            ),
          ];
        }),
      };
    case "cross-layer":
      return {
        columns: ["domain", "from_layer", "to_layer", "from", "to", "share", ...BOUNDS],
        rows: result.domains.flatMap(({ name, perStep }) =>
          perStep.flatMap(({ shares, strongest, strongestInterval }, step) =>
            shares.flatMap((row, from) =>
              row.map((share, to) => {
                const interval = from === strongest[0] && to === strongest[1] ? strongestInterval : undefined;
                return [name, ...result.steps[step]!, from, to, share, ...bounds(interval)];
              }),
            ),
          ),
        ),
      };
    case "vocabulary":
      return {
        columns: ["layer", "expert", "ids", "specialisation", ...BOUNDS, "top_ids"],
        rows: [
          [
            "mean",
            "all",
            result.perLayer[0]?.ids,
            result.overall.specialisation,
            ...bounds(result.overall.interval),
            "",
          ],
          ...result.perLayer.flatMap(({ layer, ids, specialisation, interval, experts }) => [
            [layer, "all", ids, specialisation, ...bounds(interval), ""],
            ...experts.map((own, expert) => [
              layer,
              expert,
              own.ids,
              own.specialisation,
              ...bounds(undefined),
              own.top.map(({ id, share }) => `${id}:${share.toFixed(3)}`).join(" "),
            ]),
          ]),
        ],
      };
    case "token-ids":
      return {
        columns: ["layer", "expert", "domain", "from", "to", "ids"],
        rows: result.histograms.flatMap(({ layer, expert, domain, counts }) =>
          counts.map((ids, bin) => [layer, expert, domain, bin / counts.length, (bin + 1) / counts.length, ids]),
        ),
      };
    case "mass":
      return {
        columns: ["layer", "first_experts", "mass", ...BOUNDS],
        rows: result.perLayer.flatMap(({ layer, cumulative, intervals }) =>
          cumulative.map((mass, rank) => [layer, rank + 1, mass, ...bounds(intervals?.[rank])]),
        ),
      };
  }
}

/** A name for the result's files, without their endings. */
export function resultName(result: RoutingResult): string {
  switch (result.analysis) {
    case "vocabulary":
      return `vocabulary-${result.kind}-k${result.k}`;
    case "load-change":
      return `load-change-${[result.before, result.after].map(plainName).join("-")}`;
    case "mass":
      return `mass-${result.of}`;
    default:
      return `${result.analysis}-k${result.k}`;
  }
}

/** A name that fits a file's. */
export function plainName(name: string): string {
  return name.replace(/[^\w.-]+/g, "-").slice(0, 40);
}

/** As CSV (RFC 4180); a number that is not finite is an empty field. */
export function csvOf({ columns, rows }: ResultTable): string {
  const field = (cell: Cell): string => {
    if (cell === undefined || (typeof cell === "number" && !Number.isFinite(cell))) return "";
    const text = String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

/** A share as a percentage; "none" where there is none. */
export const percent = (share: number) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : "none");

/** The entry whose number is largest; undefined where none is finite. */
function greatest<T>(entries: readonly T[], of: (entry: T) => number): T | undefined {
  return entries
    .filter((entry) => Number.isFinite(of(entry)))
    .reduce<T | undefined>((best, entry) => (best === undefined || of(entry) > of(best) ? entry : best), undefined);
}

function span(values: readonly number[]): string {
  const finite = values.filter(Number.isFinite);
  if (finite.length === 0) return "none";
  const [low, high] = [finite.reduce((a, b) => Math.min(a, b)), finite.reduce((a, b) => Math.max(a, b))];
  return low === high ? percent(low) : `${percent(low)} to ${percent(high)}`;
}

const meanOf = ({ shares }: LayerShares) => sumOf(shares) / shares.length;
const experts = (k: number) => (k === 1 ? "the first expert" : `the first ${k} experts`);

/** What stands out, in a sentence. */
export function headlineOf(result: RoutingResult): string {
  switch (result.analysis) {
    case "saturation":
      return result.checkpoints
        .map(
          (one) =>
            `${one.name}: ${percent(meanOf(one))} of ${experts(result.k)} of ${result.final}, by layer ${span(one.shares)}`,
        )
        .join("; ");
    case "churn":
      return result.changes
        .map(
          ({ before, now, tokens, slots }) =>
            `${before} to ${now}: ${percent(meanOf(slots))} of the experts new, ${percent(meanOf(tokens))} of the tokens with another set`,
        )
        .join("; ");
    case "load": {
      const dead = sumOf(result.perLayer.map((layer) => layer.dead));
      const most = greatest(result.perLayer, ({ busiest }) => busiest);
      const entropies = result.perLayer.map(({ entropy }) => entropy);
      return `entropy ${span(entropies)} of even, busiest expert ${most?.busiest.toFixed(2)} times an even share (layer ${most?.layer}), ${dead} unused`;
    }
    case "load-change":
      return `${result.before} to ${result.after}: ${span(result.perLayer.map(({ moved }) => moved))} of the slots moved`;
    case "domains": {
      const all = result.domains.flatMap(({ name, layers }) =>
        layers.flatMap(({ layer, shares }) => shares.map((share, expert) => ({ name, layer, share, expert }))),
      );
      const most = greatest(all, ({ share }) => share);
      return most === undefined
        ? "no tokens"
        : `${percent(most.share)} of ${most.name} goes to expert ${most.expert} of layer ${most.layer}; uniform ${percent(result.uniform)}`;
    }
    case "domain-test":
      return `${result.mean.information.toPrecision(3)} nats, shuffled ${result.mean.shuffledMean.toPrecision(3)} (95 % up to ${result.mean.shuffledHigh.toPrecision(3)}), p = ${result.mean.p.toPrecision(2)}`;
    case "coactivation": {
      const all = result.perLayer.flatMap(({ layer, shares }) =>
        shares.flatMap((row, i) => row.flatMap((share, j) => (i === j ? [] : [{ layer, i, j, share }]))),
      );
      const most = greatest(all, ({ share }) => share);
      return most === undefined
        ? "no pairs"
        : `${percent(most.share)} of the tokens of expert ${most.i} in layer ${most.layer} have expert ${most.j} too`;
    }
    case "cross-layer": {
      const all = result.domains.flatMap(({ name, perStep }) =>
        perStep.map(({ strongest }, step) => ({ name, step: result.steps[step]!, strongest })),
      );
      const most = greatest(all, ({ strongest }) => strongest[2]);
      if (most === undefined) return "no paths";
      const [from, to, share] = most.strongest;
      return `${percent(share)} of ${most.name} goes from expert ${from} of layer ${most.step[0]} to ${to} of layer ${most.step[1]}`;
    }
    case "vocabulary":
      return `${result.kind} ids: specialisation ${span(result.perLayer.map(({ specialisation }) => specialisation))} by layer, ${formatCount(result.perLayer[0]?.ids ?? 0)} ids`;
    case "token-ids": {
      const most = greatest(result.histograms, ({ mean }) => mean);
      return most === undefined
        ? "no ids"
        : `expert ${most.expert} of layer ${most.layer} has ${percent(most.mean)} of an id of ${most.domain} on average, the most of those shown`;
    }
    case "mass":
      return `${experts(result.k)}: ${span(result.perLayer.map(({ cumulative }) => cumulative.at(-1) ?? Number.NaN))} of the ${result.of === "weights" ? "weight" : "probability"} by layer`;
  }
}
