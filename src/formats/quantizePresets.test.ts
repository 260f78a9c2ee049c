import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parityPath, parityPresent } from "../../test/parity/fixtures.ts";
import type { StorageType } from "../tensor/stored.ts";
import {
  byLayerAndName,
  chooseTypes,
  type PresetTensor,
  QUANTIZE_PRESETS,
  type QuantizePreset,
} from "./quantizePresets.ts";

/** The tensors of an OLMoE model in GGUF. */
function tensorsOf(layers: number, width: number, inner: number, experts: number): PresetTensor[] {
  const tensor = (name: string, ...shape: number[]): PresetTensor => ({ name, shape, type: "F32" });
  return [
    tensor("token_embd.weight", 512, width),
    tensor("output.weight", 512, width),
    tensor("output_norm.weight", width),
    ...Array.from({ length: layers }, (_, i) => [
      ...["attn_q", "attn_k", "attn_v", "attn_output"].map((name) => tensor(`blk.${i}.${name}.weight`, width, width)),
      ...["attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm"].map((name) =>
        tensor(`blk.${i}.${name}.weight`, width),
      ),
      tensor(`blk.${i}.ffn_gate_inp.weight`, experts, width),
      tensor(`blk.${i}.ffn_gate_exps.weight`, experts, inner, width),
      tensor(`blk.${i}.ffn_up_exps.weight`, experts, inner, width),
      tensor(`blk.${i}.ffn_down_exps.weight`, experts, width, inner),
    ]).flat(),
  ];
}

/** The type of one kind of tensor in each layer. */
function typesOfKind(preset: QuantizePreset, kind: string, layers = 16, experts = 64, heads = 16, kvHeads = 16) {
  const sizes = { layers, experts, heads, kvHeads };
  const types = chooseTypes(preset, tensorsOf(layers, 2048, 1024, experts), sizes);
  return Array.from({ length: layers }, (_, i) => types.get(`blk.${i}.${kind}.weight`)).join(" ");
}

const repeated = (...runs: [StorageType, number][]) =>
  runs.flatMap(([type, count]) => Array.from({ length: count }, () => type)).join(" ");

describe("chooseTypes", () => {
  it("gives values and down projections of some layers of the mixed presets more bits", () => {
    // Layers 0 and 1, 14 and 15, and every third between.
    const mixed = (base: string) =>
      Array.from({ length: 16 }, (_, i) => ([0, 1, 4, 7, 10, 13, 14, 15].includes(i) ? "Q6_K" : base)).join(" ");
    expect(typesOfKind("q4_k_m", "attn_v")).toBe(mixed("Q4_K"));
    expect(typesOfKind("q4_k_m", "ffn_down_exps")).toBe(mixed("Q4_K"));
    expect(typesOfKind("q5_k_m", "attn_v")).toBe(mixed("Q5_K"));
    expect(typesOfKind("q5_k_m", "ffn_down_exps")).toBe(mixed("Q5_K"));
    expect(typesOfKind("q4_k_s", "attn_v")).toBe(repeated(["Q5_K", 4], ["Q4_K", 12]));
    expect(typesOfKind("q4_k_s", "ffn_down_exps")).toBe(repeated(["Q5_K", 2], ["Q4_K", 14]));
    expect(typesOfKind("q3_k_m", "attn_v")).toBe(repeated(["Q5_K", 2], ["Q4_K", 14]));
    expect(typesOfKind("q3_k_m", "ffn_down_exps")).toBe(repeated(["Q5_K", 1], ["Q4_K", 15]));
  });

  it.each([
    ["q2_k", { attn_v: "Q3_K", attn_k: "Q2_K", attn_output: "Q3_K", ffn_down_exps: "Q3_K", ffn_up_exps: "Q2_K" }],
    ["q3_k_s", { attn_v: "Q3_K", attn_k: "Q3_K", attn_output: "Q3_K", ffn_down_exps: "Q3_K", ffn_up_exps: "Q3_K" }],
    ["q3_k_l", { attn_v: "Q5_K", attn_k: "Q3_K", attn_output: "Q5_K", ffn_down_exps: "Q5_K", ffn_up_exps: "Q3_K" }],
    ["q5_k_s", { attn_v: "Q5_K", attn_k: "Q5_K", attn_output: "Q5_K", ffn_down_exps: "Q5_K", ffn_up_exps: "Q5_K" }],
    ["q6_k", { attn_v: "Q6_K", attn_k: "Q6_K", attn_output: "Q6_K", ffn_down_exps: "Q6_K", ffn_up_exps: "Q6_K" }],
    ["q4_0", { attn_v: "Q4_0", attn_k: "Q4_0", attn_output: "Q4_0", ffn_down_exps: "Q4_0", ffn_up_exps: "Q4_0" }],
    ["q8_0", { attn_v: "Q8_0", attn_k: "Q8_0", attn_output: "Q8_0", ffn_down_exps: "Q8_0", ffn_up_exps: "Q8_0" }],
    ["bf16", { attn_v: "BF16", attn_k: "BF16", attn_output: "BF16", ffn_down_exps: "BF16", ffn_up_exps: "BF16" }],
  ] as const)("%s treats all layers alike", (preset, kinds) => {
    for (const [kind, type] of Object.entries(kinds)) {
      expect(typesOfKind(preset, kind)).toBe(repeated([type, 16]));
    }
  });

  it("spares the values of models in which four heads or more share them", () => {
    expect(typesOfKind("q2_k", "attn_v", 4, 64, 16, 4)).toBe(repeated(["Q4_K", 4]));
  });

  it("gives models of exactly eight experts their keys and values in Q8_0", () => {
    expect(typesOfKind("q4_k_m", "attn_v", 4, 8)).toBe(repeated(["Q8_0", 4]));
    expect(typesOfKind("q4_0", "attn_k", 4, 8)).toBe(repeated(["Q8_0", 4]));
    expect(typesOfKind("q3_k_s", "attn_output", 4, 8)).toBe(repeated(["Q5_K", 4]));
    expect(typesOfKind("q5_k_m", "attn_output", 4, 8)).toBe(repeated(["Q5_K", 4]));
    expect(typesOfKind("q3_k_l", "attn_output", 4, 8)).toBe(repeated(["Q3_K", 4]));
  });

  it("keeps norms and routers, and gives the output Q6_K, or Q8_0 where that is the preset", () => {
    for (const [preset, output] of [
      ["q4_0", "Q6_K"],
      ["q2_k", "Q6_K"],
      ["q8_0", "Q8_0"],
      ["f16", "F16"],
    ] as const) {
      const types = chooseTypes(preset, tensorsOf(2, 2048, 1024, 64), {
        layers: 2,
        experts: 64,
        heads: 16,
        kvHeads: 16,
      });
      expect(types.get("output.weight")).toBe(output);
      expect(types.get("token_embd.weight")).toBe(QUANTIZE_PRESETS[preset].type);
      for (const kept of [
        "output_norm",
        "blk.1.attn_norm",
        "blk.1.attn_q_norm",
        "blk.1.ffn_norm",
        "blk.1.ffn_gate_inp",
      ]) {
        expect(types.get(`${kept}.weight`)).toBe("F32");
      }
    }
  });

  it("treats the embedding as the output where that has no matrix of its own", () => {
    const tensors = tensorsOf(1, 256, 256, 4).filter(({ name }) => name !== "output.weight");
    const types = chooseTypes("q4_k_m", tensors, { layers: 1, experts: 4, heads: 4, kvHeads: 4 });
    expect(types.get("token_embd.weight")).toBe("Q6_K");
  });

  it.each([
    ["q2_k", 96, "Q4_0"],
    ["q3_k_s", 96, "Q4_0"],
    ["q4_k_s", 96, "Q5_0"],
    ["q5_k_s", 96, "Q5_1"],
    ["q6_k", 96, "Q8_0"],
    ["q4_0", 96, "Q4_0"],
    ["q6_k", 40, "F16"],
    ["q8_0", 40, "F16"],
  ] as const)("%s of rows of %i falls back to %s", (preset, width, type) => {
    const types = chooseTypes(preset, tensorsOf(1, width, width, 4), { layers: 1, experts: 4, heads: 4, kvHeads: 4 });
    expect(types.get("blk.0.attn_q.weight")).toBe(type);
    expect(types.get("output.weight")).toBe(width === 40 ? "F16" : "Q8_0");
  });

  describe.skipIf(!parityPresent)("against llama.cpp's files (reference values absent: skipped)", () => {
    it.each([
      ["narrow", "Q8_0", 96, 8],
      ["narrow", "Q4_0", 96, 8],
      ["wide", "Q4_0", 256, 4],
      ["wide", "Q4_K_M", 256, 4],
      ["wide", "Q5_K_M", 256, 4],
      ["wide", "Q6_K", 256, 4],
    ] as const)("chooses the types and the order of %s %s", (model, name, inner, experts) => {
      const { files } = JSON.parse(readFileSync(parityPath(`gguf/${model}/expected.json`), "utf8"));
      const expected: Record<string, StorageType> = files.find(
        ({ type }: { type: string }) => type === name,
      ).tensor_types;
      const width = model === "narrow" ? 64 : 256;
      const tensors = tensorsOf(2, width, inner, experts).sort(byLayerAndName);
      const types = chooseTypes(name.toLowerCase() as QuantizePreset, tensors, {
        layers: 2,
        experts,
        heads: 4,
        kvHeads: 4,
      });
      expect([...types]).toEqual(Object.entries(expected));
    });
  });
});
