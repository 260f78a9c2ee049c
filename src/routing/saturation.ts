/** Router saturation and churn, of traces of one text. */
import type { AnalyseOptions, LayerOptions, ResultHead } from "./analysis.ts";
import { share } from "./analysis.ts";
import { countOverlaps, type NamedTrace, type OverlapCounts, type OverlapResult, type PairOverlap } from "./compare.ts";
import { bootstrap, type Interval, type ResampleOptions } from "./resample.ts";

/** A number for each layer, with its interval over sequences where there are at least two. */
export interface LayerShares {
  /** [L]. */
  readonly shares: readonly number[];
  readonly intervals?: readonly Interval[];
}

export interface SaturationResult extends ResultHead {
  readonly analysis: "saturation";
  /** The last trace: what the others are compared with. */
  readonly final: string;
  /** K / E: what a router that knows nothing of the final one would reach. */
  readonly random: number;
  readonly checkpoints: readonly (LayerShares & { readonly name: string; readonly step?: number })[];
}

export interface ChurnResult extends ResultHead {
  readonly analysis: "churn";
  readonly changes: readonly {
    readonly before: string;
    readonly now: string;
    /** Share of tokens whose set of experts is not the same. */
    readonly tokens: LayerShares;
    /** Share of the experts in all sets that were not in the token's set before. */
    readonly slots: LayerShares;
  }[];
}

const SATURATION =
  "Mean over tokens of the share of the final checkpoint's first k experts that are among the checkpoint's own first k for the same token (paper, equation 5).";
const CHURN =
  "Between neighbouring traces of one text: the share of tokens whose set of first k experts changed, and the share of the experts in all sets that are new.";

const NUMBERS = ["tokens", "before", "now", "shared", "changed"] as const;

/** A quotient of counts for each layer. */
function quotients(
  { units }: PairOverlap,
  layers: number,
  purpose: string,
  of: (counts: OverlapCounts) => number,
  options: ResampleOptions,
): LayerShares {
  const rows = units.map((unit) =>
    Float64Array.from(unit.flatMap((counts) => NUMBERS.map((number) => counts[number]))),
  );
  const divide = (sums: Float64Array, values: Float64Array) => {
    for (let layer = 0; layer < layers; layer++) {
      const [tokens, before, now, shared, changed] = sums.subarray(layer * NUMBERS.length);
      values[layer] = of({ tokens, before, now, shared, changed } as OverlapCounts);
    }
  };
  const sums = new Float64Array(layers * NUMBERS.length);
  for (const row of rows) for (const [place, value] of row.entries()) sums[place]! += value;
  const shares = new Float64Array(layers);
  divide(sums, shares);
  const intervals = bootstrap(rows, layers, purpose, divide, options);
  return { shares: [...shares], ...(intervals === undefined ? {} : { intervals }) };
}

const headOf = <N extends string>(analysis: N, definition: string, { k, layers, tokens }: OverlapResult) => ({
  analysis,
  definition,
  k,
  layers,
  tokens,
});

export type CompareOptions = LayerOptions & ResampleOptions & AnalyseOptions;

/**
 * Router saturation (paper section 5.1, equation 5) of each trace but the last, which is the final checkpoint.
 * @throws ConfigError as `countOverlaps`.
 */
export async function routerSaturation(
  traces: readonly NamedTrace[],
  options: CompareOptions = {},
): Promise<SaturationResult> {
  const final = traces.length - 1;
  const pairs = traces.slice(0, -1).map((_, index): [number, number] => [index, final]);
  const overlaps = await countOverlaps(traces, pairs, options);
  const { names, steps, layers, k, numExperts } = overlaps;
  return {
    ...headOf("saturation", SATURATION, overlaps),
    final: names[final]!,
    random: k / numExperts,
    checkpoints: overlaps.pairs.map((pair) => {
      const [name, step] = [names[pair.before]!, steps[pair.before]];
      const of = ({ shared, now }: OverlapCounts) => share(shared, now);
      return {
        name,
        ...(step === undefined ? {} : { step }),
        ...quotients(pair, layers.length, `saturation/${pair.before}`, of, options),
      };
    }),
  };
}

/**
 * How much routing of the same tokens changes from each trace to the next.
 * @throws ConfigError as `countOverlaps`.
 */
export async function routingChurn(traces: readonly NamedTrace[], options: CompareOptions = {}): Promise<ChurnResult> {
  const pairs = traces.slice(1).map((_, index): [number, number] => [index, index + 1]);
  const overlaps = await countOverlaps(traces, pairs, options);
  const { names, layers } = overlaps;
  return {
    ...headOf("churn", CHURN, overlaps),
    changes: overlaps.pairs.map((pair) => {
      const part = (name: string, of: (counts: OverlapCounts) => number) =>
        quotients(pair, layers.length, `churn/${name}/${pair.before}`, of, options);
      return {
        before: names[pair.before]!,
        now: names[pair.now]!,
        tokens: part("tokens", ({ changed, tokens }) => share(changed, tokens)),
        slots: part("slots", ({ now, shared }) => share(now - shared, now)),
      };
    }),
  };
}
