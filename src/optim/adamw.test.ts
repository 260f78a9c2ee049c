import { describe, expect, it } from "vitest";
import { gradientBackends } from "../../test/gradients.ts";
import type { Backend } from "../backend/backend.ts";
import { parseModelConfig } from "../config/model.ts";
import { optimizerSchema } from "../config/recipe.ts";
import { ConfigError } from "../errors.ts";
import { Parameters } from "../model/parameters.ts";
import { AdamW } from "./adamw.ts";

const CONFIG = parseModelConfig({
  vocabSize: 5,
  hiddenSize: 4,
  intermediateSize: 3,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  numKeyValueHeads: 1,
  numExperts: 3,
});

/** Parameters that are all 1. */
function setup(backend: Backend, recipe: object, frozen: readonly string[] = []) {
  const parameters = new Parameters(backend, CONFIG, { trainable: true, frozen: new Set(frozen) });
  for (const { data } of parameters.tensors()) data.fill(1);
  const optimizer = new AdamW(backend, parameters, optimizerSchema.parse({ clipNorm: null, ...recipe }));
  const step = (lr: number, gradient: number) => {
    for (const { data } of parameters.tensors(parameters.grads)) data.fill(gradient);
    optimizer.step(lr, optimizer.gradientNorm());
  };
  return { parameters, optimizer, step };
}

/** The value all elements of each tensor have, or NaN where they differ. */
function valuesOf(parameters: Parameters): Map<string, number> {
  return new Map(
    parameters.tensors().map(({ name, data }) => [name, data.every((x) => x === data[0]) ? (data[0] as number) : NaN]),
  );
}

const TOTAL = new Parameters(gradientBackends[0]![1], CONFIG, { trainable: false })
  .ranges()
  .reduce((sum, { size }) => sum + size, 0);

describe.each(gradientBackends)("AdamW on %s", (_, backend) => {
  // By hand, theta 1, gradients 0.5 and -0.25, lr 0.1, betas 0.9 and 0.95.
  // Step 1: m = 0.05, v = 0.0125, m / 0.1 = 0.5, sqrt(v / 0.05) = 0.5: a step of 0.1 * 1.
  // Step 2: m = 0.02, v = 0.015, m / 0.19 = 0.105263, sqrt(v / 0.0975) = 0.392232: a step of 0.1 * 0.268370.
  const PLAIN = [0.9, 0.873163];
  // Each step first takes 0.1 * 0.1 of theta: 1 * 0.99 - 0.1, then 0.89 * 0.99 - 0.026837.
  const DECAYED = [0.89, 0.854263];

  it("does two steps as by hand, with decay on every parameter and without", () => {
    for (const [weightDecay, expected] of [
      [0.1, DECAYED],
      [0, PLAIN],
    ] as const) {
      const { parameters, optimizer, step } = setup(backend, { weightDecay });
      for (const [index, gradient] of [0.5, -0.25].entries()) {
        step(0.1, gradient);
        const values = [...valuesOf(parameters).values()];
        expect(values).toBeAllClose(
          values.map(() => expected[index] as number),
          { atol: 1e-6 },
        );
      }
      expect(optimizer.steps).toBe(2);
      expect([optimizer.moments.m.data[0], optimizer.moments.v.data[0]]).toBeAllClose([0.02, 0.015], { atol: 1e-8 });
    }
  });

  it("leaves the parameters that noDecay names undecayed", () => {
    const { parameters, step } = setup(backend, {
      noDecay: ["*norm.weight", "*.experts.1.up_proj.*", "lm_head.weight"],
    });
    step(0.1, 0.5);
    step(0.1, -0.25);
    const plain = [...valuesOf(parameters)].filter(([, value]) => Math.abs(value - 0.873163) < 1e-6);
    const decayed = [...valuesOf(parameters)].filter(([, value]) => Math.abs(value - 0.854263) < 1e-6);
    expect(plain.map(([name]) => name)).toEqual([
      "model.layers.0.input_layernorm.weight",
      "model.layers.0.self_attn.q_norm.weight",
      "model.layers.0.self_attn.k_norm.weight",
      "model.layers.0.post_attention_layernorm.weight",
      "model.layers.0.mlp.experts.1.up_proj.weight",
      "model.norm.weight",
      "lm_head.weight",
    ]);
    expect(plain.length + decayed.length).toBe(parameters.ranges().length);
  });

  it.each([
    ["norms", "*norm.weight", 5],
    ["embeddings", "*embed_tokens.weight", 1],
    ["the router", "*.mlp.gate.weight", 1],
  ])("exempts %s from decay by one pattern, and nothing else", (_, pattern, count) => {
    const { parameters, step } = setup(backend, { noDecay: [pattern] });
    step(0.1, 0.5);
    const values = [...valuesOf(parameters)];
    const exempt = values.filter(([, value]) => Math.abs(value - 0.9) < 1e-6);
    expect(exempt.length).toBe(count);
    expect(exempt.every(([name]) => name.endsWith(pattern.slice(1)))).toBe(true);
    expect(values.filter(([, value]) => Math.abs(value - 0.89) < 1e-6).length).toBe(values.length - count);
  });

  it("leaves frozen tensors and their moments as they are, and out of the norm", () => {
    const frozen = ["model.embed_tokens.weight", "model.layers.0.mlp.experts.1.up_proj.weight"];
    const { parameters, optimizer, step } = setup(backend, { clipNorm: null }, frozen);
    const size = parameters
      .ranges()
      .filter(({ name }) => frozen.includes(name))
      .reduce((sum, range) => sum + range.size, 0);
    // What a whole matrix of experts leaves in the part of a frozen one; no operation writes the embedding's.
    for (const { name, data } of parameters.tensors(parameters.grads)) data.fill(name === frozen[0] ? 0 : 0.5);
    expect(optimizer.gradientNorm()).toBeCloseTo(0.5 * Math.sqrt(TOTAL - size), 5);
    step(0.1, 0.5);
    const changed = [...valuesOf(parameters)].filter(([, value]) => value !== 1).map(([name]) => name);
    const trained = parameters.ranges().map(({ name }) => name);
    expect(changed).toEqual(trained.filter((name) => !frozen.includes(name)));
    const moved = parameters.tensors(optimizer.moments.v).filter(({ data }) => data.some((value) => value !== 0));
    expect(moved.map(({ name }) => name)).toEqual(changed);
    expect(parameters.get("model.embed_tokens.weight").trainable).toBe(false);
    expect(parameters.get("model.layers.0.mlp.experts.gate_up_proj").trainable).toBe(true);
  });

  it("counts steps before this run in the bias correction only", () => {
    const { optimizer, parameters, step } = setup(backend, { weightDecay: 0 });
    optimizer.priorSteps = 1;
    step(0.1, 0.5);
    // As the second step of moments at zero: 0.05 / 0.19 = 0.263158, sqrt(0.0125 / 0.0975) = 0.358057.
    expect([...valuesOf(parameters).values()][0]).toBeCloseTo(1 - 0.1 * 0.734961, 6);
    expect(optimizer.steps).toBe(1);
  });

  it("clips by the global norm, and only what is beyond it", () => {
    const norm = 0.5 * Math.sqrt(TOTAL);
    for (const [clipNorm, scale] of [
      [1, 1 / (norm + 1e-6)],
      [2 * norm, 1],
      [null, 1],
    ] as const) {
      const { optimizer, step } = setup(backend, { clipNorm });
      step(0.1, 0.5);
      const { m, v } = optimizer.moments;
      expect([m.data[0], v.data[0]]).toBeAllClose([0.05 * scale, 0.0125 * scale ** 2], { atol: 0, rtol: 1e-6 });
    }
  });

  it("measures the norm over all gradients, and leaves the padding of the weights at zero", () => {
    const { parameters, optimizer, step } = setup(backend, {});
    for (const { data } of parameters.tensors(parameters.grads)) data.fill(-3);
    expect(optimizer.gradientNorm()).toBeCloseTo(3 * Math.sqrt(TOTAL), 4);
    step(0.1, 0.5);
    const zeros = parameters.values.data.reduce((count, value) => count + (value === 0 ? 1 : 0), 0);
    expect(zeros).toBe(parameters.flatSize - TOTAL);
  });

  it("refuses a noDecay pattern that matches nothing", () => {
    expect(() => setup(backend, { noDecay: ["*norm.weight", "*.bias"] })).toThrow(
      new ConfigError('optimizer.noDecay: "*.bias" matches no parameter', {
        hint: "names look like model.embed_tokens.weight, model.layers.0.input_layernorm.weight, model.layers.0.self_attn.q_proj.weight",
      }),
    );
  });
});
