/**
 * Interventions in the forward pass. For each token and layer they apply in this order, whatever their order in the file:
 *
 * 1. Logits, in file order: `temperature` divides all, `bias` adds to some, `mask` makes some -infinity. The softmax is
 *    over what results: probabilities are those of a router that computes these logits.
 * 2. The number of experts: the last `top_k`; else the model's.
 * 3. The choice: the last of `random` and `replay`; else the router's. Random experts are drawn without replacement from
 *    those that are not masked, by seed, layer and position, and take the places of the chosen ones: the first the weight
 *    of the most probable, and so on. Replayed experts come with their own probabilities, or with recorded weights.
 * 4. Changes of the choice, in file order: `force` puts each of its experts that is not there in the place of the least
 *    probable one that is not forced (of equals the one in the last slot); `swap` exchanges two.
 * 5. Weights: the experts' probabilities, divided by their sum where the model renormalises. Fixed weights, of `force` and
 *    of a replay with recorded ones, stay as they are and are not part of that sum.
 * 6. Changes of the weights, in file order: `uniform` gives each expert the mean, `scale` multiplies.
 *
 * A token whose chosen experts and probabilities come out as the router had them keeps the router's weights bit for bit.
 * Slots are in the router's order, the most probable first, until a step of 3 or 4 puts others there.
 */
import type { Graph, Variable } from "../autograd/graph.ts";
import { type RouterOptions, type Routing, route } from "../autograd/ops/moe.ts";
import {
  checkInterventions,
  holdsInLayer,
  type Intervention,
  type InterventionInput,
  inRange,
} from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import { createRandom, shuffledOrder } from "../util/random.ts";

/** The interventions on one sequence, ready to be looked up. */
export class InterventionPlan {
  /** Most experts that a token can have. */
  readonly slots: number;
  readonly #interventions: readonly Intervention[];
  readonly #layers = new Map<number, readonly Intervention[]>();
  #key: string | undefined;

  /**
   * @param place for the message of the error.
   * @throws ConfigError listing every fault (see `checkInterventions`).
   */
  constructor(interventions: readonly InterventionInput[], config: ModelConfig, place = "interventions") {
    this.#interventions = checkInterventions(interventions, config, place);
    const counts = this.#interventions.map((one) =>
      one.kind === "top_k" ? one.k : one.kind === "replay" ? one.trace.slots : 0,
    );
    this.slots = Math.max(config.numExpertsPerTok, ...counts);
    for (let layer = 0; layer < config.numHiddenLayers; layer++) {
      const there = this.#interventions.filter((one) => holdsInLayer(one, layer));
      if (there.length > 0) this.#layers.set(layer, there);
    }
  }

  /** Equal for interventions that do the same: what was computed under the one can be used under the other. */
  get key(): string {
    this.#key ??= JSON.stringify(this.#interventions, (_, value: unknown) =>
      value instanceof Int16Array || value instanceof Float32Array ? value.join() : value,
    );
    return this.#key;
  }

  /** Those on a token in a layer, in file order. */
  at(layer: number, position: number): readonly Intervention[] {
    return this.#layers.get(layer)?.filter(({ tokens }) => inRange(tokens, position)) ?? [];
  }
}

/** A token of a pass that is intervened on. */
export interface IntervenedToken {
  /** Its row. */
  readonly token: number;
  /** In its sequence. */
  readonly position: number;
  readonly plan: InterventionPlan;
}

/**
 * The tokens of a pass that are intervened on.
 * @param plans of each sequence; @param lengths their tokens; @param positions of all tokens, sequence after sequence.
 */
export function intervenedTokens(
  plans: readonly (InterventionPlan | undefined)[],
  lengths: readonly number[],
  positions: ArrayLike<number>,
): IntervenedToken[] {
  const tokens: IntervenedToken[] = [];
  let first = 0;
  for (const [sequence, length] of lengths.entries()) {
    const plan = plans[sequence];
    for (let token = first; plan !== undefined && token < first + length; token++) {
      tokens.push({ token, position: positions[token] as number, plan });
    }
    first += length;
  }
  return tokens;
}

/** What changes the routing of a pass in one layer. */
export interface IntervenedLayer {
  readonly layer: number;
  readonly tokens: readonly IntervenedToken[];
}

/** One token, and what is done to it in a layer. */
interface Row {
  readonly token: number;
  readonly position: number;
  readonly steps: readonly Intervention[];
}

/** A place for an expert, -1 for none. */
interface Slot {
  readonly expert: number;
  /** What its weight is made of: its probability, or that of the expert whose place it has. */
  readonly probability: number;
  /** A weight that is given. */
  readonly fixed?: number | undefined;
}

/** What the router chose for one token. */
interface Choice {
  readonly ids: Int32Array;
  readonly weights: Float32Array;
}

/** The last of some kinds of intervention. */
function lastOf<K extends Intervention["kind"]>(steps: readonly Intervention[], ...kinds: readonly K[]) {
  const isOne = (step: Intervention): step is Extract<Intervention, { kind: K }> =>
    (kinds as readonly string[]).includes(step.kind);
  return steps.findLast(isOne);
}

/**
 * `route` with interventions on some tokens. The others keep their bits. Where a token has more experts than the model
 * gives, all have more slots, which are empty (-1, weight 0) for the others.
 * @param logits [T, E]; rows that are intervened on are changed in place.
 */
export function routeIntervened(
  graph: Graph,
  logits: Variable,
  options: RouterOptions,
  { layer, tokens }: IntervenedLayer,
): Routing {
  const rows: Row[] = tokens
    .map(({ token, position, plan }) => ({ token, position, steps: plan.at(layer, position) }))
    .filter(({ steps }) => steps.length > 0);
  if (rows.length === 0) return route(graph, logits, options);
  const experts = logits.value.dim(1);
  const values = logits.value.data;
  for (const { token, steps } of rows) changeLogits(values.subarray(token * experts, (token + 1) * experts), steps);
  const plain = route(graph, logits, options);
  const routings = new Map([[options.topK, plain]]);
  const topKs = rows.map(({ steps }) => lastOf(steps, "top_k")?.k ?? options.topK);
  for (const topK of topKs) {
    if (!routings.has(topK)) routings.set(topK, route(graph, logits, { ...options, topK }));
  }
  const choices = new Map(
    [...routings].map(([topK, { chosenIds, expertWeights }]) => {
      return [topK, { ids: chosenIds.data, weights: expertWeights.value.data }];
    }),
  );
  const probs = plain.probs.data;
  const changed = rows.map((row, index) => {
    const topK = topKs[index] as number;
    const { ids, weights } = choices.get(topK) as Choice;
    const [from, to] = [row.token * topK, (row.token + 1) * topK];
    const own = { ids: ids.subarray(from, to), weights: weights.subarray(from, to) };
    const probabilities = probs.subarray(row.token * experts, (row.token + 1) * experts);
    const slots = chooseExperts(own, row, layer, probabilities);
    return { token: row.token, slots, weights: weigh(slots, own, row.steps, probabilities, options.normTopkProb) };
  });
  return withChoices(graph, plain, changed);
}

/** Step 1. @param logits [E] of one token. */
function changeLogits(logits: Float32Array, steps: readonly Intervention[]): void {
  for (const step of steps) {
    if (step.kind === "temperature") logits.set(logits.map((logit) => logit / step.value));
    else if (step.kind === "bias") for (const expert of step.experts) (logits[expert] as number) += step.value;
    else if (step.kind === "mask") for (const expert of step.experts) logits[expert] = Number.NEGATIVE_INFINITY;
  }
}

/** Steps 3 and 4. */
function chooseExperts(own: Choice, { position, steps }: Row, layer: number, probabilities: Float32Array): Slot[] {
  const masked = new Set(steps.flatMap((step) => (step.kind === "mask" ? step.experts : [])));
  const slotOf = (expert: number, fixed?: number): Slot => {
    return { expert, probability: expert < 0 ? 0 : (probabilities[expert] as number), fixed };
  };
  // Where fewer experts are left than a token has, the router takes masked ones, of probability 0.
  let slots = Array.from(own.ids, (expert) => slotOf(masked.has(expert) ? -1 : expert));
  const choice = lastOf(steps, "random", "replay");
  if (choice?.kind === "random") {
    const drawn = drawExperts(choice.seed, layer, position, probabilities.length, masked);
    slots = slots.map(({ probability }, slot) => ({ expert: drawn[slot] ?? -1, probability }));
  } else if (choice !== undefined) {
    slots = recordedSlots(choice.trace, layer, position, slotOf) ?? slots;
  }
  const forced = new Set(steps.flatMap((step) => (step.kind === "force" ? step.experts : [])));
  for (const step of steps) {
    if (step.kind === "force") {
      for (const expert of step.experts) {
        const there = slots.findIndex((slot) => slot.expert === expert);
        slots[there >= 0 ? there : leastProbable(slots, forced, probabilities)] = slotOf(expert, step.weight);
      }
    } else if (step.kind === "swap") {
      const [a, b] = step.experts;
      slots = slots.map((slot) => ({ ...slot, expert: slot.expert === a ? b : slot.expert === b ? a : slot.expert }));
    }
  }
  return slots;
}

/** All experts that are not masked in a random order, by seed, layer and position alone. */
function drawExperts(seed: number, layer: number, position: number, experts: number, masked: ReadonlySet<number>) {
  const order = shuffledOrder(experts, createRandom(seed, `random routing/${layer}/${position}`));
  return order.filter((expert) => !masked.has(expert));
}

/** What a trace has for a position; undefined where it has nothing. */
function recordedSlots(
  { layers, positions, slots, experts, weights }: Extract<Intervention, { kind: "replay" }>["trace"],
  layer: number,
  position: number,
  slotOf: (expert: number, fixed?: number) => Slot,
): Slot[] | undefined {
  const place = layers.indexOf(layer);
  if (place < 0 || position >= positions) return undefined;
  const start = (place * positions + position) * slots;
  const ids = experts.subarray(start, start + slots);
  if (ids.every((expert) => expert < 0)) return undefined;
  return Array.from(ids, (expert, slot) => slotOf(expert, weights?.[start + slot]));
}

/** The slot that a forced expert takes: an empty one, else that of the least probable expert that is not forced. */
function leastProbable(slots: readonly Slot[], forced: ReadonlySet<number>, probabilities: Float32Array): number {
  let [place, least] = [slots.length - 1, Number.POSITIVE_INFINITY];
  for (const [slot, { expert }] of slots.entries()) {
    const probability = expert < 0 ? -1 : (probabilities[expert] as number);
    if (forced.has(expert) || probability > least) continue;
    [place, least] = [slot, probability];
  }
  return place;
}

/** Steps 5 and 6. Sums are in f32, in the order of slots, as the kernels have them. */
function weigh(
  slots: readonly Slot[],
  own: Choice,
  steps: readonly Intervention[],
  probabilities: Float32Array,
  renormalise: boolean,
): number[] {
  const sameSlot = ({ probability, fixed }: Slot, slot: number) =>
    fixed === undefined && Object.is(probability, probabilities[own.ids[slot] as number]);
  const same = slots.length === own.ids.length && slots.every(sameSlot);
  let weights = same ? [...own.weights] : renormalise ? renormalised(slots) : slots.map(weightOf);
  weights = weights.map((weight, slot) => ((slots[slot] as Slot).expert < 0 ? 0 : weight));
  for (const step of steps) {
    if (step.kind === "uniform") {
      const served = slots.filter(({ expert }) => expert >= 0).length;
      const mean = sumOf(weights) / served;
      weights = weights.map((_, slot) => ((slots[slot] as Slot).expert < 0 ? 0 : mean));
    } else if (step.kind === "scale") {
      weights = weights.map((weight, slot) => {
        return step.experts.includes((slots[slot] as Slot).expert) ? weight * step.factor : weight;
      });
    }
  }
  return weights;
}

function weightOf({ probability, fixed }: Slot): number {
  return fixed ?? probability;
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => Math.fround(sum + value), 0);
}

function renormalised(slots: readonly Slot[]): number[] {
  const sum = sumOf(slots.map(({ probability, fixed }) => (fixed === undefined ? probability : 0)));
  return slots.map((slot) => (slot.fixed === undefined && sum > 0 ? slot.probability / sum : weightOf(slot)));
}

interface ChangedRow {
  readonly token: number;
  readonly slots: readonly Slot[];
  readonly weights: readonly number[];
}

/** A routing in which some tokens have other experts. */
function withChoices(graph: Graph, plain: Routing, changed: readonly ChangedRow[]): Routing {
  const width = changed.reduce((most, { slots }) => Math.max(most, slots.length), plain.topK);
  const tokens = plain.probs.dim(0);
  const ids = graph.take([tokens, width], "i32");
  const weights = graph.take([tokens, width]);
  const [toIds, toWeights] = [ids.data.fill(-1), weights.data.fill(0)];
  const [fromIds, fromWeights] = [plain.chosenIds.data, plain.expertWeights.value.data];
  for (let token = 0; token < tokens; token++) {
    const [from, to] = [token * plain.topK, (token + 1) * plain.topK];
    toIds.set(fromIds.subarray(from, to), token * width);
    toWeights.set(fromWeights.subarray(from, to), token * width);
  }
  for (const { token, slots, weights: changedWeights } of changed) {
    toIds.fill(-1, token * width, (token + 1) * width);
    toWeights.fill(0, token * width, (token + 1) * width);
    for (const [slot, { expert }] of slots.entries()) {
      toIds[token * width + slot] = expert;
      toWeights[token * width + slot] = changedWeights[slot] as number;
    }
  }
  const rows = toIds.reduce((sum, expert) => sum + (expert < 0 ? 0 : 1), 0);
  return { ...plain, chosenIds: ids, expertIds: ids, expertWeights: graph.constant(weights), rows };
}
