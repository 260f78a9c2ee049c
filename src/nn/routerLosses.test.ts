import { describe, expect, it } from "vitest";
import { expectGradients, gradientBackends, Variables } from "../../test/gradients.ts";
import { weightedSum } from "../autograd/gradientCheck.ts";
import { Graph, type Variable } from "../autograd/graph.ts";
import { route } from "../autograd/ops/moe.ts";
import type { Backend } from "../backend/backend.ts";
import { Arena } from "../tensor/arena.ts";
import { applyRouterLosses, type RouterLosses, type RouterLossWeights, routerStats } from "./routerLosses.ts";

/** Layers of logits, all of the same tokens. */
function applied(graph: Graph, layers: readonly Variable[], topK: number, weights: RouterLossWeights, share = 1) {
  const routings = layers.map((logits) => route(graph, logits, { topK, normTopkProb: false }));
  const losses = applyRouterLosses(graph, routings, weights, share);
  // The tape enters a router through its chosen weights: here nothing uses them.
  for (const { expertWeights } of routings)
    weightedSum(graph, expertWeights, new Float32Array(expertWeights.value.size));
  return losses;
}

describe.each(gradientBackends)("router losses on %s", (_, backend) => {
  // Each token's logits are far enough apart that a step changes no choice.
  const logits = (make: Variables) =>
    make.variable(
      [3, 4],
      [0, 1, 2, 3, 1.4, -1, 0.3, -0.3, 2, 1, -1, 0].map((value) => value + make.draw.float(0.1)),
    );

  it.each<RouterLossWeights & { topK: number; share: number }>([
    { balance: 0.7, z: 0, topK: 2, share: 1 },
    { balance: 0.7, balanceScale: "huggingface", z: 0, topK: 2, share: 1 },
    { balance: 0.7, layerShared: true, z: 0, topK: 2, share: 0.5 },
    { balance: 0, z: 0.3, topK: 2, share: 1 },
    { balance: 0, z: 0.3, zScale: "paper", topK: 2, share: 1 },
    { balance: 0.7, z: 0.3, topK: 1, share: 0.25 },
    { balance: 0.7, balanceScale: "huggingface", z: 0.3, zScale: "paper", topK: 3, share: 0.25 },
  ])("have the gradients of central differences, %j", ({ topK, share, ...weights }) => {
    const make = new Variables(backend, 1);
    const layers = [logits(make), logits(make), logits(make)];
    expectGradients(backend, Object.fromEntries(layers.map((layer, i) => [`layer ${i}`, layer])), (graph) => {
      const { balance, z } = applied(graph, layers, topK, weights, share);
      return share * (weights.balance * balance + weights.z * z);
    });
  });

  it("have no gradient of balance where every expert is chosen by every token", () => {
    const make = new Variables(backend, 1);
    const layer = logits(make);
    const graph = new Graph(backend, new Arena(backend), { record: true });
    const { balance } = applied(graph, [layer], 4, { balance: 1, z: 0 });
    graph.backward();
    expect(balance).toBeCloseTo(1, 6);
    expect(layer.grad?.data).toBeAllClose(new Float32Array(12), { atol: 1e-7 });
  });

  it("are measured with any weights, also at 0", () => {
    const make = new Variables(backend, 1);
    const layers = [logits(make), logits(make)];
    const results = [0, 1].map((weight): RouterLosses => {
      const graph = new Graph(backend, new Arena(backend), { record: true });
      const losses = applied(graph, layers, 2, { balance: weight, z: weight });
      graph.backward();
      return losses;
    });
    expect(results[0]).toEqual(results[1]);
    expect(results[0]?.balance).toBeGreaterThan(1);
  });
});

/** Logits that are logarithms of probabilities: their log-sum-exp is 0, moved up by `lse`. */
function routed(backend: Backend, probs: number[][], topK: number, lse = 0) {
  const graph = new Graph(backend, new Arena(backend), { record: false });
  const values = probs.flat().map((p) => Math.log(p) + lse);
  const logits = new Variables(backend, 1).variable([probs.length, probs[0]?.length ?? 0], values);
  return { graph, routing: route(graph, logits, { topK, normTopkProb: false }) };
}

describe.each(gradientBackends)("routerStats on %s", (_, backend) => {
  const PROBS = [
    [0.5, 0.3, 0.2],
    [0.1, 0.3, 0.6],
    [0.2, 0.7, 0.1],
  ];

  it("counts slots and sums up probabilities and squared log-sum-exps", () => {
    const { graph, routing } = routed(backend, PROBS, 2, 2);
    const stats = routerStats(graph, routing);
    expect([stats.tokens, stats.topK, ...stats.counts]).toEqual([3, 2, 2, 3, 1]);
    expect(stats.probSums).toBeAllClose([0.8, 1.3, 0.9], { atol: 1e-6 });
    expect([stats.squaredLseSum, stats.chosenProbSum]).toBeAllClose([12, 0.8 + 0.9 + 0.9], { atol: 1e-5 });
  });

  it("leaves masked tokens out, all of them if need be", () => {
    const { graph, routing } = routed(backend, PROBS, 2, 2);
    const mask = graph.take([3]);
    mask.data.set([1, 0, 1]);
    const stats = routerStats(graph, routing, mask);
    expect([stats.tokens, ...stats.counts]).toEqual([2, 2, 2, 0]);
    expect(stats.probSums).toBeAllClose([0.7, 1, 0.3], { atol: 1e-6 });
    mask.data.fill(0);
    const losses = applyRouterLosses(graph, [routing], { balance: 1, z: 1 }, 1, mask);
    expect([losses.balance, losses.z, losses.layers[0]?.tokens]).toEqual([0, 0, 0]);
  });
});
