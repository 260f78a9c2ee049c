import { describe, expect, it } from "vitest";
import { expectGradients, gradientBackends, Variables } from "../../../test/gradients.ts";
import { ShapeError } from "../../errors.ts";
import { Arena } from "../../tensor/arena.ts";
import { weightedSum } from "../gradientCheck.ts";
import { Graph } from "../graph.ts";
import { add, clamp, embedding, linear, rmsNorm, swiglu } from "./basic.ts";

describe.each(gradientBackends)("gradients on %s agree with central differences", (_, backend) => {
  const setup = () => new Variables(backend, 1);

  it("for embedding, where ids occur several times and not at all", () => {
    const make = setup();
    const table = make.variable([5, 3]);
    const weights = make.weights(12);
    expectGradients(backend, { table }, (graph) =>
      weightedSum(graph, embedding(graph, table, graph.ids([4, 0, 4, 1])), weights),
    );
  });

  it.each([
    [1, 1, 1],
    [3, 7, 5],
    [20, 33, 18],
  ])("for linear, %i tokens, %i to %i", (tokens, width, outputs) => {
    const make = setup();
    const [x, weight] = [make.variable([tokens, width]), make.variable([outputs, width])];
    const weights = make.weights(tokens * outputs);
    expectGradients(backend, { x, weight }, (graph) => weightedSum(graph, linear(graph, x, weight), weights));
  });

  it("for add, of two variables and of one with itself", () => {
    const make = setup();
    const [a, b] = [make.variable([3, 4]), make.variable([3, 4])];
    const weights = make.weights(12);
    expectGradients(backend, { a, b }, (graph) => weightedSum(graph, add(graph, a, b), weights));
    expectGradients(backend, { a }, (graph) => weightedSum(graph, add(graph, a, a), weights));
  });

  it("for clamp, which stops the gradient of what it bounds", () => {
    const make = setup();
    // A quarter of the elements lies beyond each bound, and none within a step of it.
    const x = make.variable([2, 4], [-1, -0.6, -0.4, -0.1, 0.1, 0.4, 0.6, 1]);
    const weights = make.weights(8);
    expectGradients(backend, { x }, (graph) => weightedSum(graph, clamp(graph, x, 0.5), weights));
  });

  it.each([
    [1, 1],
    [4, 6],
    [3, 37],
  ])("for rmsNorm, %i rows of %i", (rows, width) => {
    const make = setup();
    // Away from 0, where the curvature of a row of one element is not of order 1.
    const away = make.draw.floats(rows * width).map((value) => value + Math.sign(value) / 2);
    const [x, weight] = [make.variable([rows, width], away), make.variable([width])];
    const weights = make.weights(rows * width);
    expectGradients(backend, { x, weight }, (graph) => weightedSum(graph, rmsNorm(graph, x, weight, 1e-1), weights));
  });

  it("for rmsNorm of each head with one weight", () => {
    const make = setup();
    const [x, weight] = [make.variable([3, 12], make.draw.floats(36, 2)), make.variable([4])];
    const weights = make.weights(36);
    expectGradients(backend, { x, weight }, (graph) => weightedSum(graph, rmsNorm(graph, x, weight, 1e-1), weights));
  });

  it("for swiglu", () => {
    const make = setup();
    const gateUp = make.variable([3, 10], make.draw.floats(30, 2));
    const weights = make.weights(15);
    expectGradients(backend, { gateUp }, (graph) => weightedSum(graph, swiglu(graph, gateUp), weights));
  });

  it("for a result that every operation uses, whose gradients add up", () => {
    const make = setup();
    const [a, b] = [make.variable([3, 4]), make.variable([3, 4])];
    const [norm, weight] = [make.variable([4]), make.variable([5, 4])];
    const weights = make.weights(15);
    expectGradients(backend, { a, b, norm, weight }, (graph) => {
      const shared = add(graph, a, b);
      const results = [
        swiglu(graph, shared),
        rmsNorm(graph, shared, norm, 0.1),
        linear(graph, shared, weight),
        clamp(graph, shared, 100),
        add(graph, b, shared),
      ];
      return results.reduce(
        (sum, result) => sum + weightedSum(graph, result, weights.subarray(0, result.value.size)),
        0,
      );
    });
  });
});

describe.each(gradientBackends)("on %s", (_, backend) => {
  const graph = new Graph(backend, new Arena(backend), { record: false });

  it("embedding refuses ids outside the table", () => {
    const table = new Variables(backend, 1).variable([5, 2]);
    expect(() => embedding(graph, table, graph.ids([0, 5, 9]))).toThrow(
      new ShapeError("embedding: id 5 at position 1 is outside 0..4"),
    );
    expect(() => embedding(graph, table, graph.ids([-1]))).toThrow(
      new ShapeError("embedding: id -1 at position 0 is outside 0..4"),
    );
  });

  it("linear and rmsNorm refuse weights of another width", () => {
    const make = new Variables(backend, 1);
    expect(() => linear(graph, make.variable([2, 3]), make.variable([4, 5]))).toThrow(
      new ShapeError("linear: x is [2, 3], weight [4, 5]"),
    );
    expect(() => rmsNorm(graph, make.variable([2, 3]), make.variable([4]), 1e-5)).toThrow(
      new ShapeError("rmsNorm: x has 3 columns, weight 4 elements"),
    );
  });
});
