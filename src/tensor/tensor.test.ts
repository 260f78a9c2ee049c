import { describe, expect, it } from "vitest";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { ShapeError } from "../errors.ts";
import { allocateTensor, elementBytes, formatShape, shapeSize, Tensor } from "./tensor.ts";

const backend = createReferenceBackend();
const counted = (shape: readonly number[]) => {
  const tensor = allocateTensor(backend, "f32", shape);
  tensor.data.set(Array.from({ length: tensor.size }, (_, i) => i));
  return tensor;
};

describe("Tensor", () => {
  it("is zero at first and has the size, bytes and typed array of its type", () => {
    expect(allocateTensor(backend, "f32", [2, 3]).data).toEqual(new Float32Array(6));
    expect(allocateTensor(backend, "i32", [2]).data).toEqual(new Int32Array(2));
    expect(allocateTensor(backend, "f64", []).data).toEqual(new Float64Array(1));
    expect(allocateTensor(backend, "f64", [2, 2]).byteLength).toBe(32);
    expect([elementBytes("f32"), elementBytes("i32"), elementBytes("f64")]).toEqual([4, 4, 8]);
  });

  it("slices and reshapes over the same memory", () => {
    const tensor = counted([4, 3]);
    const rows = tensor.slice(3, [2, 3]);
    expect([...rows.data]).toEqual([3, 4, 5, 6, 7, 8]);
    expect(rows.pointer).toBe(tensor.pointer + 12);
    rows.reshape([6]).data[0] = 30;
    expect(tensor.data[3]).toBe(30);
    expect([...rows.slice(2, [2]).data]).toEqual([5, 6]);
  });

  it("tells its dimensions from either end", () => {
    const tensor = counted([4, 3]);
    expect([tensor.dim(0), tensor.dim(1), tensor.dim(-1), tensor.dim(-2)]).toEqual([4, 3, 3, 4]);
    expect(() => tensor.dim(2)).toThrow(new ShapeError("tensor: [4, 3] has no axis 2"));
  });

  it("refuses shapes that do not fit", () => {
    const tensor = counted([4, 3]);
    expect(() => tensor.reshape([5, 2])).toThrow(new ShapeError("tensor: can not reshape [4, 3] to [5, 2]"));
    for (const start of [-1, 10]) {
      const message = `tensor: [3] from element ${start} is outside [4, 3]`;
      expect(() => tensor.slice(start, [3])).toThrow(new ShapeError(message));
    }
    expect(() => new Tensor(backend.allocate(64), "f64", [8], 8)).toThrow(
      new ShapeError("tensor: f64 [8] at byte 8 needs 64 bytes, the block has 64"),
    );
  });

  it("keeps its content when the memory grows and moves", () => {
    const tensor = counted([5]);
    backend.allocate(2 ** 22);
    expect([...tensor.data]).toEqual([0, 1, 2, 3, 4]);
  });
});

describe("shapes", () => {
  it("have a size and a written form", () => {
    expect([shapeSize([2, 3, 4]), shapeSize([]), shapeSize([3, 0])]).toEqual([24, 1, 0]);
    expect([formatShape([2, 3]), formatShape([])]).toEqual(["[2, 3]", "[]"]);
  });
});
