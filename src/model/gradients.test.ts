/** Whole models: the gradient of every parameter, with all losses on, against central differences. */
import { describe, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { expectAgreement, gradientBackends } from "../../test/gradients.ts";
import { createDecoder } from "../../test/models.ts";
import { VARIANTS } from "../../test/variants.ts";
import { checkGradients } from "../autograd/gradientCheck.ts";
import type { Graph } from "../autograd/graph.ts";
import { linearCrossEntropy } from "../autograd/ops/crossEntropy.ts";
import { resolveModel } from "../config/presets.ts";
import { applyRouterLosses, type RouterLossWeights } from "../nn/routerLosses.ts";
import { parameterSpecs } from "./parameters.ts";

const [BATCH, LENGTH] = [2, 4];
const TOKENS = BATCH * LENGTH;

/** Preset tiny, narrower, with weights of order 1, so that third derivatives and gradients are too. */
const REDUCED = {
  preset: "tiny",
  vocabSize: 7,
  hiddenSize: 8,
  intermediateSize: 3,
  numAttentionHeads: 2,
  numExperts: 4,
  initializerRange: 0.5,
  rmsNormEps: 1e-2,
};

// A pass has some hundred roundings in a row: a loss of order 1 is off by a few 1e-7, its differences by 1e-5. The smallest
// of the largest gradients, of an attention norm, is 8e-3, and 1e-5 is 1.3e-3 of it.
const TOLERANCE = 3e-3;

// A loss is smooth only where no step chooses another expert or crosses a bound: the seeds are those that keep clear of both,
// as is a bound in the tails.
const CLIP = 2;
const SEEDS: Readonly<Record<string, number>> = {
  "QK-norm of each head": 2,
  "every second layer dense, of its own width": 4,
  "a shared MoE with shared experts, in every second of four layers": 21,
  "many choices at once": 58,
};

interface GradientCase {
  readonly name: string;
  readonly model: object;
  readonly weights: RouterLossWeights;
  readonly documents: boolean;
  readonly seed: number;
}

const variantCases = VARIANTS.map(([name, model]): GradientCase => {
  const weights = { balance: 0.5, z: 0.1, layerShared: "layerSharedMoe" in model };
  const bounded = "clipQkv" in model ? { ...model, clipQkv: CLIP } : model;
  return { name, model: bounded, weights, documents: false, seed: SEEDS[name] ?? 1 };
});

describe.each(gradientBackends)("the gradients of a whole model on %s", (_, backend) => {
  it.each<GradientCase>([
    { name: "as released", model: {}, weights: { balance: 0.5, z: 0.1 }, documents: false, seed: 3 },
    {
      name: "grouped heads, tied embeddings, normalised weights, other losses, documents",
      model: { numKeyValueHeads: 1, tieWordEmbeddings: true, normTopkProb: true },
      weights: { balance: 0.5, balanceScale: "huggingface", z: 0.1, zScale: "paper" },
      documents: true,
      seed: 3,
    },
    {
      name: "a dense model",
      model: { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 },
      weights: { balance: 0.5, z: 0.1 },
      documents: false,
      seed: 3,
    },
    {
      name: "clipping after the QK-norm, another RoPE base, documents",
      model: { clipQkv: CLIP, ropeTheta: 50 },
      weights: { balance: 0.5, z: 0.1 },
      documents: true,
      seed: 2,
    },
    ...variantCases,
  ])("agree with central differences: $name", ({ model, weights, documents, seed }) => {
    const config = resolveModel({ ...REDUCED, ...model });
    const decoder = createDecoder(backend, config, { trainable: true, seed });
    const draw = new Draw(seed);
    const [ids, labels] = [draw.ints(TOKENS, 0, config.vocabSize - 1), draw.ints(TOKENS, 0, config.vocabSize - 1)];
    labels[LENGTH - 1] = -100;
    const kvStart = documents ? [0, 0, 2, 2, 0, 1, 1, 1] : undefined;
    const loss = (graph: Graph) => {
      const { hidden, routings } = decoder.forward(graph, ids, { batch: BATCH, kvStart });
      const output = decoder.outputWeight;
      const losses = linearCrossEntropy(graph, hidden, output, graph.ids(labels), { scale: 1 / TOKENS, chunk: 3 });
      const { balance, z } = applyRouterLosses(graph, routings, weights);
      const nats = losses.data.reduce((sum, value) => sum + value, 0);
      return nats / TOKENS + weights.balance * balance + weights.z * z;
    };
    const parameters = parameterSpecs(config).map(({ name }) => [name, decoder.parameters.get(name)]);
    const comparisons = checkGradients(backend, Object.fromEntries(parameters), loss);
    expectAgreement(comparisons, TOLERANCE);
  });
});
