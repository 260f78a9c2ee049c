import { describe, expect, it } from "vitest";
import { gradientBackends, Variables } from "../../test/gradients.ts";
import { smallConfig } from "../../test/models.ts";
import { Graph, type Variable } from "../autograd/graph.ts";
import { attention, fillRotaryTable, rope, rotaryFrequencies } from "../autograd/ops/attention.ts";
import { clamp, linear, rmsNorm } from "../autograd/ops/basic.ts";
import { layerNorm } from "../autograd/ops/layerNorm.ts";
import { Arena } from "../tensor/arena.ts";
import { allocateTensor } from "../tensor/tensor.ts";
import { selfAttention } from "./attention.ts";
import type { Norm } from "./norm.ts";

const TOKENS = 6;
const CHANNELS = 8;
const epsilon = 1e-5;

describe.each(gradientBackends)("selfAttention on %s", (_, backend) => {
  /** What selfAttention gives, and the same from single operations with the given way from projection to rotation. */
  function bothWays(
    changes: object,
    norms: (make: Variables) => { readonly qNorm?: Norm; readonly kNorm?: Norm },
    prepare: (graph: Graph, projected: Variable, norm: Norm | undefined) => Variable,
    bounded: (graph: Graph, v: Variable) => Variable,
  ) {
    const make = new Variables(backend, 1);
    const config = smallConfig(changes);
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const table = () => allocateTensor(backend, "f32", [9, CHANNELS / 2]);
    const rotary = { cosine: table(), sine: table() };
    fillRotaryTable(rotary, rotaryFrequencies(config.ropeTheta, CHANNELS / 2));
    const positions = graph.ids([0, 1, 2, 0, 1, 2]);
    const [q, k, v, o] = [
      make.variable([32, 32]),
      make.variable([16, 32]),
      make.variable([16, 32]),
      make.variable([32, 32]),
    ];
    const x = make.variable([TOKENS, 32]);
    const { qNorm, kNorm } = norms(make);
    const layout = { batch: 2, positions, rotary };
    const actual = selfAttention(graph, x, { q, k, v, o, qNorm, kNorm }, config, layout).value.data.slice();
    const mixed = attention(
      graph,
      rope(graph, prepare(graph, linear(graph, x, q), qNorm), positions, rotary, 4),
      rope(graph, prepare(graph, linear(graph, x, k), kNorm), positions, rotary, 2),
      bounded(graph, linear(graph, x, v)),
      { batch: 2, heads: 4, kvHeads: 2 },
    );
    return { actual, expected: linear(graph, mixed, o).value.data };
  }

  const rms = (graph: Graph, x: Variable, norm: Norm | undefined) =>
    rmsNorm(graph, x, norm?.weight as Variable, epsilon);
  const rmsNorms = (qWidth: number, kWidth: number) => (make: Variables) => {
    const norm = (width: number): Norm => ({ type: "rmsnorm", width, epsilon, weight: make.variable([width]) });
    return { qNorm: norm(qWidth), kNorm: norm(kWidth) };
  };
  const clip = (graph: Graph, x: Variable) => clamp(graph, x, 0.5);
  const keep = (_graph: Graph, x: Variable) => x;

  it("norms q and k over all heads, then rotates", () => {
    const { actual, expected } = bothWays({}, rmsNorms(32, 16), rms, keep);
    expect(actual).toEqual(expected);
  });

  it("bounds q and k after their norms, and v", () => {
    const after = (graph: Graph, x: Variable, norm: Norm | undefined) => clip(graph, rms(graph, x, norm));
    const { actual, expected } = bothWays({ clipQkv: 0.5 }, rmsNorms(32, 16), after, clip);
    expect(actual).toEqual(expected);
  });

  it("bounds q and k before their norms, and v, where the config says so", () => {
    const before = (graph: Graph, x: Variable, norm: Norm | undefined) => rms(graph, clip(graph, x), norm);
    const changes = { clipQkv: 0.5, clipQkvPlacement: "before_norm" };
    const { actual, expected } = bothWays(changes, rmsNorms(32, 16), before, clip);
    expect(actual).toEqual(expected);
  });

  it("norms each head of q and k with one weight", () => {
    const { actual, expected } = bothWays({ qkNorm: "head" }, rmsNorms(CHANNELS, CHANNELS), rms, keep);
    expect(actual).toEqual(expected);
  });

  it("norms with LayerNorm", () => {
    const norms = (make: Variables) => {
      const norm = (width: number): Norm => {
        const [weight, bias] = [make.variable([width]), make.variable([width])];
        return { type: "layernorm", width, epsilon, weight, bias };
      };
      return { qNorm: norm(32), kNorm: norm(16) };
    };
    const layer = (graph: Graph, x: Variable, norm: Norm | undefined) =>
      layerNorm(graph, x, norm as Exclude<Norm, { readonly type: "rmsnorm" }>);
    const { actual, expected } = bothWays({ normType: "layernorm" }, norms, layer, keep);
    expect(actual).toEqual(expected);
  });

  it("bounds and rotates q and k without a norm", () => {
    const changes = { qkNorm: "none", clipQkv: 0.5 };
    const { actual, expected } = bothWays(changes, () => ({}), clip, clip);
    expect(actual).toEqual(expected);
  });
});
