import { describe, expect, it } from "vitest";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { Parameters } from "../model/parameters.ts";
import { NormMeter, parameterGroup, parameterLayer } from "./norms.ts";

const sumOfSquares = (values: Iterable<number>) => [...values].reduce((sum, value) => sum + value * value, 0);

describe("parameterGroup", () => {
  it("knows every kind of tensor by its name", () => {
    const names: Record<string, string> = {
      "model.embed_tokens.weight": "embeddings",
      "model.layers.0.input_layernorm.weight": "norms",
      "model.layers.0.self_attn.q_proj.weight": "attention",
      "model.layers.0.self_attn.o_proj.weight": "attention",
      "model.layers.0.self_attn.q_norm.weight": "norms",
      "model.layers.0.post_attention_layernorm.weight": "norms",
      "model.layers.0.mlp.gate.weight": "router",
      "model.layers.12.mlp.experts.63.gate_proj.weight": "experts",
      "model.layers.1.mlp.experts.7.down_proj.weight": "experts",
      "model.norm.weight": "norms",
      "model.norm.bias": "norms",
      "lm_head.weight": "head",
      "model.something.else": "other",
    };
    expect(Object.keys(names).map((name) => [name, parameterGroup(name)])).toEqual(Object.entries(names));
    expect(Object.keys(names).map(parameterLayer)).toEqual([
      ...[undefined, 0, 0, 0, 0, 0, 0, 12, 1],
      ...[undefined, undefined, undefined, undefined],
    ]);
  });
});

describe.each(gradientBackends)("NormMeter on %s", (_, backend) => {
  it.each([
    ["a mixture", {}, ["embeddings", "norms", "attention", "router", "experts", "head"]],
    ["a tied head", { tieWordEmbeddings: true }, ["embeddings", "norms", "attention", "router", "experts"]],
    [
      "a dense model",
      { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 },
      ["embeddings", "norms", "attention", "experts", "head"],
    ],
  ])("gives the norms of each group and layer of %s, as a plain sum does", (_name, changes, groups) => {
    const { parameters } = createDecoder(backend, smallConfig(changes));
    const { groups: measured, layers } = new NormMeter(backend, parameters).measure(parameters.values);
    expect(Object.keys(measured)).toEqual(groups);
    const plain = (keep: (name: string) => boolean) =>
      Math.sqrt(
        parameters
          .tensors()
          .filter(({ name }) => keep(name))
          .reduce((sum, { data }) => sum + sumOfSquares(data), 0),
      );
    for (const [group, norm] of Object.entries(measured)) {
      expect(norm / plain((name) => parameterGroup(name) === group), group).toBeCloseTo(1, 10);
    }
    expect(layers).toHaveLength(2);
    for (const [layer, norm] of layers.entries()) {
      expect(norm / plain((name) => parameterLayer(name) === layer), `layer ${layer}`).toBeCloseTo(1, 10);
    }
    const { pointer, size } = parameters.values;
    expect(sumOfSquares(Object.values(measured)) / backend.kernels.sumSquares(pointer, size)).toBeCloseTo(1, 12);
  });

  it("measures any flat block, zeros too", () => {
    const parameters = new Parameters(backend, smallConfig(), { trainable: true });
    const { groups, layers } = new NormMeter(backend, parameters).measure(parameters.grads!);
    expect(Object.values(groups)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(layers).toEqual([0, 0]);
  });
});
