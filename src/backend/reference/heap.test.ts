import { describe, expect, it } from "vitest";
import { ResourceError } from "../../errors.ts";
import { allocateTensor } from "../../tensor/tensor.ts";
import { Heap } from "./heap.ts";

describe("Heap", () => {
  it("never gives out address 0", () => {
    expect(new Heap().allocate(1).address).toBe(64);
  });

  it("keeps the content of tensors while it grows", () => {
    const heap = new Heap();
    const tensor = allocateTensor(heap, "f32", [3]);
    tensor.data.set([1, 2, 3]);
    heap.allocate(1_000_000);
    expect([...tensor.data]).toEqual([1, 2, 3]);
    expect([...heap.f32(tensor.pointer).subarray(0, 3)]).toEqual([1, 2, 3]);
  });

  it("joins neighbouring holes and uses them again", () => {
    const heap = new Heap();
    const blocks = [100, 200, 300].map((bytes) => heap.allocate(bytes));
    const { address } = blocks[0]!;
    for (const block of [blocks[0]!, blocks[2]!, blocks[1]!]) block.release();
    expect(heap.allocate(60_000).address).toBe(address);
  });

  it("takes the first hole that fits", () => {
    const heap = new Heap();
    const [small, , large] = [64, 64, 256, 64].map((bytes) => heap.allocate(bytes));
    small!.release();
    large!.release();
    expect(heap.allocate(128).address).toBe(large!.address);
    expect(heap.allocate(64).address).toBe(small!.address);
  });

  it("lets a block be released once only", () => {
    const heap = new Heap();
    const block = heap.allocate(64);
    block.release();
    const next = heap.allocate(64);
    block.release();
    expect(heap.allocate(64).address).not.toBe(next.address);
  });

  it("does not grow when blocks come and go", () => {
    const heap = new Heap();
    const sizes = [10_000, 20_000, 5_000];
    for (let i = 0; i < 500; i++) {
      const blocks = sizes.map((bytes) => heap.allocate(bytes));
      for (const block of blocks) block.release();
    }
    expect(heap.allocate(64).buffer.byteLength).toBe(65_536);
  });

  it("says how much was asked when there is no memory", () => {
    const attempt = () => new Heap().allocate(2 ** 40);
    expect(attempt).toThrow(ResourceError);
    expect(attempt).toThrow(
      "reference heap: out of memory, 1099511627776 bytes asked, heap has 65536, limit is 4294967296",
    );
  });

  it.each([-1, 0.5, Number.NaN, Infinity])("refuses %s bytes", (byteLength) => {
    expect(() => new Heap().allocate(byteLength)).toThrow(
      new ResourceError(`reference heap: can not allocate ${byteLength} bytes, expected a count`),
    );
  });
});
