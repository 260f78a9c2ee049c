import { describe, expect, it } from "vitest";
import { Arena } from "./arena.ts";
import type { Allocator, Block } from "./tensor.ts";

const MIB = 2 ** 20;

/** Plain memory that keeps a list of what was asked for and given back. */
class CountingAllocator implements Allocator {
  readonly asked: number[] = [];
  released = 0;

  allocate(byteLength: number): Block {
    const address = this.asked.reduce((sum, bytes) => sum + bytes, 64);
    this.asked.push(byteLength);
    const release = () => {
      this.released += 1;
    };
    return { address, byteLength, buffer: new ArrayBuffer(byteLength), byteOffset: 0, release };
  }
}

const setup = () => {
  const allocator = new CountingAllocator();
  return { allocator, arena: new Arena(allocator) };
};

describe("Arena", () => {
  it("gives tensors of any type, aligned to 64 bytes and apart", () => {
    const { arena } = setup();
    const tensors = [arena.take([3]), arena.take([5], "i32"), arena.take([9], "f64"), arena.take([1])];
    expect(tensors.map(({ pointer }) => pointer - 64)).toEqual([0, 64, 128, 256]);
    expect(tensors.map(({ data }) => data.constructor.name)).toEqual([
      "Float32Array",
      "Int32Array",
      "Float64Array",
      "Float32Array",
    ]);
  });

  it("takes what was released again, by size", () => {
    const { arena } = setup();
    const [first, second] = [arena.take([16]), arena.take([32])];
    arena.release(first);
    arena.release(second);
    expect(arena.take([8, 4]).pointer).toBe(second.pointer);
    expect(arena.take([10]).pointer).toBe(first.pointer);
    expect(arena.take([16]).pointer).toBe(second.pointer + 128);
  });

  it("ignores a second release, and tensors of others", () => {
    const { arena } = setup();
    const tensor = arena.take([16]);
    arena.release(tensor);
    arena.release(tensor);
    arena.release(new Arena(new CountingAllocator()).take([16]));
    expect(arena.take([16]).pointer).toBe(tensor.pointer);
    expect(arena.take([16]).pointer).not.toBe(tensor.pointer);
  });

  it("starts again from the first byte after a reset, in the same memory", () => {
    const { allocator, arena } = setup();
    const steps = Array.from({ length: 200 }, () => {
      arena.reset();
      const [a, b] = [arena.take([1000]), arena.take([2000])];
      arena.release(a);
      return [a.pointer, b.pointer];
    });
    expect(new Set(steps.map(String)).size).toBe(1);
    expect(allocator.asked).toEqual([8 * MIB]);
  });

  it("joins its chunks without the gaps between them at a reset, and asks for nothing more in steps of the same size", () => {
    const { allocator, arena } = setup();
    for (let step = 0; step < 5; step++) {
      arena.reset();
      for (let i = 0; i < 3; i++) arena.take([(5 * MIB) / 4]);
      arena.take([(20 * MIB) / 4]);
    }
    expect(allocator.asked).toEqual([8 * MIB, 8 * MIB, 8 * MIB, 20 * MIB, 35 * MIB]);
    expect(allocator.released).toBe(4);
    expect(arena.reservedBytes).toBe(35 * MIB);
  });

  it("gives everything back when disposed of, and can be used again", () => {
    const { allocator, arena } = setup();
    arena.take([4]);
    arena.take([16 * MIB]);
    arena.dispose();
    expect([allocator.released, arena.reservedBytes]).toEqual([2, 0]);
    expect(arena.take([4]).size).toBe(4);
    expect(arena.reservedBytes).toBe(8 * MIB);
  });
});
