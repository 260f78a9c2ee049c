/** Recomputation changes where memory goes and nothing else. */
import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { Graph } from "../autograd/graph.ts";
import type { ModelConfig } from "../config/model.ts";
import { lossSchema, optimizerSchema, type TrainRecipe } from "../config/recipe.ts";
import { ConfigError } from "../errors.ts";
import { Arena } from "../tensor/arena.ts";
import { TrainStep } from "./step.ts";

const [, backend] = gradientBackends.at(-1) as (typeof gradientBackends)[number];
const LENGTH = 24;

interface Setup {
  readonly config: ModelConfig;
  readonly recompute: TrainRecipe["recompute"];
  readonly sequences?: number;
  readonly microBatchSize?: number;
  readonly documents?: boolean;
}

/** Two steps: what they measured, the gradients of the second, the weights after it, and bytes of activations. */
function train({ config, recompute, sequences = 4, microBatchSize = 2, documents = false }: Setup) {
  const decoder = createDecoder(backend, config, { trainable: true });
  const trainer = new TrainStep(backend, decoder, {
    sequenceLength: LENGTH,
    microBatchSize,
    loss: lossSchema.parse({ balance: 0.5, z: 0.1 }),
    optimizer: optimizerSchema.parse({ lr: 1e-2 }),
    recompute,
  });
  const draw = new Draw(5);
  let gradients = new Float32Array();
  const results = [0, 1].map(() => {
    const ids = draw.ints(sequences * LENGTH, 0, config.vocabSize - 1);
    const kvStart = documents ? ids.map((_, i) => (i % LENGTH >= 10 ? 10 : 0)) : undefined;
    return trainer.run({ ids, labels: ids, kvStart }, 1e-2, {
      onGradients: () => {
        gradients = decoder.parameters.grads?.data.slice() ?? gradients;
      },
    });
  });
  const outcome = { results, gradients, values: decoder.parameters.values.data.slice() };
  const bytes = trainer.activationBytes;
  trainer.dispose();
  decoder.dispose();
  decoder.parameters.dispose();
  return { outcome, bytes };
}

describe("recomputation", () => {
  it.each<[string, ModelConfig, boolean]>([
    ["a mixture of experts", smallConfig({ numHiddenLayers: 3 }), false],
    ["bounded q, k and v, normalised weights, documents", smallConfig({ clipQkv: 0.5, normTopkProb: true }), true],
    ["tied embeddings and one layer", smallConfig({ numHiddenLayers: 1, tieWordEmbeddings: true }), false],
    ["dropped slots", smallConfig({ expertCapacityFactor: 0.6, softmaxAfterTopk: true }), false],
    ["experts that choose their tokens", smallConfig({ routing: "expert_choice" }), false],
    ["a dense model", smallConfig({ mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 }), false],
  ])("of all layers, or of some, gives the gradients and weights of none bit for bit: %s", (_, config, documents) => {
    const { outcome: expected } = train({ config, recompute: "none", documents });
    for (const recompute of ["all", [config.numHiddenLayers - 1], [0, 0], []] as const) {
      expect(train({ config, recompute: recompute as TrainRecipe["recompute"], documents }).outcome).toEqual(expected);
    }
  });

  it("takes less memory for each layer that is recomputed, down to its input, its output and its routing", () => {
    const config = smallConfig({ numHiddenLayers: 8, hiddenSize: 64, maxPositionEmbeddings: LENGTH });
    const of = (recompute: TrainRecipe["recompute"]) =>
      train({ config, recompute, sequences: 64, microBatchSize: 64 }).bytes;
    const [none, half, all] = [of("none"), of([0, 2, 4, 6]), of("all")];
    expect(half).toBeLessThan(0.65 * none);
    expect(all).toBeLessThan(0.35 * none);
  });

  it("shows a pass to its observer once, and gives each routing once", () => {
    const config = smallConfig();
    const decoder = createDecoder(backend, config, { trainable: true });
    const arena = new Arena(backend);
    const graph = new Graph(backend, arena, { record: true });
    const seen: string[] = [];
    const { hidden, routings } = decoder.forward(graph, new Draw(1).ints(8, 0, 49), {
      batch: 1,
      recompute: new Set([0, 1]),
      observe: {
        hidden: (index) => seen.push(`hidden ${index}`),
        attentionOutput: (layer) => seen.push(`attention ${layer}`),
        routing: (layer) => seen.push(`routing ${layer}`),
        mlpOutput: (layer) => seen.push(`mlp ${layer}`),
      },
    });
    expect(routings.length).toBe(2);
    hidden.grad = graph.take(hidden.value.shape);
    hidden.grad.data.fill(1);
    graph.backward();
    const layer = (index: number) => [`attention ${index}`, `routing ${index}`, `mlp ${index}`, `hidden ${index + 1}`];
    expect(seen).toEqual(["hidden 0", ...layer(0), ...layer(1)]);
    expect(decoder.parameters.grads?.data.some((value) => value !== 0)).toBe(true);
    arena.dispose();
  });

  it("changes nothing in a pass that is not recorded", () => {
    const decoder = createDecoder(backend, smallConfig());
    const hidden = [undefined, new Set([0, 1])].map((recompute) => {
      const arena = new Arena(backend);
      const graph = new Graph(backend, arena, { record: false });
      const values = decoder.forward(graph, [1, 2, 3], { batch: 1, recompute }).hidden.value.data.slice();
      arena.dispose();
      return values;
    });
    expect(hidden[1]).toEqual(hidden[0]);
  });

  it("of a layer that the model does not have is refused", () => {
    expect(() => train({ config: smallConfig(), recompute: [0, 2] })).toThrow(
      new ConfigError("train.recompute: layer 2, the model has layers 0 to 1"),
    );
  });
});
