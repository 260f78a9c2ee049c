import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import type { ModelConfig } from "./model.ts";
import { presetNames, resolveModel } from "./presets.ts";

/** Parameters when `experts` experts of each layer count; worked out from the tensors of a layer. */
function parameters(config: ModelConfig, experts: number): number {
  const { hiddenSize: d, intermediateSize: f, numHiddenLayers, vocabSize } = config;
  const attention = 4 * d * d;
  const norms = 4 * d;
  const router = config.mlpType === "dense" ? 0 : config.numExperts * d;
  const layer = attention + norms + router + experts * 3 * d * f;
  return numHiddenLayers * layer + 2 * vocabSize * d + d;
}

describe("presets", () => {
  it.each(presetNames)("%s has the total and active parameters that its comment states", (name) => {
    const source = readFileSync(new URL("presets.ts", import.meta.url), "utf8");
    const comment = new RegExp(`/\\*\\* ([\\d,]+)(?: / ([\\d,]+))?[.:][^\\n]*\\n  "?${name}"?:`).exec(source);
    const stated = comment?.slice(1).map((text) => (text === undefined ? undefined : Number(text.replaceAll(",", ""))));
    const config = resolveModel({ preset: name });
    const total = parameters(config, config.numExperts);
    const active = config.mlpType === "dense" ? undefined : parameters(config, config.numExpertsPerTok);
    expect(stated).toEqual([total, active]);
  });

  it("hold the paper's counts for the released model and its dense comparison", () => {
    const released = resolveModel({ preset: "olmoe-1b-7b" });
    expect([parameters(released, 64), parameters(released, 8)]).toEqual([6_919_161_856, 1_282_017_280]);
    expect(parameters(resolveModel({ preset: "olmoe-1b-7b-dense" }), 1)).toBe(1_279_920_128);
  });

  it.each([
    ["nano", "nano-dense"],
    ["olmoe-1b-7b", "olmoe-1b-7b-dense"],
  ] as const)("give %s a dense twin that differs in its MLP alone", (sparse, dense) => {
    const moe = resolveModel({ preset: sparse });
    expect(resolveModel({ preset: dense })).toEqual({
      ...moe,
      mlpType: "dense",
      intermediateSize: moe.numExpertsPerTok * moe.intermediateSize,
      numExperts: 1,
      numExpertsPerTok: 1,
    });
  });
});

describe("resolveModel", () => {
  it("prefers the recipe's values to the tokenizer's, and those to the preset's", () => {
    const config = resolveModel(
      { preset: "nano", numExperts: 16, eosTokenId: 2 },
      { vocabSize: 4100, eosTokenId: 0, padTokenId: 1 },
    );
    expect(config).toEqual({
      ...resolveModel({ preset: "nano" }),
      numExperts: 16,
      vocabSize: 4100,
      eosTokenId: 2,
      padTokenId: 1,
    });
  });

  it("takes a whole config without a preset", () => {
    const config = resolveModel({ preset: "tiny" });
    expect(resolveModel(config)).toEqual(config);
  });

  it("suggests the nearest name for an unknown preset", () => {
    expect(() => resolveModel({ preset: "nanno" })).toThrow(
      new ConfigError('model.preset: unknown preset "nanno", did you mean "nano"?', {
        hint: "presets are tiny, nano, nano-dense, small, compact, medium, olmoe-1b-7b, olmoe-1b-7b-dense",
      }),
    );
  });

  it("refuses names that every object has", () => {
    expect(() => resolveModel({ preset: "constructor" })).toThrow(ConfigError);
  });

  it("reports a misspelt field of the recipe", () => {
    expect(() => resolveModel({ preset: "nano", numExpert: 16 })).toThrow(
      new ConfigError('model: numExpert: unknown key, did you mean "numExperts"?'),
    );
  });

  it("refuses fewer embedding rows than the tokenizer has entries", () => {
    expect(() => resolveModel({ preset: "nano", vocabSize: 4096 }, { vocabSize: 5000 })).toThrow(
      new ConfigError("model.vocabSize: 4096, must be at least the tokenizer's entries (5000)", {
        hint: "leave vocabSize out to take the tokenizer's",
      }),
    );
  });
});
