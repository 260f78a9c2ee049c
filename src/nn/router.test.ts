import { describe, expect, it } from "vitest";
import { gradientBackends, Variables } from "../../test/gradients.ts";
import { Graph, type Variable } from "../autograd/graph.ts";
import type { Routing } from "../autograd/ops/moe.ts";
import type { Backend } from "../backend/backend.ts";
import { resolveModel } from "../config/presets.ts";
import { Arena } from "../tensor/arena.ts";
import { mixtureOfExperts } from "./mlp.ts";
import { type RoutingPass, routeTokens } from "./router.ts";
import { applyRouterLosses, routerStats } from "./routerLosses.ts";

type Changes = Readonly<Record<string, unknown>>;

const newGraph = (backend: Backend) => new Graph(backend, new Arena(backend), { record: false });

/** Routes logits by a model config. */
function routed(backend: Backend, logits: Variable, changes: Changes, pass: RoutingPass = {}): Routing {
  const config = resolveModel({ preset: "tiny", numExperts: logits.value.dim(1), ...changes });
  return routeTokens(newGraph(backend), logits, config, pass);
}

/** What a routing says, as plain arrays. */
function contentOf({ probs, lse, expertIds, expertWeights, dropped }: Routing) {
  const tensors = [probs, lse, expertIds, expertWeights.value].map(({ data }) => [...data]);
  return { tensors, dropped };
}

describe.each(gradientBackends)("routeTokens on %s", (_, backend) => {
  const make = new Variables(backend, 11);
  const logits = make.variable([12, 5], make.draw.floats(60, 3));
  const skewed = make.variable(
    [12, 5],
    make.draw.floats(60, 1).map((value, i) => value + (i % 5 === 3 ? 4 : 0)),
  );

  it("gives softmax after top-k the softmax over the chosen logits", () => {
    const routing = routed(backend, logits, { numExpertsPerTok: 3, softmaxAfterTopk: true });
    const values = logits.value.data;
    const expected = Array.from({ length: 12 }, (_, t) => {
      const chosen = [...routing.expertIds.data.subarray(3 * t, 3 * t + 3)].map((e) =>
        Math.exp(values[5 * t + e] as number),
      );
      return chosen.map((value) => value / chosen.reduce((sum, other) => sum + other, 0));
    }).flat();
    expect(routing.expertWeights.value.data).toBeAllClose(expected, { atol: 1e-6 });
    // The router losses still see the softmax over all.
    const plain = routed(backend, logits, { numExpertsPerTok: 3 });
    expect([...routing.probs.data]).toEqual([...plain.probs.data]);
    expect([...routing.expertIds.data]).toEqual([...plain.expertIds.data]);
  });

  it.each([{}, { normTopkProb: true }])("with a large capacity is dropless bit for bit, %j", (changes) => {
    const sizes = { numExpertsPerTok: 2, ...changes };
    const free = contentOf(routed(backend, skewed, sizes));
    // An even share is 12 * 2 / 5 = 4.8 slots, and 12 tokens are the most that an expert can have.
    for (const expertCapacityFactor of [2.5, 1000]) {
      const bounded = routed(backend, skewed, { ...sizes, expertCapacityFactor }, { dropTokens: true });
      expect(contentOf(bounded)).toEqual(free);
    }
    const tight = routed(backend, skewed, { ...sizes, expertCapacityFactor: 2 }, { dropTokens: true });
    expect(tight.dropped).toBeGreaterThan(0);
  });

  it("drops nothing unless the pass asks for it", () => {
    const changes = { numExpertsPerTok: 2, expertCapacityFactor: 0.5 };
    expect(contentOf(routed(backend, skewed, changes))).toEqual(
      contentOf(routed(backend, skewed, { numExpertsPerTok: 2 })),
    );
    const dropping = routed(backend, skewed, changes, { dropTokens: true });
    // int(0.5 * 4.8) = 2 slots for each expert; expert 3 is chosen by all 12 tokens.
    const kept = Array.from({ length: 5 }, (_, e) => dropping.expertIds.data.filter((id) => id === e).length);
    expect([Math.max(...kept), kept[3]]).toEqual([2, 2]);
    expect(dropping.dropped).toBe(24 - kept.reduce((sum, count) => sum + count, 0));
  });

  it("lets experts choose alike in one sequence and in a batch of one, and unlike in a batch of more", () => {
    const choose = (expertChoiceScope: string, sequences: number) =>
      contentOf(routed(backend, logits, { routing: "expert_choice", expertChoiceScope }, { sequences }));
    expect(choose("batch", 1)).toEqual(choose("sequence", 1));
    expect(choose("batch", 3)).toEqual(choose("batch", 1));
    expect(choose("sequence", 3)).not.toEqual(choose("batch", 3));
  });

  it("gives every expert floor(C * S / E) tokens of each sequence", () => {
    // floor(2 * 4 / 5) = 1 of each of three sequences.
    const { expertIds, rows } = routed(backend, logits, { routing: "expert_choice" }, { sequences: 3 });
    const counts = Array.from({ length: 3 }, (_, b) =>
      Array.from({ length: 5 }, (_, e) => expertIds.data.subarray(20 * b, 20 * b + 20).filter((id) => id === e).length),
    );
    expect(counts).toEqual([1, 2, 3].map(() => [1, 1, 1, 1, 1]));
    expect(rows).toBe(15);
  });

  it.each([
    { numExperts: 1, numExpertsPerTok: 1, tokens: 3 },
    { numExperts: 4, numExpertsPerTok: 4, tokens: 3 },
    { numExperts: 4, numExpertsPerTok: 1, tokens: 1 },
  ])("serves the smallest cases whoever chooses, %j", ({ tokens, ...sizes }) => {
    const values = make.variable([tokens, sizes.numExperts], make.draw.floats(tokens * sizes.numExperts, 2));
    const served = (changes: Changes) =>
      routed(backend, values, { ...sizes, ...changes }, { dropTokens: true }).expertIds.data.filter((id) => id >= 0)
        .length;
    const slots = tokens * sizes.numExpertsPerTok;
    expect(served({})).toBe(slots);
    expect(served({ expertCapacityFactor: 1 })).toBe(slots);
    expect(served({ routing: "expert_choice" })).toBe(slots >= sizes.numExperts ? slots : 0);
  });

  it("adds nothing to the stream where experts have no capacity", () => {
    const config = resolveModel({ preset: "tiny", numExperts: 8, numExpertsPerTok: 1, routing: "expert_choice" });
    const graph = newGraph(backend);
    const [x, router] = [make.variable([5, 4]), make.variable([8, 4])];
    const parameters = { router, gateUp: make.variable([8, 6, 4]), down: make.variable([8, 4, 3]) };
    const { out, routing } = mixtureOfExperts(graph, x, parameters, config, {});
    expect([...out.value.data]).toEqual(new Array(20).fill(0));
    expect(routing.rows).toBe(0);
  });
});

describe.each(gradientBackends)("router statistics on %s", (_, backend) => {
  const make = new Variables(backend, 12);
  // All six tokens choose expert 1 first; expert 0 is the second choice of the first four, expert 2 of the others.
  const probs = [0, 1, 2, 3, 4, 5].flatMap((t) => (t < 4 ? [0.3, 0.6, 0.1] : [0.1, 0.6, 0.3]));
  const logits = make.variable([6, 3], probs.map(Math.log));

  it("count what was chosen before dropping, and the slots that were dropped", () => {
    const changes = { numExpertsPerTok: 2, expertCapacityFactor: 0.75 };
    const routing = routed(backend, logits, changes, { dropTokens: true });
    const stats = routerStats(newGraph(backend), routing);
    // int(0.75 * 2 * 6 / 3) = 3 slots an expert: one of expert 0 and three of expert 1 are dropped.
    expect([...stats.counts, stats.dropped, stats.topK]).toEqual([4, 6, 2, 4, 2]);
    expect(stats.chosenProbSum).toBeCloseTo(6 * 0.9, 5);
    expect([...routing.expertIds.data]).toEqual([1, 0, 1, 0, 1, 0, -1, -1, -1, 2, -1, 2]);
  });

  it("find experts that choose in balance, at the scale of K experts a token", () => {
    const routing = routed(backend, logits, { routing: "expert_choice", numExpertsPerTok: 1 });
    const graph = newGraph(backend);
    const { balance, z, layers } = applyRouterLosses(graph, [routing], { balance: 0, z: 1 });
    expect([layers[0]?.topK, ...(layers[0]?.counts ?? [])]).toEqual([1, 2, 2, 2]);
    expect([balance, z]).toBeAllClose([1, 0], { atol: 1e-6 });
  });

  it("leave the z-loss on where the balance loss is off", () => {
    const moved = make.variable(
      [6, 3],
      probs.map((p) => Math.log(p) + 2),
    );
    const routing = routed(backend, moved, { numExpertsPerTok: 2 });
    const { z } = applyRouterLosses(newGraph(backend), [routing], { balance: 0, z: 0.5 });
    // A log-sum-exp of 2 for every token, over K = 2; the coefficient is 0.5 / (6 tokens * 2).
    expect(z).toBeCloseTo(2, 5);
    expect(routing.lossGradient.zCoef).toBeCloseTo(0.5 / 12, 9);
    expect(routing.lossGradient.probGrad).toBeUndefined();
  });
});
