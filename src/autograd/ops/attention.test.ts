import { describe, expect, it } from "vitest";
import { expectGradients, gradientBackends, Variables } from "../../../test/gradients.ts";
import { Arena } from "../../tensor/arena.ts";
import { allocateTensor } from "../../tensor/tensor.ts";
import { weightedSum } from "../gradientCheck.ts";
import { Graph } from "../graph.ts";
import { attention, fillRotaryTable, rope, rotaryFrequencies } from "./attention.ts";
import { add } from "./basic.ts";

describe.each(gradientBackends)("gradients on %s agree with central differences", (_, backend) => {
  it("for rope, at positions in any order", () => {
    const make = new Variables(backend, 1);
    const table = { cosine: allocateTensor(backend, "f32", [9, 3]), sine: allocateTensor(backend, "f32", [9, 3]) };
    fillRotaryTable(table, rotaryFrequencies(100, 3));
    const [a, b] = [make.variable([4, 12]), make.variable([4, 12])];
    const weights = make.weights(48);
    // The sum in between, because rope works in place.
    expectGradients(backend, { a, b }, (graph) =>
      weightedSum(graph, rope(graph, add(graph, a, b), graph.ids([8, 0, 3, 3]), table, 2), weights),
    );
  });

  it.each([
    { heads: 1, kvHeads: 1, documents: false },
    { heads: 4, kvHeads: 4, documents: true },
    { heads: 4, kvHeads: 2, documents: false },
    { heads: 6, kvHeads: 2, documents: true },
    { heads: 3, kvHeads: 1, documents: true },
  ])("for attention of $heads heads over $kvHeads, documents $documents", ({ heads, kvHeads, documents }) => {
    const make = new Variables(backend, 2);
    const [batch, length, channels] = [2, 5, 4];
    const tokens = batch * length;
    const q = make.variable([tokens, heads * channels], make.draw.floats(tokens * heads * channels, 2));
    const [k, v] = [make.variable([tokens, kvHeads * channels]), make.variable([tokens, kvHeads * channels])];
    const weights = make.weights(q.value.size);
    expectGradients(backend, { q, k, v }, (graph) => {
      const kvStart = documents ? graph.ids([0, 0, 2, 2, 4, 0, 1, 1, 1, 1]) : undefined;
      return weightedSum(graph, attention(graph, q, k, v, { batch, heads, kvHeads, kvStart }), weights);
    });
  });

  it("for attention of a variable with itself as query, key and value", () => {
    const make = new Variables(backend, 3);
    const x = make.variable([6, 8]);
    const weights = make.weights(48);
    expectGradients(backend, { x }, (graph) =>
      weightedSum(graph, attention(graph, x, x, x, { batch: 1, heads: 2, kvHeads: 2 }), weights),
    );
  });
});

describe.each(gradientBackends)("attention on %s", (_, backend) => {
  it("gives the mean of the visible values where all scores are equal", () => {
    const make = new Variables(backend, 1);
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const q = make.variable([4, 2], new Float32Array(8));
    const v = make.variable([4, 2], [1, 10, 3, 30, 5, 50, 7, 70]);
    const options = { batch: 1, heads: 1, kvHeads: 1, kvStart: graph.ids([0, 0, 2, 2]) };
    const out = attention(graph, q, q, v, options);
    expect(out.value.data).toBeAllClose([1, 10, 2, 20, 5, 50, 6, 60], { atol: 1e-6, rtol: 1e-6 });
  });
});

describe("fillRotaryTable", () => {
  it("holds the cosine and sine of position * theta^(-2 j / C)", () => {
    const [, backend] = gradientBackends[0] as (typeof gradientBackends)[number];
    const table = { cosine: allocateTensor(backend, "f32", [3, 2]), sine: allocateTensor(backend, "f32", [3, 2]) };
    fillRotaryTable(table, rotaryFrequencies(100, 2));
    const angles = [0, 0, 1, 0.1, 2, 0.2];
    expect(table.cosine.data).toBeAllClose(angles.map(Math.cos), { atol: 1e-7 });
    expect(table.sine.data).toBeAllClose(angles.map(Math.sin), { atol: 1e-7 });
    fillRotaryTable(table, { ...rotaryFrequencies(100, 2), amplitude: 3 });
    expect(table.sine.data).toBeAllClose(
      angles.map((angle) => 3 * Math.sin(angle)),
      { atol: 3e-7 },
    );
  });
});
