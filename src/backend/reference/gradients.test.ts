/**
 * Proves the backward kernels of the reference against central differences of its own forward kernels. The memory here
 * holds f64 wherever the kernels see f32, so that differences are exact to about 1e-9.
 */
import { describe, expect, it } from "vitest";
import { Draw } from "../../../test/conformance/harness.ts";
import type { Pointer } from "../kernels.ts";
import { referenceKernels } from "./backend.ts";
import type { Memory } from "./heap.ts";

const STEP = 1e-5;
const CLOSE = { atol: 1e-8, rtol: 1e-7 };

/** Memory whose floats are all f64; pointers stay byte offsets. */
class WideMemory implements Memory {
  readonly #buffer = new ArrayBuffer(2 ** 20);
  #used = 64;

  f32(pointer: Pointer): Float64Array {
    return new Float64Array(this.#buffer, pointer);
  }

  i32(pointer: Pointer): Int32Array {
    return new Int32Array(this.#buffer, pointer);
  }

  f64(pointer: Pointer): Float64Array {
    return new Float64Array(this.#buffer, pointer);
  }

  bytes(pointer: Pointer): Uint8Array {
    return new Uint8Array(this.#buffer, pointer);
  }

  /** Address of a copy of the values. */
  floats(values: ArrayLike<number>): Pointer {
    const pointer = this.#take(8 * values.length);
    this.f32(pointer).set(values);
    return pointer;
  }

  ints(values: ArrayLike<number>): Pointer {
    const pointer = this.#take(4 * values.length);
    this.i32(pointer).set(values);
    return pointer;
  }

  zeros(count: number): Pointer {
    return this.floats(new Float64Array(count));
  }

  read(pointer: Pointer, count: number): Float64Array {
    return this.f32(pointer).slice(0, count);
  }

  #take(bytes: number): Pointer {
    const pointer = this.#used;
    this.#used += Math.ceil(bytes / 64) * 64;
    return pointer;
  }
}

/** A fresh memory with kernels, and random values. */
function setup(seed: number) {
  const memory = new WideMemory();
  const draw = new Draw(seed);
  const random = (count: number, spread = 1) => memory.floats(Array.from({ length: count }, () => draw.float(spread)));
  return { memory, kernels: referenceKernels(memory), draw, random };
}

/** Sum of out * dout: the loss whose gradient with respect to out is dout. */
function lossOf(memory: WideMemory, out: Pointer, dout: Pointer, count: number): number {
  const weights = memory.read(dout, count);
  return memory.read(out, count).reduce((sum, value, i) => sum + value * weights[i]!, 0);
}

/** Central differences of a loss with respect to `count` floats. */
function differences(memory: WideMemory, at: Pointer, count: number, loss: () => number): number[] {
  return Array.from({ length: count }, (_, i) => {
    const x = memory.f32(at);
    const value = x[i]!;
    x[i] = value + STEP;
    const above = loss();
    x[i] = value - STEP;
    const below = loss();
    x[i] = value;
    return (above - below) / (2 * STEP);
  });
}

describe("gradients of the reference kernels", () => {
  it.each([0, 1] as const)("agree with differences for rmsnorm (accumulate %s)", (accumulate) => {
    const { memory, kernels, random } = setup(1);
    const [rows, width] = [3, 7];
    const count = rows * width;
    const [x, weight, y, rstd, dy] = [
      random(count),
      random(width),
      memory.zeros(count),
      memory.zeros(rows),
      random(count),
    ];
    const loss = () => {
      kernels.rmsnormForward(x, width, weight, y, width, rstd, rows, width, 1e-5);
      return lossOf(memory, y, dy, count);
    };
    loss();
    const [dx, dweight] = [memory.floats(new Array(count).fill(10)), memory.floats(new Array(width).fill(10))];
    kernels.rmsnormBackward(x, width, weight, rstd, dy, width, dx, width, dweight, rows, width, accumulate);
    const plus = (initial: number) => (value: number) => value + initial;
    const expectedDx = differences(memory, x, count, loss).map(plus(accumulate ? 10 : 0));
    expect(memory.read(dx, count)).toBeAllClose(expectedDx, CLOSE);
    const expectedDweight = differences(memory, weight, width, loss).map(plus(10));
    expect(memory.read(dweight, width)).toBeAllClose(expectedDweight, CLOSE);
  });

  it.each([0, 1] as const)("agree with differences for layernorm (accumulate %s)", (accumulate) => {
    const { memory, kernels, random } = setup(1);
    const [rows, width] = [3, 7];
    const count = rows * width;
    const [x, weight, bias, dy] = [random(count), random(width), random(width), random(count)];
    const [y, mean, rstd] = [memory.zeros(count), memory.zeros(rows), memory.zeros(rows)];
    const loss = () => {
      kernels.layernormForward(x, width, weight, bias, y, width, mean, rstd, rows, width, 1e-5);
      return lossOf(memory, y, dy, count);
    };
    loss();
    const [dx, dweight, dbias] = [count, width, width].map((size) => memory.floats(new Array(size).fill(10)));
    // biome-ignore format: the arguments in the groups of kernels.h
    kernels.layernormBackward(
      x, width, weight, mean, rstd, dy, width, dx!, width, dweight!, dbias!, rows, width, accumulate,
    );
    const expected = (at: number, size: number, initial: number) =>
      differences(memory, at, size, loss).map((value) => value + initial);
    expect(memory.read(dx!, count)).toBeAllClose(expected(x, count, accumulate ? 10 : 0), CLOSE);
    expect(memory.read(dweight!, width)).toBeAllClose(expected(weight, width, 10), CLOSE);
    expect(memory.read(dbias!, width)).toBeAllClose(expected(bias, width, 10), CLOSE);
  });

  it("agree with differences for rope", () => {
    const { memory, kernels, draw, random } = setup(2);
    const [tokens, heads, channels] = [3, 2, 6];
    const count = tokens * heads * channels;
    const [x, dout] = [random(count), random(count)];
    const positions = memory.ints([4, 0, 2]);
    const angles = Array.from({ length: (5 * channels) / 2 }, () => draw.float(4));
    const [cosine, sine] = [memory.floats(angles.map(Math.cos)), memory.floats(angles.map(Math.sin))];
    const loss = () => {
      const out = memory.floats(memory.read(x, count));
      kernels.rope(out, heads * channels, positions, cosine, sine, tokens, heads, channels, 0);
      return lossOf(memory, out, dout, count);
    };
    const expected = differences(memory, x, count, loss);
    kernels.rope(dout, heads * channels, positions, cosine, sine, tokens, heads, channels, 1);
    expect(memory.read(dout, count)).toBeAllClose(expected, CLOSE);
  });

  it.each([
    { heads: 2, kvHeads: 2, documents: false },
    { heads: 4, kvHeads: 2, documents: true },
    { heads: 3, kvHeads: 1, documents: true },
  ])("agree with differences for attention $heads/$kvHeads heads, documents $documents", (options) => {
    const { heads, kvHeads, documents } = options;
    const { memory, kernels, random } = setup(3);
    const [batch, length, channels, scale] = [2, 5, 3, 0.75];
    const [ldq, ldk] = [heads * channels, kvHeads * channels];
    const [count, kvCount] = [batch * length * ldq, batch * length * ldk];
    const [q, k, v, dout] = [random(count, 2), random(kvCount, 2), random(kvCount), random(count)];
    const [out, lse] = [memory.zeros(count), memory.zeros(batch * heads * length)];
    const kvStart = documents ? memory.ints([0, 0, 2, 2, 4, 0, 1, 1, 1, 1]) : 0;
    const loss = () => {
      // biome-ignore format: the arguments in the groups of kernels.h
      kernels.attentionForward(
        q, ldq, k, ldk, v, ldk, out, ldq, lse, kvStart, batch, length, length, length, heads, kvHeads, channels, scale,
      );
      return lossOf(memory, out, dout, count);
    };
    loss();
    const [dq, dk, dv] = [random(count), random(kvCount), random(kvCount)];
    // biome-ignore format: the arguments in the groups of kernels.h
    kernels.attentionBackward(
      q, ldq, k, ldk, v, ldk, out, ldq, lse, kvStart, dout, ldq, dq, ldq, dk, ldk, dv, ldk,
      batch, length, heads, kvHeads, channels, scale,
    );
    expect(memory.read(dq, count)).toBeAllClose(differences(memory, q, count, loss), CLOSE);
    expect(memory.read(dk, kvCount)).toBeAllClose(differences(memory, k, kvCount, loss), CLOSE);
    expect(memory.read(dv, kvCount)).toBeAllClose(differences(memory, v, kvCount, loss), CLOSE);
  });

  it("agree with differences for swiglu", () => {
    const { memory, kernels, random } = setup(4);
    const [rows, inner] = [3, 5];
    const count = rows * inner;
    const [gateUp, dy, y, dgateUp] = [random(2 * count, 3), random(count), memory.zeros(count), random(2 * count)];
    const loss = () => {
      kernels.swigluForward(gateUp, y, rows, inner);
      return lossOf(memory, y, dy, count);
    };
    kernels.swigluBackward(gateUp, dy, dgateUp, rows, inner);
    expect(memory.read(dgateUp, 2 * count)).toBeAllClose(differences(memory, gateUp, 2 * count, loss), CLOSE);
  });

  it.each(
    ([0, 1] as const).flatMap((normalise) => [
      { normalise, weights: true, probs: false, zCoef: 0, masked: false },
      { normalise, weights: false, probs: true, zCoef: 0, masked: true },
      { normalise, weights: false, probs: true, zCoef: 0, masked: false },
      { normalise, weights: false, probs: false, zCoef: 0.25, masked: false },
      { normalise, weights: false, probs: false, zCoef: 0.25, masked: true },
      { normalise, weights: true, probs: true, zCoef: 0.25, masked: true },
    ]),
  )("agree with differences for the router, %j", ({ normalise, weights, probs, zCoef, masked }) => {
    const { memory, kernels, random } = setup(5);
    const [tokens, experts, topK] = [4, 6, 3];
    const logits = random(tokens * experts, 2);
    const [prob, lse, ids] = [memory.zeros(tokens * experts), memory.zeros(tokens), memory.ints(new Array(12).fill(0))];
    const [weight, dweights, probGrad] = [memory.zeros(tokens * topK), random(tokens * topK), random(experts)];
    const mask = [1, 0, 0.5, 1];
    const loss = () => {
      kernels.routerForward(logits, prob, lse, ids, weight, tokens, experts, topK, normalise);
      const ofWeights = weights ? lossOf(memory, weight, dweights, tokens * topK) : 0;
      const tokenLosses = mask.map((tokenMask, t) => {
        const ofProbs = probs ? lossOf(memory, prob + 8 * t * experts, probGrad, experts) : 0;
        return (masked ? tokenMask : 1) * (ofProbs + zCoef * memory.f32(lse)[t]! ** 2);
      });
      return tokenLosses.reduce((sum, value) => sum + value, ofWeights);
    };
    loss();
    const dlogits = random(tokens * experts);
    // biome-ignore format: the arguments in the groups of kernels.h
    kernels.routerBackward(
      prob, lse, ids, weight, weights ? dweights : 0, probs ? probGrad : 0, masked ? memory.floats(mask) : 0, zCoef,
      dlogits, tokens, experts, topK, normalise,
    );
    const expected = differences(memory, logits, tokens * experts, loss);
    expect(memory.read(dlogits, tokens * experts)).toBeAllClose(expected, CLOSE);
  });

  it("agree with differences for the mixture of experts", () => {
    const { memory, kernels, random } = setup(6);
    const [tokens, experts, topK, width, inner] = [4, 3, 2, 5, 3];
    const slots = tokens * topK;
    const counts = [tokens * width, experts * 2 * inner * width, experts * width * inner, slots] as const;
    const [x, gateUp, down, weights] = [random(counts[0], 2), random(counts[1]), random(counts[2]), random(counts[3])];
    const ids = memory.ints([1, 0, 0, 2, -1, 1, 1, 0]);
    const [offsets, rowSlot, slotRow] = [experts + 1, slots, slots].map((n) => memory.ints(new Array(n).fill(0)));
    const plan = [offsets!, rowSlot!, slotRow!] as const;
    kernels.moePlan(ids, ...plan, tokens, experts, topK);
    const [hidden, rows] = [memory.zeros(slots * 2 * inner), memory.zeros(slots * width)];
    const [out, dout] = [memory.zeros(counts[0]), random(counts[0])];
    const sizes = [tokens, experts, topK, width, inner] as const;
    const loss = () => {
      kernels.moeForward(x, gateUp, down, weights, ...plan, hidden, rows, out, ...sizes);
      return lossOf(memory, out, dout, counts[0]);
    };
    const expected = [x, gateUp, down, weights].map((at, i) => differences(memory, at, counts[i]!, loss));
    loss();
    const [dx, dweights] = [random(counts[0]), random(counts[3])];
    const [dgateUp, ddown, activation] = [
      memory.zeros(counts[1]),
      memory.zeros(counts[2]),
      memory.zeros(slots * inner),
    ];
    // biome-ignore format: the arguments in the groups of kernels.h
    kernels.moeBackward(
      x, gateUp, down, weights, ...plan, dout, hidden, rows, activation, dx, dweights, dgateUp, ddown, 1, 1, ...sizes,
    );
    for (const [i, gradient] of [dx, dgateUp, ddown, dweights].entries()) {
      expect(memory.read(gradient, counts[i]!)).toBeAllClose(expected[i]!, CLOSE);
    }
  });

  it("agree with differences for cross-entropy", () => {
    const { memory, kernels, random } = setup(7);
    const [tokens, vocabulary, scale] = [4, 6, 0.5];
    const count = tokens * vocabulary;
    const [logits, losses, labels] = [random(count, 3), memory.zeros(tokens), memory.ints([5, -100, 0, 2])];
    const loss = () => {
      kernels.crossEntropy(logits, labels, losses, tokens, vocabulary, 0);
      return scale * memory.read(losses, tokens).reduce((sum, value) => sum + value, 0);
    };
    const expected = differences(memory, logits, count, loss);
    kernels.crossEntropy(logits, labels, losses, tokens, vocabulary, scale);
    expect(memory.read(logits, count)).toBeAllClose(expected, CLOSE);
  });

  it("agree with differences for clamp", () => {
    const { memory, kernels, random } = setup(8);
    const [rows, cols, limit] = [4, 5, 0.5];
    const count = rows * cols;
    const [x, y, dy, dx] = [random(count), memory.zeros(count), random(count), random(count)];
    const loss = () => {
      kernels.clampForward(x, cols, y, cols, rows, cols, limit);
      return lossOf(memory, y, dy, count);
    };
    kernels.clampBackward(x, cols, dy, cols, dx, cols, rows, cols, limit);
    expect(memory.read(dx, count)).toBeAllClose(differences(memory, x, count, loss), CLOSE);
  });

  it("agree with differences for the embedding", () => {
    const { memory, kernels, random } = setup(9);
    const [ids, tokens, width] = [memory.ints([3, 1, 3, 0, 3]), 5, 4];
    const [table, out, dout] = [random(5 * width), memory.zeros(tokens * width), random(tokens * width)];
    const dtable = memory.zeros(5 * width);
    const loss = () => {
      kernels.embeddingForward(table, ids, out, tokens, width);
      return lossOf(memory, out, dout, tokens * width);
    };
    kernels.embeddingBackward(dtable, ids, dout, tokens, width);
    expect(memory.read(dtable, 5 * width)).toBeAllClose(differences(memory, table, 5 * width, loss), CLOSE);
  });

  it.each([
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ] as const)("agree with differences for gemm (transposed %s, %s)", (transposeA, transposeB) => {
    const { memory, kernels, random } = setup(10);
    const [m, n, k] = [3, 4, 5];
    const [a, b, c, dc] = [random(m * k), random(k * n), memory.zeros(m * n), random(m * n)];
    const [lda, ldb] = [transposeA ? m : k, transposeB ? k : n];
    const loss = () => {
      kernels.gemm(transposeA, transposeB, m, n, k, a, lda, b, ldb, c, n, 0);
      return lossOf(memory, c, dc, m * n);
    };
    // op(A) gets dC op(B)^T, op(B) gets op(A)^T dC; a transposed operand gets the transpose of that.
    const [da, db] = [memory.zeros(m * k), memory.zeros(k * n)];
    if (transposeA) kernels.gemm(transposeB, 1, k, m, n, b, ldb, dc, n, da, m, 0);
    else kernels.gemm(0, transposeB ? 0 : 1, m, k, n, dc, n, b, ldb, da, k, 0);
    if (transposeB) kernels.gemm(1, transposeA, n, k, m, dc, n, a, lda, db, k, 0);
    else kernels.gemm(transposeA ? 0 : 1, 0, k, n, m, a, lda, dc, n, db, n, 0);
    expect(memory.read(da, m * k)).toBeAllClose(differences(memory, a, m * k, loss), CLOSE);
    expect(memory.read(db, k * n)).toBeAllClose(differences(memory, b, k * n, loss), CLOSE);
  });
});
