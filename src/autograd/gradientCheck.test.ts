import { describe, expect, it } from "vitest";
import { gradientBackends, Variables } from "../../test/gradients.ts";
import { checkGradients, weightedSum } from "./gradientCheck.ts";
import type { Graph, Variable } from "./graph.ts";

/** y = x^2, whose backward pass gives `factor` * x. */
function square(graph: Graph, x: Variable, factor: number): Variable {
  const y = graph.take(x.value.shape);
  y.data.set(x.value.data.map((value) => value * value));
  return graph.node(y, [x], [], (dy) => {
    const dx = graph.take(x.value.shape);
    dx.data.set(dy.data.map((value, i) => value * factor * (x.value.data[i] as number)));
    graph.release(dy);
    graph.give(x, dx);
  });
}

describe.each(gradientBackends)("checkGradients on %s", (_, backend) => {
  const VALUES = [1, -0.5, 0.25];
  const check = (factor: number, grad?: number[]) => {
    const make = new Variables(backend, 1);
    const x = make.variable([3], VALUES);
    if (grad !== undefined) x.grad = make.variable([3], grad).value;
    const loss = (graph: Graph) => weightedSum(graph, square(graph, x, factor), [1, 2, 4]);
    return { x, comparisons: checkGradients(backend, { x }, loss) };
  };

  it("gives both gradients and a small error where the tape is right", () => {
    const [comparison] = check(2).comparisons;
    expect(comparison?.name).toBe("x");
    expect(comparison?.tape).toEqual(Float64Array.of(2, -2, 2));
    expect(comparison?.differences).toBeAllClose([2, -2, 2], { atol: 1e-5 });
    expect(comparison?.error).toBeLessThan(1e-5);
  });

  it("shows a wrong factor as the error", () => {
    expect(check(3).comparisons[0]?.error).toBeCloseTo(0.5, 4);
  });

  it("shows a gradient that is not a number, or missing", () => {
    expect(check(Number.NaN).comparisons[0]?.error).toBe(Number.POSITIVE_INFINITY);
    const x = new Variables(backend, 1).variable([1], [1]);
    const [comparison] = checkGradients(backend, { x }, (graph) => graph.constant(x.value).value.data[0] as number);
    expect([...(comparison?.tape ?? []), comparison?.error]).toEqual([0, 1]);
  });

  it("leaves values and gradients as they were", () => {
    const { x } = check(2, [5, 6, 7]);
    expect([...x.value.data, ...(x.grad?.data ?? [])]).toEqual([...VALUES, 5, 6, 7]);
    expect(check(2).x.grad).toBeUndefined();
    expect(check(2, [5, 6, 7]).comparisons[0]?.tape).toEqual(Float64Array.of(2, -2, 2));
  });
});
