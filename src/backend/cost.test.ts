import { describe, expect, it } from "vitest";
import { kernelCost } from "./cost.ts";

describe("kernelCost", () => {
  it("counts two operations for each multiply-add of a product, and its operands once, the result twice when added to", () => {
    expect(kernelCost("gemm", [0, 1, 3, 5, 7, 1, 7, 1, 7, 1, 5, 0])).toEqual({ flops: 210, bytes: 4 * (21 + 35 + 15) });
    expect(kernelCost("gemm", [1, 0, 3, 5, 7, 1, 3, 1, 5, 1, 5, 1])).toEqual({ flops: 210, bytes: 4 * (21 + 35 + 30) });
    expect(kernelCost("gemm", [0, 0, 3, 5, 0, 1, 1, 1, 1, 1, 5, 0]).flops).toBe(0);
  });

  it("counts attention by the pairs that see each other, and twice as much on the way back", () => {
    const forward = (queries: number, keys: number) =>
      kernelCost("attentionForward", [1, 8, 1, 8, 1, 8, 1, 8, 0, 0, 2, queries, keys, keys, 4, 2, 16, 0.25]).flops;
    // 2 sequences x 4 heads x 16 channels x 2 products x 2; 1 + 2 + 3 pairs.
    expect(forward(3, 3)).toBe(2 * 4 * 16 * 4 * 6);
    // The last two of ten positions see nine and ten keys.
    expect(forward(2, 10)).toBe(2 * 4 * 16 * 4 * 19);
    const operands = Array.from({ length: 18 }, () => 1);
    expect(kernelCost("attentionBackward", [...operands, 2, 3, 4, 2, 16, 0.25]).flops).toBe(2 * forward(3, 3));
  });

  it("counts attention over a cache as that of equal sequences, and its keys and values in the type that they have", () => {
    const cost = (count: number, queries: number, keys: number, type: number) =>
      kernelCost("pagedAttention", [1, 8, 1, 1, 1, 1, 8, count, queries, keys, 4, 2, 48, type, 0.25]);
    const forward = kernelCost("attentionForward", [1, 8, 1, 8, 1, 8, 1, 8, 0, 0, 2, 3, 10, 10, 4, 2, 48, 0.25]);
    expect(cost(2, 6, 20, 0).flops).toBe(forward.flops);
    // Queries and results in f32; 20 positions of 2 heads, keys and values: 48 channels of 4, 2 or 1 bytes and two scales.
    const rows = 2 * 4 * 6 * 4 * 48;
    expect([0, 1, 8].map((type) => cost(2, 6, 20, type).bytes - rows)).toEqual([80 * 192, 80 * 96, 80 * (48 + 4)]);
    expect(cost(0, 0, 0, 1)).toEqual({ flops: 0, bytes: 0 });
    const stored = kernelCost("cacheStore", [1, 8, 1, 8, 1, 1, 5, 2, 48, 1]);
    expect(stored).toEqual({ flops: 0, bytes: 5 * 2 * 2 * 48 * (4 + 2) });
  });

  it("counts the experts by the rows that are routed, and the weights' gradients only where they are wanted", () => {
    const sizes = [10, 8, 2, 6, 5];
    const products = 20 * 6 * 5 * 2;
    expect(kernelCost("moeForward", [...Array.from({ length: 10 }, () => 1), ...sizes]).flops).toBe(3 * products);
    const backward = (dgateUp: number, ddown: number) =>
      kernelCost("moeBackward", [...Array.from({ length: 13 }, () => 1), dgateUp, ddown, 1, 1, ...sizes]).flops;
    // 13 of the 20 slots have an expert.
    const known = kernelCost("moeForward", [...Array.from({ length: 10 }, () => 1), ...sizes], 13);
    expect(known.flops).toBe(6 * 6 * 5 * 13);
    expect([backward(1, 1), backward(0, 0), backward(0, 1)]).toEqual([6 * products, 3 * products, 4 * products]);
  });

  it("moves seven floats for each parameter that AdamW updates", () => {
    expect(kernelCost("adamw", [1, 1, 1, 1, 100, 1, 1, 1, 1, 1, 1, 1, 1])).toEqual({ flops: 0, bytes: 2800 });
  });
});
