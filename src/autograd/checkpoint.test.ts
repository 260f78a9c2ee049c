import { describe, expect, it } from "vitest";
import { expectGradients, gradientBackends, Variables } from "../../test/gradients.ts";
import { Arena } from "../tensor/arena.ts";
import { checkpoint } from "./checkpoint.ts";
import { weightedSum } from "./gradientCheck.ts";
import { Graph, type Variable } from "./graph.ts";
import { add, linear, rmsNorm, swiglu } from "./ops/basic.ts";

describe.each(gradientBackends)("checkpoint on %s", (_, backend) => {
  const make = new Variables(backend, 1);
  const weights = make.weights(4 * 6);
  const variables = {
    x: make.variable([4, 6]),
    norm: make.variable([6]),
    up: make.variable([10, 6]),
    down: make.variable([6, 5]),
  };
  const { x, norm, up, down } = variables;
  /** A residual block, which reads its input twice and gives back what it can on the way. */
  const block = (graph: Graph, input: Variable): Variable => {
    const products = linear(graph, rmsNorm(graph, input, norm, 1e-5), up);
    const activation = swiglu(graph, products);
    graph.discard(products);
    const out = add(graph, input, linear(graph, activation, down));
    graph.discard(activation, input);
    return out;
  };
  const part = (graph: Graph, input: Variable) => ({ out: block(graph, input), kept: [] });

  it("gives gradients that agree with central differences, of its input and of parameters inside", () => {
    expectGradients(backend, variables, (graph) => {
      const inner = checkpoint(graph, checkpoint(graph, x, part), part);
      return weightedSum(graph, inner, weights);
    });
  });

  /** Output and gradients of two blocks in a row. */
  function outcome(run: (graph: Graph, input: Variable) => Variable, trainable: boolean) {
    for (const variable of Object.values(variables)) variable.grad = undefined;
    const arena = new Arena(backend);
    const graph = new Graph(backend, arena, { record: true });
    const out = run(graph, run(graph, { value: x.value, trainable, grad: undefined }));
    const value = out.value.data.slice();
    weightedSum(graph, out, weights);
    graph.backward();
    const gradients = [norm, up, down].map(({ grad }) => grad?.data.slice());
    arena.dispose();
    return { value, gradients };
  }

  it("gives the bits of the same part without it, whether its input wants a gradient or not", () => {
    for (const trainable of [true, false]) {
      expect(outcome((graph, input) => checkpoint(graph, input, part), trainable)).toEqual(outcome(block, trainable));
    }
  });

  it("gives everything back but its output and what is kept, and that when the gradient has passed", () => {
    const arena = new Arena(backend);
    const graph = new Graph(backend, arena, { record: true });
    const kept = new Set<number>();
    const out = checkpoint(graph, x, (inner, input) => {
      const tensor = inner.take([100]);
      kept.add(tensor.pointer);
      return { out: block(inner, input), kept: [tensor] };
    });
    // The first place that was taken is still held; its neighbours are free again.
    expect(kept.has(graph.take([100]).pointer)).toBe(false);
    weightedSum(graph, out, weights);
    graph.backward();
    expect(kept.has(graph.take([100]).pointer)).toBe(true);
    arena.dispose();
  });
});
