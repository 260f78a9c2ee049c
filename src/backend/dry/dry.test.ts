import { describe, expect, it } from "vitest";
import { ResourceError } from "../../errors.ts";
import { allocateTensor } from "../../tensor/tensor.ts";
import { createDryBackend } from "./dry.ts";

describe("the dry backend", () => {
  it("counts what is held, rounded as native memory is, and the most that was held at once", () => {
    const backend = createDryBackend();
    const small = backend.allocate(100);
    const large = backend.allocate(2 ** 40 + 1);
    expect(backend.heldBytes).toBe(128 + 2 ** 40 + 2 ** 21);
    large.release();
    large.release();
    expect([backend.heldBytes, backend.peakBytes]).toEqual([128, 128 + 2 ** 40 + 2 ** 21]);
    small.release();
    expect(backend.heldBytes).toBe(0);
  });

  it("gives blocks addresses that are apart and not null, and tensors that read as zeros", () => {
    const backend = createDryBackend();
    const [a, b] = [allocateTensor(backend, "i32", [3]), allocateTensor(backend, "f64", [5])];
    expect(a.pointer).toBeGreaterThan(0);
    expect(b.pointer - a.pointer).toBe(64);
    a.data.set([1, 2, 3]);
    expect([...b.slice(1, [2]).data]).toEqual([0, 0]);
  });

  it("refuses to stand in for more than a gigabyte at once", () => {
    const tensor = allocateTensor(createDryBackend(), "f32", [2 ** 28 + 1]);
    expect(() => tensor.data).toThrow(new ResourceError("dry run: 1073741828 bytes read at once, at most 1073741824"));
  });

  it("runs the kernels that it is given instead of nothing", () => {
    const added: number[] = [];
    const { kernels } = createDryBackend({ add: (...args) => added.push(...args) });
    kernels.add(1, 2, 3, 4);
    expect([added, kernels.sumSquares(1, 9), kernels.firstNonfinite(1, 9)]).toEqual([[1, 2, 3, 4], 0, -1]);
  });
});
