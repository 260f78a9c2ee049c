/** Domain specialisation, and whether it is more than chance. */
import { createRandom, shuffledOrder } from "../util/random.ts";
import { type Analysis, type LayerOptions, type ResultHead, share, sumOf } from "./analysis.ts";
import { type CountUnit, type ExpertCounts, expertCounting, type SourceCounts } from "./expertCounts.ts";
import { bootstrap, checkResamples, type Interval, quantile, type ResampleOptions } from "./resample.ts";

export interface DomainLayer {
  readonly layer: number;
  /** [E] share of the domain's tokens that had the expert among their first k. */
  readonly shares: readonly number[];
  /** [E] 95 % bootstrap intervals over sequences; missing where the sequences are not known. */
  readonly intervals?: readonly Interval[];
}

export interface Domain {
  readonly name: string;
  readonly tokens: number;
  readonly layers: readonly DomainLayer[];
}

export interface DomainResult extends ResultHead {
  readonly analysis: "domains";
  /** What every share would be with even load and without specialisation: k / E, or less where slots are empty. */
  readonly uniform: number;
  readonly domains: readonly Domain[];
}

const DEFINITION =
  "Share of a domain's tokens that have the expert among their first k (paper, equation 7). A domain is a source of the trace's text.";

export interface DomainOptions extends LayerOptions, ResampleOptions {}

/** Domain specialisation (paper section 5.3, equation 7). */
export function domainSpecialisation(options: DomainOptions = {}): Analysis<ExpertCounts, DomainResult> {
  return {
    name: "domains",
    counting: expertCounting(options),
    statistics: (counts) => domainShares(counts, options),
  };
}

function headOf<N extends string>(analysis: N, definition: string, { k, layers, sources }: ExpertCounts) {
  return { analysis, definition, k, layers, tokens: sources.reduce((sum, { tokens }) => sum + tokens, 0) };
}

/** Equation 7 of counts, wherever they are from. */
export function domainShares(counts: ExpertCounts, options: ResampleOptions = {}): DomainResult {
  const { numExperts, layers, sources } = counts;
  return {
    ...headOf("domains", DEFINITION, counts),
    uniform: evenShare(counts),
    domains: sources.map((source) => {
      const intervals = shareIntervals(source, options);
      return {
        name: source.name,
        tokens: source.tokens,
        layers: layers.map((layer, index) => {
          const [from, to] = [index * numExperts, (index + 1) * numExperts];
          return {
            layer,
            shares: Array.from(source.counts.subarray(from, to), (count) => share(count, source.tokens)),
            ...(intervals === undefined ? {} : { intervals: intervals.slice(from, to) }),
          };
        }),
      };
    }),
  };
}

function evenShare({ k, layers, numExperts, sources }: ExpertCounts): number {
  const slots = sumOf(sources.map((source) => sumOf(source.counts)));
  const places = sumOf(sources.map(({ tokens }) => tokens)) * layers.length * numExperts;
  return places === 0 ? k / numExperts : slots / places;
}

function shareIntervals({ name, counts, units }: SourceCounts, options: ResampleOptions): Interval[] | undefined {
  const width = counts.length;
  const rows = units.map((unit) => Float64Array.of(...unit.counts, unit.tokens));
  const divide = (sums: Float64Array, shares: Float64Array) => {
    for (let place = 0; place < width; place++) shares[place] = sums[place]! / sums[width]!;
  };
  return bootstrap(rows, width, `domains/${name}`, divide, options);
}

export interface LayerTest {
  readonly layer: number;
  /** Mutual information of a slot's domain and its expert, in nats. */
  readonly information: number;
  /** Its mean, and what 95 % of the shuffles do not exceed, where labels say nothing. */
  readonly shuffledMean: number;
  readonly shuffledHigh: number;
  /** Share of the shuffles, the labels as they are included, that reach the information. */
  readonly p: number;
}

export interface SpecialisationTest extends ResultHead {
  readonly analysis: "domain-test";
  readonly domains: readonly string[];
  readonly shuffles: number;
  readonly perLayer: readonly LayerTest[];
  /** The same for the mean over layers. */
  readonly mean: Omit<LayerTest, "layer">;
}

const TEST_DEFINITION =
  "Mutual information, in nats, of the domain of a token and an expert among its first k, beside what it is when the sequences " +
  "keep their experts and get each other's domains at random; p is the share of the shuffles, the real labels included, that reach it.";

/** Whether experts know domains: a permutation test over sequences. */
export function specialisationTest(options: DomainOptions = {}): Analysis<ExpertCounts, SpecialisationTest> {
  return {
    name: "domain-test",
    counting: expertCounting(options),
    statistics: (counts) => shuffledLabels(counts, options),
  };
}

/**
 * The permutation test of counts by sequence. With one domain, or sequences that are not known, nothing can be shuffled:
 * p is 1.
 */
export function shuffledLabels(counts: ExpertCounts, options: ResampleOptions = {}): SpecialisationTest {
  const { layers, numExperts, sources } = counts;
  const shuffles = checkResamples(options);
  const units = sources.flatMap((source) => source.units);
  const labels = Int32Array.from(sources.flatMap((source, label) => source.units.map(() => label)));
  const observed = informationOf(units, labels, sources.length, layers.length, numExperts);
  const random = createRandom(options.seed ?? 0, "shuffled labels");
  const shuffled = Array.from({ length: shuffles }, () => {
    const order = shuffledOrder(labels.length, random);
    const drawn = labels.map((_, index) => labels[order[index]!]!);
    return informationOf(units, drawn, sources.length, layers.length, numExperts);
  });
  const test = (of: (layers: Float64Array) => number): Omit<LayerTest, "layer"> => {
    const information = of(observed);
    const values = Float64Array.from(shuffled, of).sort();
    // Equal counts may add up in another order, which must not make them less.
    const reached = values.filter((value) => value >= information * (1 - 1e-9)).length;
    return {
      information,
      shuffledMean: share(
        values.reduce((sum, value) => sum + value, 0),
        shuffles,
      ),
      shuffledHigh: quantile(values, 0.95),
      p: (1 + reached) / (1 + shuffles),
    };
  };
  return {
    ...headOf("domain-test", TEST_DEFINITION, counts),
    domains: sources.map(({ name }) => name),
    shuffles,
    perLayer: layers.map((layer, index) => ({ layer, ...test((values) => values[index]!) })),
    mean: test((values) =>
      share(
        values.reduce((sum, value) => sum + value, 0),
        layers.length,
      ),
    ),
  };
}

/** [L] mutual information of label and expert, in nats. */
function informationOf(
  units: readonly CountUnit[],
  labels: Int32Array,
  numLabels: number,
  numLayers: number,
  numExperts: number,
): Float64Array {
  const width = numLayers * numExperts;
  const sums = new Float64Array(numLabels * width);
  for (const [index, { counts }] of units.entries()) {
    const start = labels[index]! * width;
    for (let place = 0; place < width; place++) sums[start + place]! += counts[place]!;
  }
  return Float64Array.from({ length: numLayers }, (_, layer) => {
    const table = Array.from({ length: numLabels }, (_, label) => {
      const start = label * width + layer * numExperts;
      return sums.subarray(start, start + numExperts);
    });
    return mutualInformation(table);
  });
}

/** @param table [rows][columns] counts. @returns nats; 0 where there are no counts. */
export function mutualInformation(table: readonly ArrayLike<number>[]): number {
  const columns = table[0]?.length ?? 0;
  const rowSums = new Float64Array(table.length);
  const columnSums = new Float64Array(columns);
  for (const [row, counts] of table.entries()) {
    for (let column = 0; column < columns; column++) {
      rowSums[row]! += counts[column]!;
      columnSums[column]! += counts[column]!;
    }
  }
  const total = rowSums.reduce((sum, count) => sum + count, 0);
  let nats = 0;
  for (const [row, counts] of table.entries()) {
    for (let column = 0; column < columns; column++) {
      const count = counts[column]!;
      if (count > 0) nats += count * Math.log((count * total) / (rowSums[row]! * columnSums[column]!));
    }
  }
  return total === 0 ? 0 : Math.max(0, nats / total);
}
