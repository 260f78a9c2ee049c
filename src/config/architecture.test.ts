import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { denseWidth, moeLayers } from "./architecture.ts";
import { resolveModel } from "./presets.ts";

/** Preset tiny has 2 layers, experts of width 16, 2 of 8 for each token. */
const tiny = (changes: object = {}) => resolveModel({ preset: "tiny", ...changes });
const DENSE = { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 };

describe("architecture fields", () => {
  it("are those of the released model where they are left out", () => {
    expect(tiny()).toMatchObject({
      normType: "rmsnorm",
      qkNorm: "full",
      clipQkvPlacement: "after_norm",
      initialization: "truncated_normal",
      decoderSparseStep: 1,
      denseIntermediateSize: null,
      numSharedExperts: 0,
      layerSharedMoe: "none",
    });
  });

  it.each([
    [
      { normType: "layer_norm" },
      'normType: "layer_norm", expected one of "rmsnorm"|"layernorm"|"layernorm_nonparametric", did you mean "layernorm"?',
    ],
    [
      { decoderSparseStep: 3 },
      "decoderSparseStep: 3, must be at most numHiddenLayers (2): no layer would have experts",
    ],
    [{ decoderSparseStep: 0 }, "decoderSparseStep: 0, expected number to be >=1"],
    [{ denseIntermediateSize: 8 }, "denseIntermediateSize: 8, every layer has experts where decoderSparseStep is 1"],
    [
      { layerSharedMoe: "moe", numHiddenLayers: 1 },
      'layerSharedMoe: "moe", only 1 layer has experts: there is nothing to share',
    ],
    [
      { layerSharedMoe: "experts", decoderSparseStep: 2 },
      'layerSharedMoe: "experts", only 1 layer has experts: there is nothing to share',
    ],
    [{ ...DENSE, numSharedExperts: 1 }, 'numSharedExperts: 1, is of experts, which a model of mlpType "dense" has not'],
    [
      { ...DENSE, decoderSparseStep: 2 },
      'decoderSparseStep: 2, is of experts, which a model of mlpType "dense" has not',
    ],
    [
      { ...DENSE, denseIntermediateSize: 8 },
      'denseIntermediateSize: 8, is of experts, which a model of mlpType "dense" has not',
    ],
    [
      { ...DENSE, layerSharedMoe: "moe" },
      'layerSharedMoe: "moe", is of experts, which a model of mlpType "dense" has not',
    ],
    [{ clipQkvPlacement: "before_norm" }, 'clipQkvPlacement: "before_norm", nothing is clipped where clipQkv is null'],
    [
      { clipQkvPlacement: "before_norm", clipQkv: 8, qkNorm: "none" },
      'clipQkvPlacement: "before_norm", there is no norm where qkNorm is "none"',
    ],
    [
      { initialization: "mitchell", initializerRange: 0.03 },
      'initializerRange: 0.03, has no effect where initialization is "mitchell": leave it out',
    ],
    [
      { initialization: "normal", initializerCutoffFactor: 2 },
      'initializerCutoffFactor: 2, has no effect where initialization is "normal": leave it out',
    ],
    [
      { qkNorm: "head", numAttentionHeads: 32, numKeyValueHeads: 32 },
      "hiddenSize: 32 / numAttentionHeads is odd, rotary positions need pairs of channels",
    ],
  ])("%j are refused with the reason", (changes, fault) => {
    expect(() => tiny(changes)).toThrow(new ConfigError(`model: ${fault}`));
  });

  it("are refused all at once", () => {
    expect(() =>
      tiny({ decoderSparseStep: 5, clipQkvPlacement: "before_norm", initialization: "fan_in", initializerRange: 1 }),
    ).toThrowErrorMatchingInlineSnapshot(`
      [ConfigError: model: 3 faults
        - decoderSparseStep: 5, must be at most numHiddenLayers (2): no layer would have experts
        - clipQkvPlacement: "before_norm", nothing is clipped where clipQkv is null
        - initializerRange: 1, has no effect where initialization is "fan_in": leave it out]
    `);
  });
});

describe("moeLayers", () => {
  it("are all, every n-th, or none", () => {
    expect(moeLayers(tiny({ numHiddenLayers: 3 }))).toEqual([0, 1, 2]);
    expect(moeLayers(tiny({ numHiddenLayers: 5, decoderSparseStep: 2 }))).toEqual([1, 3]);
    expect(moeLayers(tiny({ numHiddenLayers: 3, decoderSparseStep: 3 }))).toEqual([2]);
    expect(moeLayers(tiny(DENSE))).toEqual([]);
  });
});

describe("denseWidth", () => {
  it("is that of the experts that a token uses, or as given", () => {
    expect(denseWidth(tiny({ decoderSparseStep: 2 }))).toBe(2 * 16);
    expect(denseWidth(tiny({ decoderSparseStep: 2, numSharedExperts: 1 }))).toBe(3 * 16);
    expect(denseWidth(tiny({ decoderSparseStep: 2, denseIntermediateSize: 5 }))).toBe(5);
    expect(denseWidth(tiny(DENSE))).toBe(16);
  });
});
