/** Whole models against transformers' values: tolerances are those of the reference's own README. */
import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backend/backend.ts";
import { availableBackends } from "../../src/backend/io.ts";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { openModel } from "../../src/formats/model.io.ts";
import { type InspectedTensor, inspectForward } from "../../src/infer/inspect.ts";
import { parityPath, parityPresent, readTensors, relativeL2 } from "./fixtures.ts";

const backends: readonly Backend[] = [...(await availableBackends()), createReferenceBackend()];
const named = backends.map((backend) => [`${backend.name} ${backend.isa}`, backend] as const);

function toleranceOf(name: string): number {
  if (name.startsWith("loss.")) return 5e-6;
  if (name.endsWith("routing_weights")) return 3e-6;
  if (name.startsWith("grad.")) return 3e-6;
  return 2e-5;
}

function compare(result: InspectedTensor, expected: Float32Array | Int32Array): void {
  const { name, data } = result;
  if (data instanceof Int32Array) expect([...data], name).toEqual([...expected]);
  else {
    expect(data, name).toBeAllClose(expected, { atol: toleranceOf(name), rtol: name.startsWith("loss.") ? 5e-6 : 0 });
    if (name.startsWith("grad.")) expect(relativeL2(data, expected), name).toBeLessThan(2e-5);
  }
}

const variants = ["normtopk", ...(parityPresent ? ["base", "gqa", "clipqkv", "wide"] : [])];

describe("parity with transformers", () => {
  it.skipIf(parityPresent)("base, gqa, clipqkv, wide and padded batches (reference values absent: skipped)", () => {});

  describe.each(named)("%s", (_, backend) => {
    it.each(variants)("%s: all values and gradients", async (variant) => {
      const io = await readTensors(parityPath(`olmoe/${variant}/io.safetensors`));
      const decoder = await openModel(parityPath(`olmoe/${variant}`), backend, { trainable: true });
      const results = inspectForward(backend, decoder, {
        batch: 2,
        inputIds: io.i32("input_ids"),
        labels: io.i32("labels"),
        gradients: true,
      });
      for (const result of results) {
        const expected = result.dtype === "I32" ? io.i32(result.name) : io.f32(result.name);
        expect(result.shape, result.name).toEqual(io.shape(result.name));
        compare(result, expected);
      }
      const covered = new Set(results.map(({ name }) => name));
      const inputs = /^(input_ids|labels|padded_|generate\.|logprobs\.)/;
      expect(io.names.filter((name) => !covered.has(name) && !inputs.test(name))).toEqual([]);
    });

    it.each(parityPresent ? ["padded_right", "padded_left"] : [])(
      "%s batches where the mask is 1, and their losses",
      async (side) => {
        const io = await readTensors(parityPath("olmoe/base/io.safetensors"));
        const decoder = await openModel(parityPath("olmoe/base"), backend);
        const mask = io.i32(`${side}.attention_mask`);
        const results = inspectForward(backend, decoder, {
          batch: 3,
          inputIds: io.i32(`${side}.input_ids`),
          labels: io.i32(`${side}.labels`),
          attentionMask: mask,
          positionIds: io.i32(`${side}.position_ids`),
        });
        const find = (name: string) => results.find((result) => result.name === name)?.data as Float32Array;
        const vocabulary = io.shape(`${side}.logits`)[2] as number;
        const masked = find("logits").map((value, index) => (mask[Math.floor(index / vocabulary)] ? value : 0));
        expect(masked).toBeAllClose(io.f32(`${side}.logits`), { atol: 2e-5 });
        for (const name of ["loss.ce", "loss.aux", "loss.total"]) {
          expect(find(name), name).toBeAllClose(io.f32(`${side}.${name}`), { atol: 5e-6, rtol: 5e-6 });
        }
      },
    );

    it.each(["sharded", "fused"])("the %s layout gives the same logits", async (layout) => {
      const io = await readTensors(parityPath("olmoe/normtopk/io.safetensors"));
      const decoder = await openModel(parityPath(`olmoe/normtopk/layouts/${layout}`), backend);
      const results = inspectForward(backend, decoder, { batch: 2, inputIds: io.i32("input_ids") });
      const logits = results.find(({ name }) => name === "logits")?.data as Float32Array;
      expect(logits).toBeAllClose(io.f32("logits"), { atol: 2e-5 });
    });
  });
});
