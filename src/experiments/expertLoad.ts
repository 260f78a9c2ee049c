/** Which experts serve which kind of text: relative loads, and an order of experts that shows their kinds. */
import type { SourceEvaluation } from "../train/evaluate.ts";

/** Loads of one layer's experts. */
export interface LayerLoad {
  readonly layer: number;
  /** Expert ids in the order of the columns: by the kind that uses an expert most, the most one-sided first. */
  readonly experts: readonly number[];
  /** [source][column] load over an even share: 1 is even, 2 twice as often. */
  readonly relative: readonly (readonly number[])[];
}

/**
 * @param layers the layers that have experts; default: all.
 * @returns one entry for each of them, in order.
 */
export function expertLoads(sources: readonly SourceEvaluation[], layers?: readonly number[]): LayerLoad[] {
  const count = sources[0]?.expertCounts.length ?? 0;
  return Array.from({ length: count }, (_, index) => {
    const layer = layers?.[index] ?? index;
    const relative = sources.map(({ expertCounts }) => {
      const counts = expertCounts[index] as Float64Array;
      const total = counts.reduce((sum, count) => sum + count, 0);
      return Array.from(counts, (count) => (total === 0 ? 0 : (count * counts.length) / total));
    });
    const column = (expert: number) => relative.map((row) => row[expert] as number);
    const kind = (expert: number) => column(expert).indexOf(Math.max(...column(expert)));
    const experts = Array.from({ length: relative[0]?.length ?? 0 }, (_, expert) => expert).sort(
      (a, b) => kind(a) - kind(b) || Math.max(...column(b)) - Math.max(...column(a)) || a - b,
    );
    return { layer, experts, relative: relative.map((row) => experts.map((expert) => row[expert] as number)) };
  });
}

/** A sentence for each layer: the most one-sided expert, and for what. */
export function describeLoads(sources: readonly SourceEvaluation[], layers?: readonly number[]): string[] {
  return expertLoads(sources, layers).map(({ layer, experts, relative }) => {
    let [best, row, column] = [0, 0, 0];
    for (const [r, values] of relative.entries()) {
      for (const [c, value] of values.entries()) if (value > best) [best, row, column] = [value, r, c];
    }
    return `layer ${layer}: ${sources[row]?.source} goes to expert ${experts[column]} ${best.toFixed(1)} times as often as an even share`;
  });
}
