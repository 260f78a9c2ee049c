/** The conformance tests of one backend. */
import { afterAll, describe, expect, it } from "vitest";
import type { Backend } from "../../src/backend/backend.ts";
import { KERNEL_NAMES } from "../../src/backend/kernels.ts";
import { attentionCases } from "./attentionCases.ts";
import { choiceCases } from "./choiceCases.ts";
import { crossEntropyCases, elementwiseCases } from "./elementwiseCases.ts";
import { gemmCase, gemmCases } from "./gemmCases.ts";
import { differentBits, faultsOf, type KernelCase, run } from "./harness.ts";
import { layernormCases } from "./layernormCases.ts";
import { moeCases, moeForwardCase, moeInputs, oneToken } from "./moeCases.ts";
import { rmsnormCases, ropeCases, swigluCases } from "./normCases.ts";
import { pagedCases } from "./pagedCases.ts";
import { routerCases } from "./routerCases.ts";
import { storageCases } from "./storageCases.ts";
import { describeStoredRows, storedCases } from "./storedCases.ts";
import { threadCases } from "./threadCases.ts";

/** Faults shown of one kernel; more would hide them. */
const SHOWN = 10;

const allCases: readonly KernelCase[] = [
  ...elementwiseCases,
  ...gemmCases,
  ...rmsnormCases,
  ...layernormCases,
  ...ropeCases,
  ...attentionCases,
  ...pagedCases,
  ...swigluCases,
  ...routerCases,
  ...choiceCases,
  ...moeCases,
  ...storedCases,
  ...crossEntropyCases,
  ...storageCases,
];

/** Kernels that tell of the machine: they have tests of their own. */
const MACHINE: readonly string[] = ["cpuFeatures", "setThreads", "fmaBurst", "readBurst"];
const casesByKernel = KERNEL_NAMES.filter((kernel) => !MACHINE.includes(kernel)).map(
  (kernel) => [kernel, allCases.filter((kernelCase) => kernelCase.kernel === kernel)] as const,
);

export function describeConformance(backend: Backend): void {
  const { name, isa, threads } = backend;
  describe(`${name} ${isa}, ${threads} ${threads === 1 ? "thread" : "threads"}`, () => {
    afterAll(() => {
      backend.kernels.setThreads(threads);
      backend.close();
    });

    describe("gives what the reference gives and writes nothing else", () => {
      it.each(casesByKernel)("%s", (_, cases) => {
        expect(cases.length).toBeGreaterThan(0);
        expect(cases.flatMap((kernelCase) => faultsOf(backend, kernelCase)).slice(0, SHOWN)).toEqual([]);
      });
    });

    it("gives the same bits on one, two and three threads", () => {
      const outcomes = [1, 2, 3].map((count) => {
        backend.kernels.setThreads(count);
        return threadCases.map((kernelCase) => run(backend, kernelCase));
      });
      const [one, ...others] = outcomes;
      const differing = others.flatMap((other, index) =>
        threadCases.flatMap((kernelCase, i) =>
          differentBits(kernelCase, one![i]!, other[i]!).map(
            (name) => `${kernelCase.name}: ${name} differs on ${index + 2} threads`,
          ),
        ),
      );
      expect(differing).toEqual([]);
    });

    it("conforms on large operands, too", () => {
      backend.kernels.setThreads(threads);
      expect(threadCases.flatMap((kernelCase) => faultsOf(backend, kernelCase)).slice(0, SHOWN)).toEqual([]);
    });

    describeRows(backend);
    describeStoredRows(backend);
    describeMachine(backend);
  });
}

/** A row of a result must not depend on its neighbours: cached decoding then equals scoring, and a batch its parts. */
function describeRows(backend: Backend): void {
  it.each([false, true])("gives a row of gemm the same bits in any company (transposed B: %s)", (transposeB) => {
    const [m, n, k] = [53, 67, 300];
    const whole = gemmCase({ m, n, k, transposeB });
    const { a, b, c } = run(backend, whole).operands;
    const strideA = a!.length / m;
    const strideC = c!.length / m;
    const strideB = b!.length / (transposeB ? n : k);
    const parts = [...Array.from({ length: m }, (_, row) => [row, 1] as const), [0, 7], [5, 8], [13, 33]] as const;
    const differing: string[] = [];
    for (const [start, rows] of parts) {
      const part: KernelCase = {
        ...whole,
        operands: {
          ...whole.operands,
          a: { ...whole.operands.a!, values: a!.slice(start * strideA, (start + rows) * strideA) },
          c: { ...whole.operands.c!, rows, values: whole.operands.c!.values.slice(0, rows * strideC) },
        },
        call: (kernels, at) =>
          kernels.gemm(0, transposeB ? 1 : 0, rows, n, k, at.a!, strideA, at.b!, strideB, at.c!, strideC, 0),
      };
      const alone = run(backend, part).operands.c!;
      const together = c!.slice(start * strideC, (start + rows) * strideC);
      if (!sameBits(alone, together)) differing.push(`rows ${start} to ${start + rows - 1}`);
    }
    expect(differing).toEqual([]);
  });

  it("gives a token of the mixture of experts the same bits in any company", () => {
    const sizes = { tokens: 37, experts: 4, topK: 2, width: 70, inner: 50 };
    const inputs = moeInputs(sizes);
    const out = run(backend, moeForwardCase(inputs)).operands.out!;
    const differing = Array.from({ length: sizes.tokens }, (_, token) => token).filter((token) => {
      const alone = run(backend, moeForwardCase(oneToken(inputs, token))).operands.out!;
      return !sameBits(alone, out.slice(token * sizes.width, (token + 1) * sizes.width));
    });
    expect(differing).toEqual([]);
  });
}

function sameBits(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return a.length === b.length && Array.from(a).every((value, i) => Object.is(value, b[i]));
}

function describeMachine({ kernels, allocate, threads }: Backend): void {
  it("has a bit set of features, and as many threads as it says", () => {
    expect(kernels.cpuFeatures()).toBeGreaterThanOrEqual(0);
    expect(kernels.setThreads(1)).toBe(1);
    expect(kernels.setThreads(threads)).toBe(threads);
  });

  it("counts the operations of a burst, in proportion to its iterations", () => {
    const once = kernels.fmaBurst(1000);
    expect(once).toBeGreaterThanOrEqual(2000);
    expect(kernels.fmaBurst(3000)).toBe(3 * once);
    expect(kernels.fmaBurst(0)).toBe(0);
  });

  it("reads a block as often as asked", () => {
    const block = allocate(4096);
    new Float32Array(block.buffer, block.byteOffset, 1024).fill(0.5);
    const once = kernels.readBurst(block.address, 1024, 1);
    expect(once).toBeGreaterThanOrEqual(512);
    expect(kernels.readBurst(block.address, 1024, 3)).toBe(3 * once);
    block.release();
  });

  it("allocates zero-filled blocks on a multiple of 64 bytes, also where one was released", () => {
    for (const byteLength of [1, 64, 100, 5000]) {
      const first = allocate(byteLength);
      new Uint8Array(first.buffer, first.byteOffset, byteLength).fill(255);
      first.release();
      const block = allocate(byteLength);
      expect(block.address % 64).toBe(0);
      expect(block.byteLength).toBe(byteLength);
      expect(new Uint8Array(block.buffer, block.byteOffset, byteLength).every((byte) => byte === 0)).toBe(true);
      block.release();
    }
  });
}
