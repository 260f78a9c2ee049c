/** Each kind of intervention on four experts of which a token has two, computed by hand. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gradientBackends, Variables } from "../../test/gradients.ts";
import { anyInterventions } from "../../test/interventions.ts";
import { Graph } from "../autograd/graph.ts";
import type { Backend } from "../backend/backend.ts";
import type { InterventionInput } from "../config/intervention.ts";
import { resolveModel } from "../config/presets.ts";
import { Arena } from "../tensor/arena.ts";
import { InterventionPlan, intervenedTokens } from "./intervention.ts";
import { routeTokens } from "./router.ts";

/** Probabilities of a token's experts. */
const FALLING = [0.4, 0.3, 0.2, 0.1];
const EQUAL = [0.25, 0.25, 0.25, 0.25];

interface Routed {
  readonly ids: readonly (readonly number[])[];
  readonly weights: readonly (readonly number[])[];
}

/** Routes tokens of one sequence, from position 0, in layer 1. */
function routed(
  backend: Backend,
  probs: readonly (readonly number[])[],
  interventions: readonly InterventionInput[],
  changes: object = {},
): Routed {
  const config = resolveModel({ preset: "tiny", numExperts: 4, numExpertsPerTok: 2, ...changes });
  const arena = new Arena(backend);
  const graph = new Graph(backend, arena, { record: false });
  const logits = new Variables(backend, 1).variable([probs.length, 4], probs.flat().map(Math.log));
  const plan = new InterventionPlan(interventions, config);
  const positions = probs.map((_, position) => position);
  const tokens = intervenedTokens([plan], [probs.length], positions);
  const routing = routeTokens(graph, logits, config, { intervened: { layer: 1, tokens } });
  const width = routing.expertIds.dim(1);
  const rowsOf = (values: ArrayLike<number>) =>
    positions.map((row) => Array.from(values).slice(row * width, (row + 1) * width));
  expect(routing.rows).toBe(routing.expertIds.data.filter((expert) => expert >= 0).length);
  expect([...routing.chosenIds.data]).toEqual([...routing.expertIds.data]);
  const result = { ids: rowsOf(routing.expertIds.data), weights: rowsOf(routing.expertWeights.value.data) };
  arena.dispose();
  return result;
}

const trace = (experts: readonly number[], slots: number, weights?: readonly number[]) => ({
  layers: [1],
  positions: experts.length / slots,
  slots,
  experts: Int16Array.from(experts),
  ...(weights === undefined ? {} : { weights: Float32Array.from(weights) }),
});

/** What is done; the experts and weights of a token of probabilities 0.4, 0.3, 0.2, 0.1; the weights where they are renormalised. */
const CASES: readonly (readonly [
  name: string,
  interventions: readonly InterventionInput[],
  ids: readonly number[],
  weights: readonly number[],
  normalised: readonly number[],
])[] = [
  ["nothing", [], [0, 1], [0.4, 0.3], [4 / 7, 3 / 7]],
  ["mask of the best", [{ kind: "mask", experts: [0] }], [1, 2], [3 / 6, 2 / 6], [3 / 5, 2 / 5]],
  ["mask of one that is not chosen", [{ kind: "mask", experts: [3] }], [0, 1], [4 / 9, 3 / 9], [4 / 7, 3 / 7]],
  ["mask of all but one", [{ kind: "mask", experts: [0, 1, 3] }], [2, -1], [1, 0], [1, 0]],
  [
    "two masks",
    [
      { kind: "mask", experts: [0] },
      { kind: "mask", experts: [2] },
    ],
    [1, 3],
    [3 / 4, 1 / 4],
    [3 / 4, 1 / 4],
  ],
  ["force", [{ kind: "force", experts: [3] }], [0, 3], [0.4, 0.1], [4 / 5, 1 / 5]],
  ["force of one that is chosen", [{ kind: "force", experts: [1] }], [0, 1], [0.4, 0.3], [4 / 7, 3 / 7]],
  ["force of the best and the last", [{ kind: "force", experts: [3, 0] }], [0, 3], [0.4, 0.1], [4 / 5, 1 / 5]],
  ["force of two", [{ kind: "force", experts: [2, 3] }], [3, 2], [0.1, 0.2], [1 / 3, 2 / 3]],
  ["force with a weight", [{ kind: "force", experts: [3], weight: 0.75 }], [0, 3], [0.4, 0.75], [1, 0.75]],
  [
    "force into an empty slot",
    [
      { kind: "mask", experts: [1, 2] },
      { kind: "top_k", k: 3 },
      { kind: "force", experts: [3] },
    ],
    [0, 3, -1],
    [4 / 5, 1 / 5, 0],
    [4 / 5, 1 / 5, 0],
  ],
  ["bias", [{ kind: "bias", experts: [2], value: Math.log(3) }], [2, 0], [6 / 14, 4 / 14], [6 / 10, 4 / 10]],
  ["scale", [{ kind: "scale", experts: [1, 2], factor: -2 }], [0, 1], [0.4, -0.6], [4 / 7, -6 / 7]],
  ["scale by nothing", [{ kind: "scale", experts: [0], factor: 0 }], [0, 1], [0, 0.3], [0, 3 / 7]],
  ["fewer experts", [{ kind: "top_k", k: 1 }], [0, -1], [0.4, 0], [1, 0]],
  ["more experts", [{ kind: "top_k", k: 3 }], [0, 1, 2], [0.4, 0.3, 0.2], [4 / 9, 3 / 9, 2 / 9]],
  ["all experts", [{ kind: "top_k", k: 4 }], [0, 1, 2, 3], FALLING, FALLING],
  [
    "the last number of experts",
    [
      { kind: "top_k", k: 3 },
      { kind: "top_k", k: 1 },
    ],
    [0, -1],
    [0.4, 0],
    [1, 0],
  ],
  ["a low temperature", [{ kind: "temperature", value: 0.5 }], [0, 1], [16 / 30, 9 / 30], [16 / 25, 9 / 25]],
  [
    "bias before temperature",
    [
      { kind: "bias", experts: [3], value: Math.log(4) },
      { kind: "temperature", value: 0.5 },
    ],
    [0, 3],
    [16 / 45, 16 / 45],
    [1 / 2, 1 / 2],
  ],
  [
    "temperature before bias",
    [
      { kind: "temperature", value: 0.5 },
      { kind: "bias", experts: [3], value: Math.log(4) },
    ],
    [0, 1],
    [16 / 33, 9 / 33],
    [16 / 25, 9 / 25],
  ],
  ["swap of a chosen one with another", [{ kind: "swap", experts: [1, 3] }], [0, 3], [0.4, 0.3], [4 / 7, 3 / 7]],
  ["swap of two chosen ones", [{ kind: "swap", experts: [0, 1] }], [1, 0], [0.4, 0.3], [4 / 7, 3 / 7]],
  ["swap of two others", [{ kind: "swap", experts: [2, 3] }], [0, 1], [0.4, 0.3], [4 / 7, 3 / 7]],
  [
    "swap, then force",
    [
      { kind: "swap", experts: [1, 3] },
      { kind: "force", experts: [1] },
    ],
    [0, 1],
    [0.4, 0.3],
    [4 / 7, 3 / 7],
  ],
  [
    "force, then swap",
    [
      { kind: "force", experts: [3] },
      { kind: "swap", experts: [2, 3] },
    ],
    [0, 2],
    [0.4, 0.1],
    [4 / 5, 1 / 5],
  ],
  ["replay", [{ kind: "replay", trace: trace([3, 2], 2) }], [3, 2], [0.1, 0.2], [1 / 3, 2 / 3]],
  ["replay of fewer", [{ kind: "replay", trace: trace([2], 1) }], [2, -1], [0.2, 0], [1, 0]],
  [
    "replay of more",
    [{ kind: "replay", trace: trace([2, 1, -1, 0], 4) }],
    [2, 1, -1, 0],
    [0.2, 0.3, 0, 0.4],
    [2 / 9, 3 / 9, 0, 4 / 9],
  ],
  ["replay of nothing", [{ kind: "replay", trace: trace([-1, -1], 2) }], [0, 1], [0.4, 0.3], [4 / 7, 3 / 7]],
  [
    "replay of another layer",
    [{ kind: "replay", trace: { ...trace([3, 2], 2), layers: [0] } }],
    [0, 1],
    [0.4, 0.3],
    [4 / 7, 3 / 7],
  ],
  [
    "replay with recorded weights",
    [{ kind: "replay", trace: trace([3, 2], 2, [0.75, 0.5]) }],
    [3, 2],
    [0.75, 0.5],
    [0.75, 0.5],
  ],
  [
    "replay of a masked expert",
    [
      { kind: "mask", experts: [3] },
      { kind: "replay", trace: trace([3, 2], 2) },
    ],
    [3, 2],
    [0, 2 / 9],
    [0, 1],
  ],
  ["equal weights", [{ kind: "uniform" }], [0, 1], [0.35, 0.35], [0.5, 0.5]],
  [
    "equal weights of more experts than there are left, scaled",
    [
      { kind: "scale", experts: [0], factor: 2 },
      { kind: "uniform" },
      { kind: "scale", experts: [1], factor: 3 },
      { kind: "mask", experts: [2, 3] },
      { kind: "top_k", k: 3 },
    ],
    [0, 1, -1],
    [11 / 14, 33 / 14, 0],
    [11 / 14, 33 / 14, 0],
  ],
  ["another layer", [{ kind: "mask", experts: [0], layers: [0] }], [0, 1], [0.4, 0.3], [4 / 7, 3 / 7]],
  ["other tokens", [{ kind: "mask", experts: [0], tokens: { from: 1 } }], [0, 1], [0.4, 0.3], [4 / 7, 3 / 7]],
];

describe.each(gradientBackends)("on %s", (_, backend) => {
  it.each(CASES)("%s", (_name, interventions, ids, weights, normalised) => {
    const plain = routed(backend, [FALLING], interventions);
    expect(plain.ids).toEqual([ids]);
    expect(plain.weights.flat()).toBeAllClose(weights, { atol: 2e-7 });
    for (const changes of [{ normTopkProb: true }, { softmaxAfterTopk: true }]) {
      const renormalised = routed(backend, [FALLING], interventions, changes);
      expect(renormalised.ids).toEqual([ids]);
      expect(renormalised.weights.flat()).toBeAllClose(normalised, { atol: 2e-7 });
    }
  });

  it.each<[string, readonly InterventionInput[], readonly number[], readonly number[]]>([
    ["nothing", [], [0, 1], [0.25, 0.25]],
    ["mask", [{ kind: "mask", experts: [0] }], [1, 2], [1 / 3, 1 / 3]],
    ["force takes the later of equals", [{ kind: "force", experts: [3] }], [0, 3], [0.25, 0.25]],
    ["top_k", [{ kind: "top_k", k: 3 }], [0, 1, 2], [0.25, 0.25, 0.25]],
    ["swap", [{ kind: "swap", experts: [0, 2] }], [2, 1], [0.25, 0.25]],
  ])("equal probabilities go to the lower number: %s", (_name, interventions, ids, weights) => {
    const found = routed(backend, [EQUAL], interventions);
    expect(found.ids).toEqual([ids]);
    expect(found.weights.flat()).toBeAllClose(weights, { atol: 2e-7 });
  });

  it("changes the tokens of a range and leaves the others their bits, with empty slots behind", () => {
    const tokens = [FALLING, [0.1, 0.2, 0.3, 0.4], EQUAL, FALLING];
    const plain = routed(backend, tokens, [], { normTopkProb: true });
    const more = routed(backend, tokens, [{ kind: "top_k", k: 3, tokens: { from: 1, to: 3 } }], { normTopkProb: true });
    expect(more.ids).toEqual([
      [0, 1, -1],
      [3, 2, 1],
      [0, 1, 2],
      [0, 1, -1],
    ]);
    for (const row of [0, 3]) expect(more.weights[row]).toEqual([...(plain.weights[row] ?? []), 0]);
  });

  it("replays each position, and lets the router choose beyond the end", () => {
    const replay = { kind: "replay", trace: trace([3, 2, 0, 1], 2) } as const;
    expect(routed(backend, [FALLING, FALLING, FALLING], [replay]).ids).toEqual([
      [3, 2],
      [0, 1],
      [0, 1],
    ]);
  });

  it("whatever is done, gives each token different experts, weights where there are experts, and what was asked for", () => {
    const config = resolveModel({ preset: "tiny", numExperts: 4, numExpertsPerTok: 2 });
    const probabilities = fc.array(fc.constantFrom(0.01, 0.1, 0.1, 0.4, 1), { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(
        fc.array(probabilities, { minLength: 1, maxLength: 5 }),
        anyInterventions(config, 5),
        fc.boolean(),
        (tokens, interventions, normTopkProb) => {
          const { slots } = new InterventionPlan(interventions, config);
          const { ids, weights } = routed(backend, tokens, interventions, { normTopkProb });
          for (const [position, row] of ids.entries()) {
            const steps = interventions.filter(({ layers = "all", tokens: { from = 0, to = 99 } = {} }) => {
              return (layers === "all" || layers.includes(1)) && from <= position && position < to;
            });
            const has = (...kinds: readonly string[]) => steps.some(({ kind }) => kinds.includes(kind));
            const named = (kind: "mask" | "force") => steps.flatMap((one) => (one.kind === kind ? one.experts : []));
            const served = row.filter((expert) => expert !== -1);
            const total = weights[position]!.reduce((sum, weight) => sum + weight, 0);
            expect(new Set(served).size).toBe(served.length);
            expect([served.length > 0, served.length <= slots]).toEqual([true, true]);
            expect(row.every((expert, slot) => expert !== -1 || weights[position]![slot] === 0)).toBe(true);
            if (!has("swap", "replay")) expect(named("mask").filter((expert) => row.includes(expert))).toEqual([]);
            if (!has("swap")) expect(named("force").filter((expert) => !row.includes(expert))).toEqual([]);
            const given = steps.some((one) => one.kind === "force" && one.weight !== undefined);
            if (normTopkProb && !given && !has("scale", "replay")) expect(total).toBeCloseTo(1, 5);
            if (!given && !has("scale")) expect([total >= 0, total < 1.00001]).toEqual([true, true]);
          }
        },
      ),
      { seed: 3, numRuns: 150 },
    );
  });

  it("draws random experts that differ by seed, layer and position, with the router's weights in rank order", () => {
    const tokens = new Array<readonly number[]>(400).fill(FALLING);
    const draw = (seed: number, others: readonly InterventionInput[] = [], changes: object = {}) =>
      routed(backend, tokens, [{ kind: "random", seed }, ...others], changes);
    const { ids, weights } = draw(5);
    const [own] = routed(backend, [FALLING], []).weights;
    expect(weights).toEqual(tokens.map(() => own));
    // Each of the 12 ordered pairs has 400 / 12 = 33 on average, with a deviation of 5.5.
    const pairs = new Map<string, number>();
    for (const row of ids) pairs.set(row.join(), (pairs.get(row.join()) ?? 0) + 1);
    expect([pairs.size, ids.every(([a, b]) => a !== b)]).toEqual([12, true]);
    expect(Math.max(...[...pairs.values()].map((count) => Math.abs(count - 400 / 12)))).toBeLessThan(4 * 5.6);
    expect(draw(5).ids).toEqual(ids);
    expect(draw(6).ids).not.toEqual(ids);
    const renormalised = draw(5, [], { normTopkProb: true });
    expect(renormalised.ids).toEqual(ids);
    expect(renormalised.weights[0]).toEqual(routed(backend, [FALLING], [], { normTopkProb: true }).weights[0]);
    const masked = draw(5, [{ kind: "mask", experts: [0, 1, 3] }]);
    expect(masked.ids.every(([a, b]) => a === 2 && b === -1)).toBe(true);
  });
});
