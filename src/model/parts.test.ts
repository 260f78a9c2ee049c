import { describe, expect, it } from "vitest";
import { resolveModel } from "../config/presets.ts";
import { countParameters, forwardFlops } from "./counts.ts";
import { parameterSpecs } from "./parameters.ts";

/** Two layers of width 8 with 2 heads of 4, keys and values of one head, 3 experts of width 3, 2 for each token. */
const BASE = {
  preset: "tiny",
  vocabSize: 10,
  hiddenSize: 8,
  intermediateSize: 3,
  numAttentionHeads: 2,
  numKeyValueHeads: 1,
  numExperts: 3,
  numExpertsPerTok: 2,
};
const config = (changes: object) => resolveModel({ ...BASE, ...changes });

/** Names and shapes of the tensors that a model has and the released kind of model has not, and the other way round. */
function differences(changes: object) {
  const shapes = (variant: object) =>
    new Map(
      parameterSpecs(config(variant)).flatMap(({ slices }) => slices.map(({ name, shape }) => [name, `[${shape}]`])),
    );
  const [base, variant] = [shapes({}), shapes(changes)];
  const only = (one: Map<string, string>, other: Map<string, string>) =>
    [...one].filter(([name, shape]) => other.get(name) !== shape).map((entry) => entry.join(" "));
  return { more: only(variant, base), less: only(base, variant) };
}

const BLOCK_NORMS = ["input_layernorm", "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm"];
const LAYERS = ["model.layers.0", "model.layers.1"];
const expertsOf = (prefix: string) =>
  [0, 1, 2].flatMap((e) => [
    `${prefix}.experts.${e}.gate_proj.weight [3,8]`,
    `${prefix}.experts.${e}.up_proj.weight [3,8]`,
    ...[`${prefix}.experts.${e}.down_proj.weight [8,3]`],
  ]);
const sorted = (names: readonly string[]) => [...names].sort();

describe("the tensors of a model", () => {
  it("include a bias of every norm with LayerNorm", () => {
    const { more, less } = differences({ normType: "layernorm" });
    const blocks = LAYERS.flatMap((layer) =>
      BLOCK_NORMS.map((norm) => `${layer}.${norm}.bias [${norm.endsWith("k_norm") ? 4 : 8}]`),
    );
    expect(sorted(more)).toEqual(sorted([...blocks, "model.norm.bias [8]"]));
    expect(less).toEqual([]);
  });

  it("include no norm with LayerNorm without parameters", () => {
    const { more, less } = differences({ normType: "layernorm_nonparametric" });
    expect(more).toEqual([]);
    expect(less.length).toBe(2 * 4 + 1);
    expect(less.every((name) => name.includes("norm"))).toBe(true);
  });

  it("have QK-norms as wide as a head, or none", () => {
    const names = LAYERS.flatMap((layer) => ["q", "k"].map((part) => `${layer}.self_attn.${part}_norm.weight`));
    const full = names.map((name) => `${name} [${name.includes("q_norm") ? 8 : 4}]`);
    // One head of keys: its norm over all heads is already as wide as one.
    const queries = names.filter((name) => name.includes("q_norm"));
    expect(differences({ qkNorm: "head" })).toEqual({
      more: queries.map((name) => `${name} [4]`),
      less: queries.map((name) => `${name} [8]`),
    });
    expect(differences({ qkNorm: "none" })).toEqual({ more: [], less: full });
  });

  it("are transformers' names of a dense MLP in layers without experts", () => {
    const { more, less } = differences({ decoderSparseStep: 2 });
    const dense = (inner: number) => [
      `model.layers.0.mlp.gate_proj.weight [${inner},8]`,
      `model.layers.0.mlp.up_proj.weight [${inner},8]`,
      `model.layers.0.mlp.down_proj.weight [8,${inner}]`,
    ];
    expect(more).toEqual(dense(6));
    expect(sorted(less)).toEqual(sorted(["model.layers.0.mlp.gate.weight [3,8]", ...expertsOf("model.layers.0.mlp")]));
    expect(differences({ decoderSparseStep: 2, denseIntermediateSize: 5 }).more).toEqual(dense(5));
  });

  it("have shared experts as one SwiGLU beside the routed ones", () => {
    expect(differences({ numSharedExperts: 2 })).toEqual({
      more: LAYERS.flatMap((layer) => [
        `${layer}.mlp.shared_experts.gate_proj.weight [6,8]`,
        `${layer}.mlp.shared_experts.up_proj.weight [6,8]`,
        `${layer}.mlp.shared_experts.down_proj.weight [8,6]`,
      ]),
      less: [],
    });
  });

  it("have what layers share once, outside of the layers", () => {
    const own = LAYERS.flatMap((layer) => expertsOf(`${layer}.mlp`));
    const routers = LAYERS.map((layer) => `${layer}.mlp.gate.weight [3,8]`);
    const experts = differences({ layerSharedMoe: "experts" });
    expect([sorted(experts.more), sorted(experts.less)]).toEqual([sorted(expertsOf("model.mlp")), sorted(own)]);
    const moe = differences({ layerSharedMoe: "moe" });
    expect(sorted(moe.more)).toEqual(sorted(["model.mlp.gate.weight [3,8]", ...expertsOf("model.mlp")]));
    expect(sorted(moe.less)).toEqual(sorted([...own, ...routers]));
    const shared = differences({ layerSharedMoe: "moe", numSharedExperts: 1 }).more;
    expect(shared.filter((name) => name.includes("shared"))).toEqual([
      "model.mlp.shared_experts.gate_proj.weight [3,8]",
      "model.mlp.shared_experts.up_proj.weight [3,8]",
      "model.mlp.shared_experts.down_proj.weight [8,3]",
    ]);
  });
});

describe("counts", () => {
  // Attention 8 * 8 * 2 + 4 * 8 * 2 = 192, norms 8 + 8 + 8 + 4 = 28, router 24, an expert 3 * 3 * 8 = 72; outside of the
  // layers two embeddings of 80 and a norm of 8.
  const [attention, norms, router, expert, outer] = [192, 28, 24, 72, 168];
  const layer = attention + norms + router;

  it.each<readonly [changes: object, total: number, active: number]>([
    [{}, outer + 2 * (layer + 3 * expert), outer + 2 * (layer + 2 * expert)],
    [{ normType: "layernorm" }, outer + 8 + 2 * (layer + 28 + 3 * expert), outer + 8 + 2 * (layer + 28 + 2 * expert)],
    [
      { normType: "layernorm_nonparametric" },
      outer - 8 + 2 * (layer - 28 + 3 * expert),
      outer - 8 + 2 * (layer - 28 + 2 * expert),
    ],
    [{ qkNorm: "head" }, outer + 2 * (layer - 4 + 3 * expert), outer + 2 * (layer - 4 + 2 * expert)],
    [{ qkNorm: "none" }, outer + 2 * (layer - 12 + 3 * expert), outer + 2 * (layer - 12 + 2 * expert)],
    // The dense layer has no router and is as wide as two experts.
    [{ decoderSparseStep: 2 }, outer + 2 * layer - router + 5 * expert, outer + 2 * layer - router + 4 * expert],
    [{ numSharedExperts: 2 }, outer + 2 * (layer + 5 * expert), outer + 2 * (layer + 4 * expert)],
    // Stored once, active in each layer.
    [{ layerSharedMoe: "experts" }, outer + 2 * layer + 3 * expert, outer + 2 * (layer + 2 * expert)],
    [{ layerSharedMoe: "moe" }, outer + 2 * layer - router + 3 * expert, outer + 2 * (layer + 2 * expert)],
    [
      { layerSharedMoe: "moe", numSharedExperts: 1 },
      outer + 2 * layer - router + 4 * expert,
      outer + 2 * (layer + 3 * expert),
    ],
  ])("of %j are those worked out by hand", (changes, total, active) => {
    expect(countParameters(config(changes))).toEqual({ total, active });
  });

  it.each<readonly [changes: object, weights: number]>([
    [{}, 2 * (attention + router + 2 * expert)],
    [{ decoderSparseStep: 2 }, 2 * attention + router + 4 * expert],
    [{ numSharedExperts: 2 }, 2 * (attention + router + 4 * expert)],
    [{ layerSharedMoe: "moe" }, 2 * (attention + router + 2 * expert)],
    [{ normType: "layernorm", qkNorm: "none" }, 2 * (attention + router + 2 * expert)],
  ])("of operations with %j are of each use", (changes, weights) => {
    expect(forwardFlops(config(changes), 16) - forwardFlops(config({}), 16)).toBe(
      2 * (weights - 2 * (attention + router + 2 * expert)),
    );
  });
});
