/** How evenly experts are used, and how adaptation changes that. */
import { ShapeError } from "../errors.ts";
import { layerHealth } from "../train/routingHealth.ts";
import { type Analysis, type LayerOptions, type ResultHead, share, sumOf } from "./analysis.ts";
import { allSources, type ExpertCounts, expertCounting } from "./expertCounts.ts";
import { bootstrap, type Interval, type ResampleOptions } from "./resample.ts";

export interface LoadLayer {
  readonly layer: number;
  /** [E] share of the layer's slots. */
  readonly shares: readonly number[];
  /** Entropy of the shares over its maximum: 1 is even, 0 one expert for everything. */
  readonly entropy: number;
  /** 95 % bootstrap interval of the entropy over sequences; missing where the sequences are not known. */
  readonly entropyInterval?: Interval;
  /** The busiest expert's share over an even one. */
  readonly busiest: number;
  /** Experts that served no token. */
  readonly dead: number;
}

export interface LoadResult extends ResultHead {
  readonly analysis: "load";
  readonly perLayer: readonly LoadLayer[];
}

const DEFINITION =
  "Share of a layer's slots (the first k of each token) that each expert served; the entropy of these shares over that of even ones, " +
  "the busiest expert's share over an even share, and experts that served nothing.";

/** Load balance of all text together. */
export function loadBalance(options: LayerOptions & ResampleOptions = {}): Analysis<ExpertCounts, LoadResult> {
  return { name: "load", counting: expertCounting(options), statistics: (counts) => loadShares(counts, options) };
}

/** Load balance of counts, wherever they are from. */
export function loadShares(counts: ExpertCounts, options: ResampleOptions = {}): LoadResult {
  const { k, layers, numExperts } = counts;
  const all = allSources(counts);
  const rowOf = (values: Float64Array, index: number) => values.subarray(index * numExperts, (index + 1) * numExperts);
  const entropies = (sums: Float64Array, values: Float64Array) => {
    for (let index = 0; index < layers.length; index++) values[index] = layerHealth(rowOf(sums, index)).loadEntropy;
  };
  const rows = all.units.map((unit) => unit.counts);
  const intervals = bootstrap(rows, layers.length, "load", entropies, options);
  return {
    analysis: "load",
    definition: DEFINITION,
    k,
    layers,
    tokens: all.tokens,
    perLayer: layers.map((layer, index) => {
      const row = rowOf(all.counts, index);
      const { loadEntropy, largestShare, deadExperts } = layerHealth(row);
      const interval = intervals?.[index];
      return {
        layer,
        shares: slotShares(row),
        entropy: loadEntropy,
        ...(interval === undefined ? {} : { entropyInterval: interval }),
        busiest: largestShare * numExperts,
        dead: deadExperts,
      };
    }),
  };
}

function slotShares(row: Float64Array): number[] {
  const slots = sumOf(row);
  return Array.from(row, (count) => share(count, slots));
}

export interface LoadChangeResult extends ResultHead {
  readonly analysis: "load-change";
  readonly before: string;
  readonly after: string;
  /** Tokens of `after`; `tokens` are those of `before`. */
  readonly tokensAfter: number;
  readonly perLayer: readonly {
    readonly layer: number;
    /** [E] shares of slots. */
    readonly before: readonly number[];
    readonly after: readonly number[];
    /** Share of the slots that would have to move to make one of the other: half the sum of differences. */
    readonly moved: number;
  }[];
}

const CHANGE_DEFINITION =
  "Share of a layer's slots (the first k of each token) that each expert served before and after, as in the paper's figure on adaptation; " +
  "moved is half the sum of the absolute differences.";

/**
 * Load before and after adaptation (paper, figure 33). The texts need not be the same.
 * @throws ShapeError where the two differ in k, layers or experts.
 */
export function loadChange(
  before: { readonly name: string; readonly counts: ExpertCounts },
  after: { readonly name: string; readonly counts: ExpertCounts },
): LoadChangeResult {
  const { k, layers, numExperts } = before.counts;
  const shapeOf = ({ k, numExperts, layers }: ExpertCounts) =>
    `k ${k}, ${numExperts} experts, layers ${layers.join(", ")}`;
  const [one, other] = [shapeOf(before.counts), shapeOf(after.counts)];
  if (one !== other) throw new ShapeError(`load-change: ${before.name} has ${one}, ${after.name} has ${other}`);
  const [old, now] = [allSources(before.counts), allSources(after.counts)];
  return {
    analysis: "load-change",
    definition: CHANGE_DEFINITION,
    k,
    layers,
    tokens: old.tokens,
    tokensAfter: now.tokens,
    before: before.name,
    after: after.name,
    perLayer: layers.map((layer, index) => {
      const [from, to] = [index * numExperts, (index + 1) * numExperts];
      const [first, second] = [slotShares(old.counts.subarray(from, to)), slotShares(now.counts.subarray(from, to))];
      const moved = first.reduce((sum, value, expert) => sum + Math.abs(value - second[expert]!), 0) / 2;
      return { layer, before: first, after: second, moved };
    }),
  };
}
