/** What the gradient tests share: the backends they run on, random variables, and the check itself. */
import { expect } from "vitest";
import { checkGradients, type GradientComparison } from "../src/autograd/gradientCheck.ts";
import type { Graph, Variable } from "../src/autograd/graph.ts";
import type { Backend } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/io.ts";
import { createReferenceBackend } from "../src/backend/reference/backend.ts";
import { allocateTensor } from "../src/tensor/tensor.ts";
import { Draw } from "./conformance/harness.ts";

/** The reference and the best one of this machine, each under its name. */
export const gradientBackends: readonly (readonly [string, Backend])[] = [
  createReferenceBackend(),
  await openBackend(),
].map((backend) => [`${backend.name} ${backend.isa}`, backend]);

/** Largest distance of tape and differences, relative to a variable's largest gradient (see gradientCheck.ts). */
const TOLERANCE = 3e-4;

/** Draws variables from one seed. */
export class Variables {
  readonly backend: Backend;
  readonly draw: Draw;

  constructor(backend: Backend, seed: number) {
    this.backend = backend;
    this.draw = new Draw(seed);
  }

  /** A trainable variable without a gradient; default values are uniform in -1 .. 1. */
  variable(shape: readonly number[], values?: ArrayLike<number>): Variable {
    const value = allocateTensor(this.backend, "f32", shape);
    value.data.set(values ?? this.draw.floats(value.size));
    return { value, trainable: true, grad: undefined };
  }

  /** Weights for `weightedSum`. */
  weights(count: number): Float32Array {
    return this.draw.floats(count);
  }
}

/** Asserts that the tape's gradients are the differences. */
export function expectAgreement(comparisons: readonly GradientComparison[], tolerance = TOLERANCE): void {
  const off = comparisons.filter(({ error }) => !(error <= tolerance)).map(({ name, error }) => ({ name, error }));
  expect(off).toEqual([]);
}

/**
 * Asserts it twice: with gradients into variables that have none yet, as results of operations, and added to one they
 * hold already, as parameters do.
 */
export function expectGradients(
  backend: Backend,
  variables: Readonly<Record<string, Variable>>,
  loss: (graph: Graph) => number,
): void {
  for (const held of [false, true]) {
    for (const variable of Object.values(variables)) {
      variable.grad = held ? allocateTensor(backend, "f32", variable.value.shape) : undefined;
      variable.grad?.data.fill(0.5);
    }
    expectAgreement(checkGradients(backend, variables, loss));
  }
}
