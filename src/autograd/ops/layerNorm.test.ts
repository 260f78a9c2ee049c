import { describe, expect, it } from "vitest";
import { expectGradients, gradientBackends, Variables } from "../../../test/gradients.ts";
import { ShapeError } from "../../errors.ts";
import { Arena } from "../../tensor/arena.ts";
import { weightedSum } from "../gradientCheck.ts";
import { Graph } from "../graph.ts";
import { add } from "./basic.ts";
import { layerNorm } from "./layerNorm.ts";

const EPSILON = 0.1;

describe.each(gradientBackends)("layerNorm on %s", (_, backend) => {
  it.each([
    { rows: 4, columns: 6, width: 6, weight: true, bias: true },
    { rows: 3, columns: 37, width: 37, weight: true, bias: false },
    { rows: 3, columns: 8, width: 8, weight: false, bias: false },
    { rows: 3, columns: 12, width: 4, weight: true, bias: true },
  ])("has the gradients of central differences, %j", ({ rows, columns, width, ...there }) => {
    const make = new Variables(backend, 1);
    const x = make.variable([rows, columns], make.draw.floats(rows * columns, 2));
    const [weight, bias] = [make.variable([width]), make.variable([width])];
    const variables = { ...(there.weight ? { weight } : {}), ...(there.bias ? { bias } : {}) };
    const weights = make.weights(rows * columns);
    expectGradients(backend, { x, ...variables }, (graph) =>
      weightedSum(graph, layerNorm(graph, x, { width, ...variables, epsilon: EPSILON }), weights),
    );
  });

  it("adds its gradient to that of another use", () => {
    const make = new Variables(backend, 2);
    const x = make.variable([3, 5], make.draw.floats(15, 2));
    const weights = make.weights(15);
    expectGradients(backend, { x }, (graph) => {
      const shared = add(graph, x, x);
      const norm = layerNorm(graph, shared, { width: 5, epsilon: EPSILON });
      return weightedSum(graph, norm, weights) + weightedSum(graph, add(graph, shared, norm), weights);
    });
  });

  it("gives each group of columns mean 0 and variance 1", () => {
    const make = new Variables(backend, 3);
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const x = make.variable([1, 8], [1, 5, 1, 5, 100, 102, 102, 100]);
    const y = layerNorm(graph, x, { width: 4, epsilon: 1e-9 }).value.data;
    expect(y).toBeAllClose([-1, 1, -1, 1, -1, 1, 1, -1], { atol: 1e-6 });
  });

  it("refuses parameters and rows of another width", () => {
    const make = new Variables(backend, 4);
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const x = make.variable([2, 6]);
    expect(() => layerNorm(graph, x, { width: 4, epsilon: EPSILON })).toThrow(
      new ShapeError("layerNorm: x has 6 columns, not groups of 4"),
    );
    expect(() => layerNorm(graph, x, { width: 3, bias: make.variable([6]), epsilon: EPSILON })).toThrow(
      new ShapeError("layerNorm: groups of 3 columns, bias has 6 elements"),
    );
  });
});
