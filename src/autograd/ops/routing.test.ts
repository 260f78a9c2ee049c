import { describe, expect, it } from "vitest";
import { expectGradients, gradientBackends, Variables } from "../../../test/gradients.ts";
import { ShapeError } from "../../errors.ts";
import { Arena } from "../../tensor/arena.ts";
import { createRandom, shuffledOrder } from "../../util/random.ts";
import { weightedSum } from "../gradientCheck.ts";
import { Graph, type Variable } from "../graph.ts";
import { experts, type Routing, route } from "./moe.ts";
import { dropOverflow, routeByExperts } from "./routing.ts";

interface Sizes {
  readonly tokens: number;
  readonly numExperts: number;
  readonly topK: number;
  readonly groups: number;
  readonly capacity: number;
}

/** Softmax of each row of `width`. */
function softmaxRows(logits: readonly number[], width: number): number[] {
  return logits.map((value, i) => {
    const row = logits.slice(i - (i % width), i - (i % width) + width);
    return Math.exp(value) / row.reduce((sum, other) => sum + Math.exp(other), 0);
  });
}

/** Whether a step of any logit changes no choice: neither of a token nor of an expert. */
function isSmooth(logits: readonly number[], { tokens, numExperts, topK, groups, capacity }: Sizes): boolean {
  const probs = softmaxRows(logits, numExperts);
  const hasGap = (values: number[], taken: number) => {
    const [last = 1, next = 0] = values.sort((a, b) => b - a).slice(Math.max(0, taken - 1), taken + 1);
    return taken === 0 || taken >= values.length || last - next > 0.005;
  };
  const length = tokens / groups;
  const columns = Array.from({ length: groups * numExperts }, (_, i) => {
    const [group, e] = [Math.floor(i / numExperts), i % numExperts];
    return Array.from({ length }, (_, t) => probs[(group * length + t) * numExperts + e] as number);
  });
  const rows = Array.from({ length: tokens }, (_, t) => probs.slice(t * numExperts, (t + 1) * numExperts));
  return columns.every((column) => hasGap(column, capacity)) && rows.every((row) => hasGap(row, topK));
}

function smoothLogits(make: Variables, sizes: Sizes): Variable {
  const count = sizes.tokens * sizes.numExperts;
  for (let attempt = 0; attempt < 5000; attempt++) {
    const values = [...make.draw.floats(count, 2)];
    if (isSmooth(values, sizes)) return make.variable([sizes.tokens, sizes.numExperts], values);
  }
  throw new Error("no logits with gaps found");
}

const newGraph = (backend: Variables["backend"], record = false) => new Graph(backend, new Arena(backend), { record });

describe.each(gradientBackends)("gradients on %s agree with central differences", (_, backend) => {
  it.each([
    { name: "two groups", sizes: { tokens: 6, numExperts: 4, topK: 2, groups: 2, capacity: 1 } },
    { name: "one group", sizes: { tokens: 5, numExperts: 3, topK: 2, groups: 1, capacity: 3 } },
    { name: "no capacity", sizes: { tokens: 3, numExperts: 4, topK: 1, groups: 1, capacity: 0 } },
    { name: "every expert takes every token", sizes: { tokens: 3, numExperts: 2, topK: 2, groups: 1, capacity: 3 } },
    { name: "one expert", sizes: { tokens: 4, numExperts: 1, topK: 1, groups: 2, capacity: 2 } },
  ])("for experts that choose tokens: $name", ({ sizes }) => {
    const make = new Variables(backend, 5);
    const { tokens, numExperts, topK, groups, capacity } = sizes;
    const [width, inner] = [5, 3];
    const variables = {
      x: make.variable([tokens, width]),
      logits: smoothLogits(make, sizes),
      gateUp: make.variable([numExperts, 2 * inner, width]),
      down: make.variable([numExperts, width, inner]),
    };
    const weights = make.weights(tokens * width);
    const mask = make.variable(
      [tokens],
      Array.from({ length: tokens }, (_, t) => (t === 1 ? 0 : 1)),
    ).value;
    const { x, logits, gateUp, down } = variables;
    expectGradients(backend, variables, (graph) => {
      const routing = routeByExperts(graph, logits, { topK, groups, capacity, tokenMask: mask });
      routing.lossGradient.zCoef = 0.25;
      const z = routing.lse.data.reduce((sum, lse, t) => sum + (mask.data[t] as number) * 0.25 * lse ** 2, 0);
      return z + weightedSum(graph, experts(graph, x, routing, gateUp, down), weights);
    });
  });

  it.each(
    [false, true].flatMap((normTopkProb) => [
      { normTopkProb, tokens: 6, numExperts: 3, topK: 2, capacity: 2 },
      { normTopkProb, tokens: 4, numExperts: 5, topK: 3, capacity: 1 },
      { normTopkProb, tokens: 4, numExperts: 2, topK: 2, capacity: 1 },
      { normTopkProb, tokens: 5, numExperts: 4, topK: 1, capacity: 1 },
    ]),
  )("for slots that are dropped, %j", ({ normTopkProb, ...sizes }) => {
    const make = new Variables(backend, 6);
    const { tokens, numExperts, topK, capacity } = sizes;
    const [width, inner] = [4, 3];
    const variables = {
      x: make.variable([tokens, width]),
      logits: smoothLogits(make, { ...sizes, groups: 1, capacity: 0 }),
      gateUp: make.variable([numExperts, 2 * inner, width]),
      down: make.variable([numExperts, width, inner]),
    };
    const [weights, ofWeights] = [make.weights(tokens * width), make.weights(tokens * topK)];
    const { x, logits, gateUp, down } = variables;
    expectGradients(backend, variables, (graph) => {
      const routing = dropOverflow(graph, route(graph, logits, { topK, normTopkProb }), capacity);
      expect(routing.dropped).toBeGreaterThan(0);
      const out = weightedSum(graph, experts(graph, x, routing, gateUp, down), weights);
      return out + weightedSum(graph, routing.expertWeights, ofWeights);
    });
  });

  const granularities = [1, 2, 8, 64].flatMap((numExperts) =>
    [1, 2, 8].filter((topK) => topK <= numExperts).map((topK) => ({ numExperts, topK })),
  );
  it.each(granularities)("for any granularity, %j", ({ numExperts, topK }) => {
    const make = new Variables(backend, 7);
    const tokens = 3;
    // So far apart that a step of a logit leaves the order of the experts.
    const random = createRandom(7, "ranks");
    const rows = Array.from({ length: tokens }, () => [...shuffledOrder(numExperts, random)]);
    const values = rows.flat().map((rank) => 0.05 * rank);
    const variables = {
      x: make.variable([tokens, 2]),
      logits: make.variable([tokens, numExperts], values),
      gateUp: make.variable([numExperts, 2, 2]),
      down: make.variable([numExperts, 2, 1]),
    };
    const weights = make.weights(tokens * 2);
    const { x, logits, gateUp, down } = variables;
    expectGradients(backend, variables, (graph) => {
      const routing = route(graph, logits, { topK, normTopkProb: false });
      return weightedSum(graph, experts(graph, x, routing, gateUp, down), weights);
    });
  });
});

/** Probabilities of four tokens for three experts, as logits with a log-sum-exp of 0. */
const PROBS = [
  [0.48, 0.32, 0.2],
  [0.6, 0.3, 0.1],
  [0.1, 0.72, 0.18],
  [0.55, 0.05, 0.4],
];
/** No expert. */
const NO = -1;
const idsOf = ({ expertIds }: Routing) => [...expertIds.data];

describe.each(gradientBackends)("routeByExperts on %s", (_, backend) => {
  const make = new Variables(backend, 8);
  const logitsOf = (probs: readonly (readonly number[])[]) =>
    make.variable([probs.length, probs[0]?.length ?? 0], probs.flat().map(Math.log));

  it("lets each expert take the tokens that it is most probable for", () => {
    // floor(2 * 4 / 3) = 2 tokens: expert 0 takes 1 and 3, expert 1 takes 2 and 0, expert 2 takes 3 and 0.
    const routing = routeByExperts(newGraph(backend), logitsOf(PROBS), { topK: 2, groups: 1, capacity: 2 });
    // biome-ignore format: a row for each token
    expect(idsOf(routing)).toEqual([
      NO, 1, 2,
      0, NO, NO,
      NO, 1, NO,
      0, NO, 2,
    ]);
    const weights = [0, 0.32, 0.2, 0.6, 0, 0, 0, 0.72, 0, 0.55, 0, 0.4];
    expect(routing.expertWeights.value.data).toBeAllClose(weights, { atol: 1e-6 });
    expect([routing.rows, routing.dropped, routing.topK]).toEqual([6, 0, 2]);
    expect(routing.chosenIds).toBe(routing.expertIds);
  });

  it("chooses within each group by itself", () => {
    // One token of each pair for each expert. Of all four, expert 0 would take the first two and expert 1 the last two.
    const [a, b, c, d] = PROBS as [number[], number[], number[], number[]];
    const routing = routeByExperts(newGraph(backend), logitsOf([b, d, a, c]), { topK: 2, groups: 2, capacity: 1 });
    // biome-ignore format: a row for each token
    expect(idsOf(routing)).toEqual([
      0, 1, NO,
      NO, NO, 2,
      0, NO, 2,
      NO, 1, NO,
    ]);
  });

  it("adds up what the experts make of a token, and nothing where no expert took it", () => {
    // Width and inner width 1: expert e computes silu(x) * x * (e + 1), where silu(2) * 2 = 4 / (1 + exp(-2)).
    const x = make.variable([4, 1], [2, 2, 2, 2]);
    const [gateUp, down] = [make.variable([3, 2, 1], [1, 1, 1, 1, 1, 1]), make.variable([3, 1, 1], [1, 2, 3])];
    const graph = newGraph(backend);
    const routing = routeByExperts(graph, logitsOf(PROBS), { topK: 1, groups: 1, capacity: 1 });
    // Expert 0 takes token 1, expert 1 token 2, expert 2 token 3.
    const out = experts(graph, x, routing, gateUp, down).value.data;
    const unit = 4 / (1 + Math.exp(-2));
    expect(out).toBeAllClose([0, 0.6 * unit, 0.72 * 2 * unit, 0.4 * 3 * unit], { atol: 1e-5 });
  });

  it("takes equal tokens from the first on, and none without capacity", () => {
    const equal = make.variable([3, 2], new Float32Array(6));
    const choose = (capacity: number) =>
      idsOf(routeByExperts(newGraph(backend), equal, { topK: 1, groups: 1, capacity }));
    expect(choose(2)).toEqual([0, 1, 0, 1, NO, NO]);
    expect(choose(0)).toEqual([NO, NO, NO, NO, NO, NO]);
  });

  it("refuses groups that the tokens do not fill", () => {
    const logits = make.variable([4, 2]);
    const choose = (groups: number, capacity: number) => () =>
      routeByExperts(newGraph(backend), logits, { topK: 1, groups, capacity });
    expect(choose(3, 1)).toThrow(new ShapeError("expert choice: 4 tokens are not 3 runs of at least 1"));
    expect(choose(2, 3)).toThrow(new ShapeError("expert choice: 4 tokens are not 2 runs of at least 3"));
  });
});

describe.each(gradientBackends)("dropOverflow on %s", (_, backend) => {
  const make = new Variables(backend, 9);
  const logits = make.variable([4, 3], PROBS.flat().map(Math.log));

  it("keeps the first tokens of an expert and leaves the weights of the others as they were", () => {
    const graph = newGraph(backend);
    const chosen = route(graph, logits, { topK: 2, normTopkProb: true });
    const kept = dropOverflow(graph, chosen, 2);
    expect([...kept.chosenIds.data]).toEqual([0, 1, 0, 1, 1, 2, 0, 2]);
    // Expert 0 has token 3 beyond its two, expert 1 token 2; expert 2 has room for both of its tokens.
    expect(idsOf(kept)).toEqual([0, 1, 0, 1, -1, 2, -1, 2]);
    const weights = [0.6, 0.4, 2 / 3, 1 / 3, 0, 0.2, 0, 40 / 95];
    expect(kept.expertWeights.value.data).toBeAllClose(weights, { atol: 1e-6 });
    expect([kept.dropped, kept.rows, chosen.rows]).toEqual([2, 6, 8]);
    expect([...chosen.expertIds.data]).toEqual([...kept.chosenIds.data]);
  });

  it("lets a token pass by the experts when all of its slots are dropped", () => {
    const graph = newGraph(backend);
    const [x, gateUp, down] = [make.variable([4, 5]), make.variable([3, 4, 5]), make.variable([3, 5, 2])];
    const kept = dropOverflow(graph, route(graph, logits, { topK: 1, normTopkProb: false }), 1);
    expect(idsOf(kept)).toEqual([0, -1, 1, -1]);
    const out = experts(graph, x, kept, gateUp, down).value.data;
    expect([...out.subarray(5, 10), ...out.subarray(15, 20)]).toEqual(new Array(10).fill(0));
    expect([...out.subarray(0, 5)].every((value) => value !== 0)).toBe(true);
  });

  it("changes nothing where an expert could take every token", () => {
    const graph = newGraph(backend);
    const chosen = route(graph, logits, { topK: 2, normTopkProb: false });
    expect(dropOverflow(graph, chosen, 4)).toBe(chosen);
    const roomy = dropOverflow(graph, chosen, 3);
    expect([roomy.dropped, idsOf(roomy)]).toEqual([0, idsOf(chosen)]);
  });
});

it.each(gradientBackends)("a router that is not trained keeps its tensors for the experts, on %s", (_, backend) => {
  const make = new Variables(backend, 10);
  const graph = newGraph(backend, true);
  const frozen: Variable = { ...make.variable([4, 3], PROBS.flat().map(Math.log)), trainable: false };
  const routings = [
    route(graph, frozen, { topK: 2, normTopkProb: false }),
    routeByExperts(graph, frozen, { topK: 1, groups: 1, capacity: 1 }),
    dropOverflow(graph, route(graph, frozen, { topK: 1, normTopkProb: false }), 1),
  ];
  for (const shape of [[4, 3], [4], [4, 2]]) {
    for (let i = 0; i < 9; i++) graph.take(shape).data.fill(Number.NaN);
  }
  expect(routings.map(idsOf)).toEqual([
    [0, 1, 0, 1, 1, 2, 0, 2],
    [-1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2],
    [0, -1, 1, -1],
  ]);
  for (const { probs } of routings) expect(probs.data).toBeAllClose(PROBS.flat(), { atol: 1e-6 });
});
