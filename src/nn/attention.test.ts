import { describe, expect, it } from "vitest";
import { gradientBackends, Variables } from "../../test/gradients.ts";
import { smallConfig } from "../../test/models.ts";
import { Graph } from "../autograd/graph.ts";
import { attention, fillRotaryTable, rope } from "../autograd/ops/attention.ts";
import { clamp, linear, rmsNorm } from "../autograd/ops/basic.ts";
import { Arena } from "../tensor/arena.ts";
import { allocateTensor } from "../tensor/tensor.ts";
import { selfAttention } from "./attention.ts";

const TOKENS = 6;

describe.each(gradientBackends)("selfAttention on %s", (_, backend) => {
  it.each([0.5, null])("norms q and k over all heads, bounds q, k and v to %s, then rotates", (clipQkv) => {
    const make = new Variables(backend, 1);
    const config = smallConfig({ clipQkv });
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const rotary = { cosine: allocateTensor(backend, "f32", [9, 4]), sine: allocateTensor(backend, "f32", [9, 4]) };
    fillRotaryTable(rotary, config.ropeTheta);
    const positions = graph.ids([0, 1, 2, 0, 1, 2]);
    const parameters = {
      q: make.variable([32, 32]),
      k: make.variable([16, 32]),
      v: make.variable([16, 32]),
      o: make.variable([32, 32]),
      qNorm: make.variable([32]),
      kNorm: make.variable([16]),
    };
    const x = make.variable([TOKENS, 32]);
    const layout = { batch: 2, positions, rotary };
    const actual = selfAttention(graph, x, parameters, config, layout).value.data.slice();

    const bounded = (value: typeof x) => (clipQkv === null ? value : clamp(graph, value, clipQkv));
    const { q, k, v, o, qNorm, kNorm } = parameters;
    const normed = (weight: typeof x, norm: typeof x) =>
      bounded(rmsNorm(graph, linear(graph, x, weight), norm, config.rmsNormEps));
    const mixed = attention(
      graph,
      rope(graph, normed(q, qNorm), positions, rotary, 4),
      rope(graph, normed(k, kNorm), positions, rotary, 2),
      bounded(linear(graph, x, v)),
      { batch: 2, heads: 4, kvHeads: 2 },
    );
    expect(actual).toEqual(linear(graph, mixed, o).value.data);
  });
});
