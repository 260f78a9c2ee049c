/**
 * Compares a tape with central differences: every element of a variable is moved up and down by a step h, and the change
 * of the loss over 2 h is what the gradient has to be.
 *
 * How close that is: the differences are off by h^2 / 6 times the third derivative, and by the rounding of the forward
 * pass over h. Passes are f32, with a relative rounding of 2^-24 = 6e-8 for each value that the moved element reaches, but
 * the loss is summed in f64, and what the element does not reach cancels. For values and derivatives of order 1 the two
 * errors balance near h = (3 * 6e-8)^(1/3) = 6e-3, where each is about 1e-5; STEP is the power of two beside it, so that
 * the moved elements are hardly rounded. Sums over tens of terms and third derivatives of a few units leave up to 1e-4 of
 * the largest gradient, while a wrong formula is off by a part of order 1: 3e-4 tells the two apart.
 */
import type { Backend } from "../backend/backend.ts";
import { ShapeError } from "../errors.ts";
import { Arena } from "../tensor/arena.ts";
import { Graph, type Variable } from "./graph.ts";

const STEP = 2 ** -7;
/** More than a pass of the sizes that can be checked takes: 1 MiB. */
const UNSET_ELEMENTS = 2 ** 18;

/** One variable's gradient from both sources. */
export interface GradientComparison {
  readonly name: string;
  /** What the tape adds to the variable's gradient. */
  readonly tape: Float64Array;
  /** Central differences of the loss. */
  readonly differences: Float64Array;
  /** Largest distance between the two over the largest difference; the distance itself where all differences are 0. */
  readonly error: number;
}

/**
 * Adds sum(output * weights) to a scalar loss: returns it, and hands `weights` to the tape as the output's gradient.
 * @param weights one for each element of the output, representable in f32.
 * @throws ShapeError where the counts differ.
 */
export function weightedSum(graph: Graph, output: Variable, weights: ArrayLike<number>): number {
  if (weights.length !== output.value.size) {
    throw new ShapeError(`weightedSum: ${weights.length} weights, the output has ${output.value.size} elements`);
  }
  if (output.trainable) {
    const grad = graph.take(output.value.shape);
    grad.data.set(weights);
    graph.give(output, grad);
  }
  return output.value.data.reduce((sum, value, index) => sum + value * (weights[index] as number), 0);
}

/**
 * Checks the gradients of a scalar function with respect to every element of the given variables, at the cost of two
 * forward passes for each. Values and gradients are as before afterwards.
 *
 * @param variables what is moved; none may be changed in place by an operation.
 * @param loss runs a pass on the graph, gives the tape its gradients (losses do so by themselves, `weightedSum` does it
 *   for any other variable) and returns the loss. It must be smooth within one step of the variables' values: no expert
 *   may be chosen anew, no bound be reached.
 */
export function checkGradients(
  backend: Backend,
  variables: Readonly<Record<string, Variable>>,
  loss: (graph: Graph) => number,
  step = STEP,
): GradientComparison[] {
  const arena = new Arena(backend);
  // Memory of a pass is undefined at first: what reads it unset has to show.
  arena.take([UNSET_ELEMENTS]).data.fill(Number.NaN);
  const pass = (record: boolean) => {
    arena.reset();
    const graph = new Graph(backend, arena, { record });
    return { graph, value: loss(graph) };
  };
  try {
    const before = Object.values(variables).map(({ grad }) => grad?.data.slice());
    pass(true).graph.backward();
    const tapes = Object.values(variables).map((variable, index) => takeGradient(variable, before[index]));
    return Object.entries(variables).map(([name, variable], index) => {
      const tape = tapes[index] as Float64Array;
      const differences = centralDifferences(variable, () => pass(false).value, step);
      return { name, tape, differences, error: distance(tape, differences) };
    });
  } finally {
    arena.dispose();
  }
}

/** The gradient that a pass has added; puts back what was there. */
function takeGradient(variable: Variable, before: Float32Array | undefined): Float64Array {
  const tape = Float64Array.from(variable.grad?.data ?? new Float32Array(variable.value.size));
  if (before === undefined) variable.grad = undefined;
  else variable.grad?.data.set(before);
  return before === undefined ? tape : tape.map((value, index) => value - (before[index] as number));
}

function centralDifferences({ value }: Variable, loss: () => number, step: number): Float64Array {
  return Float64Array.from({ length: value.size }, (_, index) => {
    // The view is taken anew each time: a pass may move the memory. What is stored is rounded, so it is read back.
    const at = (moved: number) => {
      value.data[index] = moved;
      return { x: value.data[index] as number, loss: loss() };
    };
    const kept = value.data[index] as number;
    const [above, below] = [at(kept + step), at(kept - step)];
    value.data[index] = kept;
    return (above.loss - below.loss) / (above.x - below.x);
  });
}

/** Largest |a - b| over the largest |b|. NaN counts as infinitely far. */
function distance(a: Float64Array, b: Float64Array): number {
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const furthest = a.reduce((most, value, index) => Math.max(most, Math.abs(value - (b[index] as number))), 0);
  if (Number.isNaN(furthest)) return Number.POSITIVE_INFINITY;
  return largest === 0 ? furthest : furthest / largest;
}
