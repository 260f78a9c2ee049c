/** Values worked out by hand, so that the oracle itself stands on something. */
import { describe, expect, it } from "vitest";
import { allocateTensor } from "../../tensor/tensor.ts";
import { createReferenceBackend } from "./backend.ts";

const backend = createReferenceBackend();
const { kernels } = backend;
const CLOSE = { atol: 1e-6 };

/** A tensor of its own with the values, or with `values` zeros. */
function floats(values: readonly number[] | number) {
  const tensor = allocateTensor(backend, "f32", [typeof values === "number" ? values : values.length]);
  if (typeof values !== "number") tensor.data.set(values);
  return tensor;
}

function ints(values: readonly number[] | number) {
  const tensor = allocateTensor(backend, "i32", [typeof values === "number" ? values : values.length]);
  if (typeof values !== "number") tensor.data.set(values);
  return tensor;
}

describe("the reference backend", () => {
  it("describes itself", () => {
    const { name, isa, threads } = backend;
    expect({ name, isa, threads }).toEqual({ name: "reference", isa: "typescript", threads: 1 });
    expect(kernels.cpuFeatures()).toBe(0);
    expect(kernels.setThreads(8)).toBe(1);
    expect(kernels.fmaBurst(50)).toBe(100);
  });

  it("clamps to the limit in f32, and passes gradients at the limit itself", () => {
    const [x, dy] = [floats([-2, -0.1, 0, 0.1, 2]), floats([1, 2, 3, 4, 5])];
    const [y, dx] = [floats(5), floats(5)];
    kernels.clampForward(x.pointer, 5, y.pointer, 5, 1, 5, 0.1);
    kernels.clampBackward(x.pointer, 5, dy.pointer, 5, dx.pointer, 5, 1, 5, 0.1);
    expect([...y.data]).toEqual([-0.1, -0.1, 0, 0.1, 0.1].map(Math.fround));
    expect([...dx.data]).toEqual([0, 2, 3, 4, 0]);
  });

  it("sums squares, reads repeatedly and finds what is not finite", () => {
    const x = floats([1, -2, 3, Infinity, Number.NaN]);
    expect(kernels.sumSquares(x.pointer, 3)).toBe(14);
    expect(kernels.readBurst(x.pointer, 3, 2)).toBe(4);
    expect(kernels.firstNonfinite(x.pointer, 5)).toBe(3);
    expect(kernels.firstNonfinite(x.pointer, 3)).toBe(-1);
  });

  it.each([
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ] as const)("multiplies matrices (transposed %s, %s)", (transposeA, transposeB) => {
    // [[1, 2, 3], [4, 5, 6]] times [[1, 0], [0, 1], [2, -1]] is [[7, -1], [16, -1]].
    const a = floats(transposeA ? [1, 4, 2, 5, 3, 6] : [1, 2, 3, 4, 5, 6]);
    const b = floats(transposeB ? [1, 0, 2, 0, 1, -1] : [1, 0, 0, 1, 2, -1]);
    const c = floats([1, 1, 1, 1]);
    const [lda, ldb] = [transposeA ? 2 : 3, transposeB ? 3 : 2];
    kernels.gemm(transposeA, transposeB, 2, 2, 3, a.pointer, lda, b.pointer, ldb, c.pointer, 2, 1);
    expect([...c.data]).toEqual([8, 0, 17, 0]);
    kernels.gemm(transposeA, transposeB, 2, 2, 3, a.pointer, lda, b.pointer, ldb, c.pointer, 2, 0);
    expect([...c.data]).toEqual([7, -1, 16, -1]);
  });

  it("normalises by the root of the mean square", () => {
    const [x, weight, y, rstd] = [floats([3, 4, 0, 0]), floats([1, 2, 1, 1]), floats(4), floats(1)];
    kernels.rmsnormForward(x.pointer, 4, weight.pointer, y.pointer, 4, rstd.pointer, 1, 4, 0);
    expect(rstd.data).toBeAllClose([0.4], CLOSE);
    expect(y.data).toBeAllClose([1.2, 3.2, 0, 0], CLOSE);
  });

  it("normalises by mean and variance, with and without parameters", () => {
    // The mean is 3, the variance 4.
    const [x, weight, bias] = [floats([1, 5, 1, 5]), floats([1, 2, 3, 4]), floats([10, 20, 30, 40])];
    const [y, mean, rstd] = [floats(4), floats(1), floats(1)];
    const normalise = (weightAt: number, biasAt: number) =>
      kernels.layernormForward(x.pointer, 4, weightAt, biasAt, y.pointer, 4, mean.pointer, rstd.pointer, 1, 4, 0);
    normalise(weight.pointer, bias.pointer);
    expect([mean.data[0], rstd.data[0], ...y.data]).toEqual([3, 0.5, 9, 22, 27, 44]);
    normalise(0, 0);
    expect([...y.data]).toEqual([-1, 1, -1, 1]);
  });

  it("turns dimension i with i + C/2", () => {
    // One head of four channels: a quarter turn of the first pair, none of the second.
    const [x, positions] = [floats([1, 2, 3, 4]), ints([1])];
    const [cosine, sine] = [floats([9, 9, 0, 1]), floats([9, 9, 1, 0])];
    kernels.rope(x.pointer, 4, positions.pointer, cosine.pointer, sine.pointer, 1, 1, 4, 0);
    expect([...x.data]).toEqual([-3, 2, 1, 4]);
    kernels.rope(x.pointer, 4, positions.pointer, cosine.pointer, sine.pointer, 1, 1, 4, 1);
    expect([...x.data]).toEqual([1, 2, 3, 4]);
  });

  it("attends to the keys of a query's own past and document", () => {
    // Scores are log of the key's number, so that probabilities are 1 : 2 : 3 : 4.
    const q = floats([1, 1]);
    const k = floats([1, 2, 3, 4].map(Math.log));
    const v = floats([6, 60, 600, 6000]);
    const [out, lse, start] = [floats(2), floats(2), ints([0, 2])];
    const attend = (kvStart: number) =>
      // biome-ignore format: the arguments in the groups of kernels.h
      kernels.attentionForward(
        q.pointer, 1, k.pointer, 1, v.pointer, 1, out.pointer, 1, lse.pointer, kvStart, 1, 2, 4, 4, 1, 1, 1, 1,
      );
    attend(0);
    expect(out.data).toBeAllClose([(6 + 120 + 1800) / 6, (6 + 120 + 1800 + 24_000) / 10], { atol: 1e-3 });
    expect(lse.data).toBeAllClose([Math.log(6), Math.log(10)], CLOSE);
    attend(start.pointer);
    expect(out.data).toBeAllClose([321, (1800 + 24_000) / 7], { atol: 1e-3 });
  });

  it("multiplies up by silu of gate", () => {
    const [gateUp, y] = [floats([0, Math.log(3), 5, 8]), floats(2)];
    kernels.swigluForward(gateUp.pointer, y.pointer, 1, 2);
    expect(y.data).toBeAllClose([0, Math.log(3) * 0.75 * 8], CLOSE);
  });

  it("chooses the most probable experts, ties to the lower id", () => {
    // Probabilities 1/8, 1/4, 1/4, 3/8.
    const logits = floats([1, 2, 2, 3].map(Math.log));
    const [probs, lse, ids, weights] = [floats(4), floats(1), ints(3), floats(3)];
    const route = (normalise: 0 | 1) =>
      // biome-ignore format: the arguments in the groups of kernels.h
      kernels.routerForward(
        logits.pointer, probs.pointer, lse.pointer, ids.pointer, weights.pointer, 1, 4, 3, normalise,
      );
    route(0);
    expect(probs.data).toBeAllClose([0.125, 0.25, 0.25, 0.375], CLOSE);
    expect(lse.data).toBeAllClose([Math.log(8)], CLOSE);
    expect([...ids.data]).toEqual([3, 1, 2]);
    expect(weights.data).toBeAllClose([0.375, 0.25, 0.25], CLOSE);
    route(1);
    expect(weights.data).toBeAllClose([3 / 7, 2 / 7, 2 / 7], CLOSE);
  });

  it("counts assignments, probabilities, squared lse and chosen probability by token mask", () => {
    const [probs, lse, ids] = [floats([0.5, 0.25, 0.25, 0.125, 0.375, 0.5]), floats([2, 3]), ints([0, 1, 2, -1])];
    const [mask, stats] = [floats([1, 0.5]), allocateTensor(backend, "f64", [8])];
    stats.data.fill(99);
    kernels.routerStats(probs.pointer, lse.pointer, ids.pointer, mask.pointer, stats.pointer, 2, 3, 2);
    expect([...stats.data]).toEqual([1, 1, 0.5, 0.5625, 0.4375, 0.5, 8.5, 1]);
  });

  it("sorts slots by expert in the order of tokens and leaves out those without one", () => {
    const [ids, offsets, rowSlot, slotRow] = [ints([2, 0, -1, 2, 0, 3]), ints(6), ints(6), ints(6)];
    kernels.moePlan(ids.pointer, offsets.pointer, rowSlot.pointer, slotRow.pointer, 3, 5, 2);
    expect([...offsets.data]).toEqual([0, 2, 2, 4, 5, 5]);
    expect([...rowSlot.data.subarray(0, 5)]).toEqual([1, 4, 0, 3, 5]);
    expect([...slotRow.data]).toEqual([2, 0, -1, 3, 1, 4]);
  });

  it("adds the experts' outputs by weight", () => {
    // Width 1, inner 1: expert e gives down_e * silu(gate_e x) * up_e x; silu(log 3) = log 3 * 3/4.
    const log3 = Math.log(3);
    const [x, gateUp, down] = [floats([log3]), floats([1, 1, 0, 5, 1, 2]), floats([1, 7, 3])];
    const [ids, weights] = [ints([2, 0]), floats([0.5, 0.25])];
    const [offsets, rowSlot, slotRow] = [ints(4), ints(2), ints(2)];
    const [hidden, rows, out] = [floats(4), floats(2), floats(1)];
    kernels.moePlan(ids.pointer, offsets.pointer, rowSlot.pointer, slotRow.pointer, 1, 3, 2);
    // biome-ignore format: the arguments in the groups of kernels.h
    kernels.moeForward(
      x.pointer, gateUp.pointer, down.pointer, weights.pointer, offsets.pointer, rowSlot.pointer, slotRow.pointer,
      hidden.pointer, rows.pointer, out.pointer, 1, 3, 2, 1, 1,
    );
    expect(hidden.data).toBeAllClose([log3, log3, log3, 2 * log3], CLOSE);
    expect(out.data).toBeAllClose([0.75 * log3 ** 2 * (0.5 * 2 * 3 + 0.25)], CLOSE);
  });

  it("gives the loss of labels and replaces logits by scaled gradients", () => {
    const [logits, labels, losses] = [floats([1, 1, 2, 5, 6, 7].map(Math.log)), ints([2, -100]), floats(2)];
    kernels.crossEntropy(logits.pointer, labels.pointer, losses.pointer, 2, 3, 8);
    expect(losses.data).toBeAllClose([Math.log(2), 0], CLOSE);
    expect(logits.data).toBeAllClose([2, 2, -4, 0, 0, 0], CLOSE);
  });

  it("takes an AdamW step", () => {
    const [param, grad, m, v] = [floats([10]), floats([8]), floats([1]), floats([4])];
    // g = 4; m = 0.5 + 2 = 2.5; v = 0.75 * 4 + 0.25 * 16 = 7; step = (2.5 / 0.5) / (sqrt(7 / 0.4375) + 1) = 1.
    kernels.adamw(param.pointer, grad.pointer, m.pointer, v.pointer, 1, 0.5, 0.5, 0.75, 1, 0.25, 0.5, 0.4375, 0.5);
    expect([param, grad, m, v].map((tensor) => tensor.data[0])).toEqual([10 - 0.5 * (1 + 2.5), 8, 2.5, 7]);
  });
});
