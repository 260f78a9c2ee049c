import { describe, expect, it } from "vitest";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { resolveModel } from "../config/presets.ts";
import { initialMatrix } from "./initialization.ts";
import { Parameters } from "./parameters.ts";

/** Wide enough that a matrix has some ten thousand values: the estimate of a deviation is then off by under 1 %. */
const WIDE = {
  preset: "tiny",
  hiddenSize: 128,
  intermediateSize: 64,
  vocabSize: 200,
  numAttentionHeads: 4,
  numKeyValueHeads: 4,
};

interface Moments {
  readonly mean: number;
  readonly deviation: number;
  readonly largest: number;
}

function momentsOf(data: Float32Array): Moments {
  const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
  const square = data.reduce((sum, value) => sum + (value - mean) ** 2, 0) / data.length;
  return {
    mean,
    deviation: Math.sqrt(square),
    largest: data.reduce((most, value) => Math.max(most, Math.abs(value)), 0),
  };
}

/** A normal distribution that is cut at 3 deviations has 0.98658 of its deviation. */
const CUT_3 = 0.98658;
const LAST = "model.layers.1";

/** Deviations of [embedding, q of the last layer, its o, its router, its experts' gate and up, their down, head]. */
const EXPECTED: readonly (readonly [initialization: string, cut: number, deviations: readonly number[]])[] = [
  ["truncated_normal", 3, [0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02]],
  ["normal", Infinity, [0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02]],
  // Two layers: the matrices whose output joins the stream have 0.02 / sqrt(2 * 2).
  ["megatron", 3, [0.02, 0.02, 0.01, 0.02, 0.02, 0.01, 0.02]],
  ["fan_in", Infinity, [128, 128, 128, 128, 128, 64, 128].map((inputs) => inputs ** -0.5)],
  // The second layer: 2 * (1 + 1) = 4 times the inputs.
  ["mitchell", 3, [128, 128, 4 * 128, 128, 128, 4 * 64, 128].map((inputs) => inputs ** -0.5)],
];

describe("initialisation", () => {
  it.each(EXPECTED)(
    "%s has the deviations of its formula, and is cut at %s of them",
    (initialization, cut, deviations) => {
      const parameters = new Parameters(createReferenceBackend(), resolveModel({ ...WIDE, initialization }), {
        trainable: false,
      });
      parameters.initialise(1);
      const names = [
        "model.embed_tokens.weight",
        `${LAST}.self_attn.q_proj.weight`,
        `${LAST}.self_attn.o_proj.weight`,
        `${LAST}.mlp.gate.weight`,
        `${LAST}.mlp.experts.gate_up_proj`,
        `${LAST}.mlp.experts.down_proj`,
        "lm_head.weight",
      ];
      for (const [index, name] of names.entries()) {
        const { data } = parameters.get(name).value;
        const { mean, deviation, largest } = momentsOf(data);
        const expected = deviations[index] as number;
        const noise = 4 / Math.sqrt(data.length);
        expect(Math.abs(deviation / (expected * (cut === 3 ? CUT_3 : 1)) - 1), name).toBeLessThan(noise);
        expect(Math.abs(mean), name).toBeLessThan(noise * expected);
        if (cut === 3) expect(largest, name).toBeLessThanOrEqual(3.0001 * expected);
        else if (data.length > 10_000) expect(largest, name).toBeGreaterThan(3.2 * expected);
      }
    },
  );

  it("gives norms weights of 1 and biases of 0", () => {
    const config = resolveModel({ ...WIDE, normType: "layernorm", qkNorm: "head" });
    const parameters = new Parameters(createReferenceBackend(), config, { trainable: false });
    parameters.initialise(1);
    for (const { name, data } of parameters.tensors()) {
      if (name.includes("norm")) expect(new Set(data), name).toEqual(new Set([name.endsWith(".bias") ? 0 : 1]));
    }
  });

  it("starts experts that layers share as the last layer's", () => {
    const config = resolveModel({ ...WIDE, initialization: "mitchell", layerSharedMoe: "experts", numHiddenLayers: 4 });
    expect(initialMatrix(config, 64, 3)).toEqual({ deviation: 1 / Math.sqrt(2 * 64 * 4), cutoff: 3 });
    const parameters = new Parameters(createReferenceBackend(), config, { trainable: false });
    parameters.initialise(1);
    const { deviation } = momentsOf(parameters.get("model.mlp.experts.down_proj").value.data);
    expect(deviation / (CUT_3 / Math.sqrt(2 * 64 * 4))).toBeCloseTo(1, 1);
  });
});
