/**
 * Backends whose products round their inputs to bf16, on inputs that are bf16 already: what is left is sums in f32, so
 * that they must agree with the reference as closely as any backend.
 */
import { afterAll, describe, expect, it } from "vitest";
import { gemmCase, gemmCases } from "../../test/conformance/gemmCases.ts";
import { differentBits, faultsOf, type KernelCase, run } from "../../test/conformance/harness.ts";
import { moeCases } from "../../test/conformance/moeCases.ts";
import { threadCases } from "../../test/conformance/threadCases.ts";
import { bf16ToF32, f32ToBf16 } from "../formats/halves.ts";
import type { Backend } from "./backend.ts";
import { buildNative } from "./build.io.ts";
import { nativeInstructionSets, openBackend } from "./io.ts";
import { openNative } from "./native/native.ts";

const sets = await nativeInstructionSets("bf16").catch(() => []);
const backends = await Promise.all(sets.map(async (isa) => openNative(await buildNative(isa, "bf16"), isa, 2, "bf16")));

function roundToBf16(values: Float32Array): Float32Array {
  const halves = new Uint16Array(values.length);
  const back = new Float32Array(values.length);
  f32ToBf16(values, halves);
  bf16ToF32(halves, back);
  return back;
}

/** The same case with inputs rounded to bf16. */
function rounded(one: KernelCase): KernelCase {
  const operands = Object.fromEntries(
    Object.entries(one.operands).map(([name, operand]) => {
      if (operand === null || operand.role !== "input" || !(operand.values instanceof Float32Array))
        return [name, operand];
      return [name, { ...operand, values: roundToBf16(operand.values) }];
    }),
  );
  return { ...one, operands };
}

/** Products whose inputs are made inside the kernel, and rounded there: 2^-8 of each, against the largest output. */
function loosened(one: KernelCase): KernelCase {
  const operands = Object.fromEntries(
    Object.entries(one.operands).map(([name, operand]) => [
      name,
      operand === null ? null : { ...operand, tolerance: { ofLargest: 2 ** -6, absolute: 1e-6 } },
    ]),
  );
  return { ...one, operands };
}

describe.each(backends.map((backend) => [backend.isa, backend] as const))("bf16 on %s", (_, backend: Backend) => {
  afterAll(() => {
    backend.kernels.setThreads(2);
  });

  it("says what it computes in", () => {
    expect({ precision: backend.precision, name: backend.name }).toEqual({ precision: "bf16", name: "native" });
  });

  it("gives what the reference gives for dense products of bf16", () => {
    const finite = gemmCases.filter(({ name }) => !name.includes("infinities"));
    expect(finite.flatMap((one) => faultsOf(backend, rounded(one))).slice(0, 10)).toEqual([]);
  });

  it("gives what the reference gives for experts, up to the rounding in between", () => {
    expect(moeCases.flatMap((one) => faultsOf(backend, loosened(rounded(one)))).slice(0, 10)).toEqual([]);
  });

  it("keeps infinities and NaN where they belong", () => {
    const infinite = gemmCases.filter(({ name }) => name.includes("infinities"));
    expect(infinite.flatMap((one) => faultsOf(backend, rounded(one)))).toEqual([]);
  });

  it("does not round where f32 is asked for", () => {
    const one = gemmCase({ m: 20, n: 40, k: 100, transposeB: true }, 1, 1, "gemmF32");
    expect(faultsOf(backend, one)).toEqual([]);
    expect(faultsOf(backend, { ...gemmCase({ m: 20, n: 40, k: 100, transposeB: true }) })).not.toEqual([]);
  });

  it("gives the same bits on one, two and three threads", () => {
    const outcomes = [1, 2, 3].map((count) => {
      backend.kernels.setThreads(count);
      return threadCases.map((one) => run(backend, one));
    });
    const [first, ...others] = outcomes;
    for (const other of others) {
      expect(threadCases.flatMap((one, i) => differentBits(one, first![i]!, other[i]!))).toEqual([]);
    }
  });
});

describe("a request for bf16", () => {
  it.each(["wasm", "reference"] as const)("is refused by the %s backend with what to do", async (backend) => {
    await expect(openBackend({ backend, precision: "bf16" })).rejects.toMatchObject({
      message: `backend: precision bf16 needs AVX512-BF16 or AMX-BF16, and the ${backend} backend has neither`,
      hint: 'set train.precision to "auto", which takes bf16 where it is quicker, or to "f32"',
    });
  });

  it("stays with f32 and says so where it is left to the machine, and that has none", async () => {
    const notices: string[] = [];
    const backend = await openBackend({
      backend: "reference",
      precision: "auto",
      onNotice: (notice) => notices.push(notice),
    });
    expect([backend.precision, notices]).toEqual([
      "f32",
      ["precision: no AVX512-BF16 or AMX-BF16 here, staying with f32"],
    ]);
  });

  it.skipIf(backends.length > 0)("is refused on a processor that does not multiply bf16", async () => {
    await expect(openBackend({ backend: "native", precision: "bf16" })).rejects.toMatchObject({
      message: "backend: precision bf16 needs AVX512-BF16 or AMX-BF16, and this processor does not multiply bf16",
    });
  });

  it.skipIf(backends.length === 0)("is met, or left for f32 because that is quicker, and the reason told", async () => {
    const told = async (precision: "bf16" | "auto") => {
      const notices: string[] = [];
      const opened = await openBackend({ precision, onNotice: (notice) => notices.push(notice) });
      return [opened.name, opened.precision, ...notices];
    };
    const reason = "precision: this processor's AVX512-BF16 multiplies no faster than f32";
    const quick = (backends[0]!.kernels.cpuFeatures() & (64 | 128)) !== 0;
    expect([await told("bf16"), await told("auto")]).toEqual(
      quick
        ? [
            ["native", "bf16"],
            ["native", "bf16"],
          ]
        : [
            ["native", "bf16", `${reason}: a step takes longer than with f32`],
            ["native", "f32", `${reason}, staying with f32`],
          ],
    );
  });
});
