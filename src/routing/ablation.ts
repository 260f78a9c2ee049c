/**
 * How much a model needs each of its experts: by how much the loss of texts changes when the expert is masked, so that the
 * router can not choose it. Every expert is measured on the same sequences as the whole model, and differences are taken
 * sequence by sequence.
 */
import type { InterventionInput } from "../config/intervention.ts";
import { scoredTokens } from "./losses.ts";
import type { Sequence } from "./recordTrace.ts";
import { bootstrap, type Interval, type ResampleOptions } from "./resample.ts";

/** One expert of a model. */
export interface ExpertPlace {
  readonly layer: number;
  readonly expert: number;
}

/** The intervention that takes an expert away. */
export function withoutExpert({ layer, expert }: ExpertPlace): readonly InterventionInput[] {
  return [{ kind: "mask", layers: [layer], experts: [expert] }];
}

/** An expert, and the nats of each sequence without it. */
export interface Ablation extends ExpertPlace {
  readonly nats: ArrayLike<number>;
}

/** Texts of one kind. */
export interface AblatedDomain {
  readonly domain: string;
  readonly sequences: number;
  /** That are scored. */
  readonly tokens: number;
  /** Of the whole model, in nats per token. */
  readonly loss: number;
}

/** By how much a loss changes, in nats per token; positive: the model needs the expert. */
export interface LossChange {
  readonly change: number;
  /** The middle 95 % of what other sequences of the same kind would have given; null where there is one sequence only. */
  readonly interval: Interval | null;
}

export interface AblatedExpert extends ExpertPlace {
  /** In the order of the domains. */
  readonly domains: readonly LossChange[];
  /** Over all tokens of all domains. */
  readonly all: LossChange;
}

export interface AblationResult {
  readonly domains: readonly AblatedDomain[];
  /** Over all of them. */
  readonly loss: number;
  readonly tokens: number;
  readonly experts: readonly AblatedExpert[];
}

/**
 * Changes of the mean loss per domain and over all. Intervals are by bootstrap over sequences, the same draws for all
 * experts (see resample.ts).
 * @param baseline [sequences] nats of the whole model.
 */
export function ablationResult(
  sequences: readonly Sequence[],
  baseline: ArrayLike<number>,
  ablations: readonly Ablation[],
  options: ResampleOptions = {},
): AblationResult {
  const indices = (domain?: string) =>
    Array.from(sequences.keys()).filter((index) => domain === undefined || sequences[index]?.source === domain);
  const names = [...new Set(sequences.map(({ source }) => source))];
  const tokens = sequences.map(scoredTokens);
  const sum = (values: ArrayLike<number>, places: readonly number[]) =>
    places.reduce((total, place) => total + (values[place] as number), 0);
  const changes = (places: readonly number[]) => lossChanges(places, tokens, baseline, ablations, options);
  const byDomain = names.map((name) => changes(indices(name)));
  const overall = names.length === 1 ? (byDomain[0] as LossChange[]) : changes(indices());
  return {
    domains: names.map((domain) => {
      const places = indices(domain);
      const scored = sum(tokens, places);
      return { domain, sequences: places.length, tokens: scored, loss: sum(baseline, places) / scored };
    }),
    loss: sum(baseline, indices()) / sum(tokens, indices()),
    tokens: sum(tokens, indices()),
    experts: ablations.map(({ layer, expert }, index) => ({
      layer,
      expert,
      domains: byDomain.map((one) => one[index] as LossChange),
      all: overall[index] as LossChange,
    })),
  };
}

/** Of each expert, over some of the sequences. */
function lossChanges(
  places: readonly number[],
  tokens: readonly number[],
  baseline: ArrayLike<number>,
  ablations: readonly Ablation[],
  options: ResampleOptions,
): LossChange[] {
  // A sequence is its tokens and each expert's change of its nats.
  const units = places.map((place) => [
    tokens[place] as number,
    ...ablations.map(({ nats }) => (nats[place] as number) - (baseline[place] as number)),
  ]);
  const perToken = (sums: ArrayLike<number>, values: Float64Array) => {
    for (let index = 0; index < values.length; index++)
      values[index] = (sums[index + 1] as number) / (sums[0] as number);
  };
  const sums = units.reduce((total, unit) => total.map((value, index) => value + (unit[index] as number)));
  const means = new Float64Array(ablations.length);
  perToken(sums, means);
  const intervals = bootstrap(units, ablations.length, "ablation", perToken, options);
  return Array.from(means, (change, index) => ({ change, interval: intervals?.[index] ?? null }));
}
