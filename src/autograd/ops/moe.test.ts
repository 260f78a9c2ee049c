import { describe, expect, it } from "vitest";
import { expectGradients, gradientBackends, Variables } from "../../../test/gradients.ts";
import { Arena } from "../../tensor/arena.ts";
import { createRandom, shuffledOrder } from "../../util/random.ts";
import { weightedSum } from "../gradientCheck.ts";
import { Graph, type Variable } from "../graph.ts";
import { experts, type RouterOptions, type Routing, route } from "./moe.ts";

/** Logits whose order has gaps far wider than a step, so that an element moved by one chooses no other experts. */
function spacedLogits(make: Variables, tokens: number, count: number): number[] {
  const random = createRandom(7, "ranks");
  const row = () => [...shuffledOrder(count, random)].map((rank) => 0.4 * rank - 0.2 * count + make.draw.float(0.1));
  return Array.from({ length: tokens }, row).flat();
}

const [TOKENS, EXPERTS] = [4, 6];
const MASK = [1, 0, 1, 1];

interface RouterCase extends RouterOptions {
  readonly losses: boolean;
  readonly masked: boolean;
}

/** Value of the losses that `lossGradient` stands for: sum over tokens of mask * (probGrad . probs + zCoef * lse^2). */
function routerLoss(graph: Graph, { probs, lse, lossGradient }: Routing, probGrad: Float32Array, mask: number[]) {
  const zCoef = 0.25;
  lossGradient.zCoef = zCoef;
  lossGradient.probGrad = graph.take([EXPERTS]);
  lossGradient.probGrad.data.set(probGrad);
  const [p, sums] = [probs.data, lse.data];
  return mask.reduce((total, counts, t) => {
    const ofProbs = probGrad.reduce((sum, value, e) => sum + value * (p[t * EXPERTS + e] as number), 0);
    return total + counts * (ofProbs + zCoef * (sums[t] as number) ** 2);
  }, 0);
}

describe.each(gradientBackends)("gradients on %s agree with central differences", (_, backend) => {
  it.each<RouterCase>(
    [false, true].flatMap((normTopkProb) => [
      { topK: 1, normTopkProb, losses: false, masked: false },
      { topK: 3, normTopkProb, losses: false, masked: false },
      { topK: 3, normTopkProb, losses: true, masked: false },
      { topK: 3, normTopkProb, losses: true, masked: true },
      { topK: EXPERTS, normTopkProb, losses: true, masked: true },
    ]),
  )("for route, %j", ({ topK, normTopkProb, losses, masked }) => {
    const make = new Variables(backend, 1);
    const logits = make.variable([TOKENS, EXPERTS], spacedLogits(make, TOKENS, EXPERTS));
    const [weights, probGrad] = [make.weights(TOKENS * topK), make.weights(EXPERTS)];
    const mask = make.variable([TOKENS], MASK).value;
    expectGradients(backend, { logits }, (graph) => {
      const routing = route(graph, logits, { topK, normTopkProb, tokenMask: masked ? mask : undefined });
      const ofWeights = weightedSum(graph, routing.expertWeights, weights);
      return ofWeights + (losses ? routerLoss(graph, routing, probGrad, masked ? MASK : [1, 1, 1, 1]) : 0);
    });
  });

  it.each([
    { name: "some experts empty", tokens: 3, numExperts: 8, topK: 2, bias: 0 },
    { name: "all tokens on one expert", tokens: 5, numExperts: 4, topK: 1, bias: 3 },
    { name: "one token", tokens: 1, numExperts: 4, topK: 2, bias: 0 },
    { name: "every expert chosen by every token", tokens: 4, numExperts: 3, topK: 3, bias: 0 },
    { name: "one expert", tokens: 4, numExperts: 1, topK: 1, bias: 0 },
  ])("for experts: $name", ({ tokens, numExperts, topK, bias }) => {
    const make = new Variables(backend, 2);
    const [width, inner] = [5, 3];
    const values = spacedLogits(make, tokens, numExperts).map((value, i) => value + (i % numExperts === 2 ? bias : 0));
    const variables = {
      x: make.variable([tokens, width]),
      logits: make.variable([tokens, numExperts], values),
      gateUp: make.variable([numExperts, 2 * inner, width]),
      down: make.variable([numExperts, width, inner]),
    };
    const weights = make.weights(tokens * width);
    const { x, logits, gateUp, down } = variables;
    expectGradients(backend, variables, (graph) => {
      const routing = route(graph, logits, { topK, normTopkProb: false });
      return weightedSum(graph, experts(graph, x, routing, gateUp, down), weights);
    });
  });

  it("for experts of which only the router is trained", () => {
    const make = new Variables(backend, 3);
    const logits = make.variable([3, 4], spacedLogits(make, 3, 4));
    const weights = make.weights(15);
    const frozen = [make.variable([3, 5]), make.variable([4, 6, 5]), make.variable([4, 5, 3])].map(
      (variable): Variable => ({ ...variable, trainable: false }),
    );
    const [x, gateUp, down] = frozen as [Variable, Variable, Variable];
    expectGradients(backend, { logits }, (graph) => {
      const routing = route(graph, logits, { topK: 2, normTopkProb: true });
      return weightedSum(graph, experts(graph, x, routing, gateUp, down), weights);
    });
    expect(frozen.map(({ grad }) => grad)).toEqual([undefined, undefined, undefined]);
  });
});

describe.each(gradientBackends)("on %s", (_, backend) => {
  const make = new Variables(backend, 4);
  const newGraph = () => new Graph(backend, new Arena(backend), { record: false });

  it("route chooses the most probable experts, ties to the lower id, and does not renormalise unless asked", () => {
    // Probabilities 1/8, 1/2, 1/8, 1/4; then all equal.
    const logits = make.variable([2, 4], [1 / 8, 1 / 2, 1 / 8, 1 / 4, 1, 1, 1, 1].map(Math.log));
    const raw = route(newGraph(), logits, { topK: 3, normTopkProb: false });
    expect([...raw.expertIds.data]).toEqual([1, 3, 0, 0, 1, 2]);
    expect(raw.expertWeights.value.data).toBeAllClose([1 / 2, 1 / 4, 1 / 8, 1 / 4, 1 / 4, 1 / 4], { atol: 1e-7 });
    expect(raw.lse.data).toBeAllClose([0, Math.log(4)], { atol: 1e-7 });
    const normalised = route(newGraph(), logits, { topK: 2, normTopkProb: true });
    expect(normalised.expertWeights.value.data).toBeAllClose([2 / 3, 1 / 3, 1 / 2, 1 / 2], { atol: 1e-7 });
  });

  it("experts sum up the chosen SwiGLUs, each times its weight", () => {
    // Width and inner width 1: expert e computes silu(x) * x * e, where silu(2) * 2 = 4 / (1 + exp(-2)).
    const x = make.variable([1, 1], [2]);
    const gateUp = make.variable([3, 2, 1], [1, 1, 1, 1, 1, 1]);
    const down = make.variable([3, 1, 1], [0, 1, 2]);
    const logits = make.variable([1, 3], [0.2, 0.3, 0.5].map(Math.log));
    const graph = newGraph();
    const out = experts(graph, x, route(graph, logits, { topK: 2, normTopkProb: false }), gateUp, down);
    expect(out.value.data).toBeAllClose([(0.5 * 2 + 0.3 * 1) * (4 / (1 + Math.exp(-2)))], { atol: 1e-6 });
  });
});
