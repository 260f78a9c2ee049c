import { describe, expect, it } from "vitest";
import { gradientBackends, Variables } from "../../test/gradients.ts";
import { Arena } from "../tensor/arena.ts";
import { weightedSum } from "./gradientCheck.ts";
import { Graph, type Variable } from "./graph.ts";
import { add, linear, rmsNorm, swiglu } from "./ops/basic.ts";

const [, backend] = gradientBackends[0] as (typeof gradientBackends)[number];

const [, fastBackend] = gradientBackends.at(-1) as (typeof gradientBackends)[number];

const setup = (record: boolean, on = backend) => {
  const arena = new Arena(on);
  return { arena, graph: new Graph(on, arena, { record }), make: new Variables(on, 1) };
};
const frozen = (variable: Variable): Variable => ({ ...variable, trainable: false });

describe("Graph", () => {
  it("adds up the gradients of a variable that is used twice", () => {
    const { graph, make } = setup(true);
    const x = make.variable([1, 2], [1, 2]);
    const weight = make.variable([1, 2], [10, 100]);
    // y = x . w + x . w, so dx = 2 w and dw = 2 x.
    weightedSum(graph, add(graph, linear(graph, x, weight), linear(graph, x, weight)), [1]);
    graph.backward();
    expect([...(x.grad?.data ?? [])]).toEqual([20, 200]);
    expect([...(weight.grad?.data ?? [])]).toEqual([2, 4]);
  });

  it("adds to the gradient that a parameter holds from an earlier pass", () => {
    const { arena, graph, make } = setup(true);
    const x = make.variable([1, 1], [3]);
    const weight = make.variable([1, 1], [5]);
    weight.grad = make.variable([1, 1], [0]).value;
    for (const expected of [3, 6]) {
      weightedSum(graph, linear(graph, frozen(x), weight), [1]);
      graph.backward();
      expect([...weight.grad.data]).toEqual([expected]);
      arena.reset();
    }
  });

  it("gives no gradient to an input that is not trainable", () => {
    const { graph, make } = setup(true);
    const [x, weight] = [frozen(make.variable([2, 3])), make.variable([4, 3])];
    weightedSum(graph, linear(graph, x, weight), make.weights(8));
    graph.backward();
    expect(x.grad).toBeUndefined();
    expect(weight.grad?.shape).toEqual([4, 3]);
  });

  it("keeps nothing on the tape for inputs of which none is trainable", () => {
    const { graph, make } = setup(true);
    const [x, weight] = [frozen(make.variable([2, 3])), frozen(make.variable([4, 3]))];
    const y = linear(graph, x, weight);
    expect(y.trainable).toBe(false);
    graph.backward();
    // A node on the tape would have given its value back.
    expect(graph.take([2, 4]).pointer).not.toBe(y.value.pointer);
  });

  it("records nothing when record is false, and gives back at once what is saved for the way back", () => {
    const { graph, make } = setup(false);
    const [x, weight] = [make.variable([2, 3]), make.variable([3])];
    const y = rmsNorm(graph, x, weight, 1e-5);
    const saved = graph.take([2]);
    expect(saved.pointer).toBe(y.value.pointer + 64);
    graph.backward();
    expect([y.trainable, y.grad, x.grad, weight.grad]).toEqual([false, undefined, undefined, undefined]);
  });

  it("discards values only when nothing is recorded", () => {
    const values = [true, false].map((record) => {
      const { graph, make } = setup(record);
      const y = swiglu(graph, make.variable([2, 4]));
      graph.discard(y);
      return graph.take([2, 2]).pointer === y.value.pointer;
    });
    expect(values).toEqual([false, true]);
  });

  it("gives results and what was saved for them back when their node has run", () => {
    const { graph, make } = setup(true);
    const y = rmsNorm(graph, make.variable([2, 3]), make.variable([3]), 1e-5);
    weightedSum(graph, y, make.weights(6));
    graph.backward();
    // The result and, after it, one number for each row.
    const again = [graph.take([2, 3]).pointer, graph.take([2]).pointer].sort((a, b) => a - b);
    expect(again).toEqual([y.value.pointer, y.value.pointer + 64]);
  });

  it("gives all memory of a pass back on the way, except the gradients of its leaves", () => {
    const { arena, graph, make } = setup(true, fastBackend);
    const [x, norm, weight] = [make.variable([1000, 512]), make.variable([512]), make.variable([512, 512])];
    const used = () => {
      const chain = Array.from({ length: 8 }).reduce<Variable>(
        (y) => linear(graph, rmsNorm(graph, y, norm, 1e-5), weight),
        x,
      );
      weightedSum(graph, chain, new Float32Array(512_000));
      graph.backward();
      return arena.reservedBytes;
    };
    // Without a reset: a second pass finds room in what the first gave back.
    const first = used();
    expect(used()).toBe(first);
  });
});
