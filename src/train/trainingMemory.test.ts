import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { countingBackend } from "../../test/countingBackend.ts";
import { allBackends, createDecoder, smallConfig } from "../../test/models.ts";
import type { ModelConfig } from "../config/model.ts";
import { resolveModel } from "../config/presets.ts";
import { lossSchema, optimizerSchema } from "../config/recipe.ts";
import { ConfigError } from "../errors.ts";
import { PagePool } from "../model/cache.ts";
import { frozenNames } from "./patterns.ts";
import { TrainStep } from "./step.ts";
import { inferenceMemory, type TrainingMemoryOptions, totalBytes, trainingMemory } from "./trainingMemory.ts";

const [, backend] = allBackends.at(-2) as (typeof allBackends)[number];
const MIB = 2 ** 20;
const EXPERT_CHOICE = { routing: "expert_choice", expertChoiceScope: "batch" };

const options = (changes: Partial<TrainingMemoryOptions> = {}): TrainingMemoryOptions => ({
  sequenceLength: 32,
  batchSize: 8,
  microBatchSize: 4,
  loss: lossSchema.parse({}),
  optimizer: optimizerSchema.parse({}),
  ...changes,
});

/** The most that three real training steps hold at once. */
function measured(config: ModelConfig, options: TrainingMemoryOptions): number {
  const { batchSize, documentMask, freeze = [], ...rest } = options;
  const counted = countingBackend(backend);
  const decoder = createDecoder(counted.backend, config, { trainable: true, frozen: frozenNames(config, freeze) });
  const trainer = new TrainStep(counted.backend, decoder, rest);
  const ids = Int32Array.from({ length: batchSize * rest.sequenceLength }, (_, i) => (i * 7) % config.vocabSize);
  const kvStart = documentMask ? new Int32Array(ids.length) : undefined;
  for (let step = 0; step < 3; step++) trainer.run({ ids, labels: ids, kvStart }, 1e-3);
  trainer.dispose();
  decoder.dispose();
  decoder.parameters.dispose();
  expect(counted.bytes.held).toBe(0);
  return counted.bytes.peak;
}

describe("trainingMemory", () => {
  it("is what training holds at the most, byte for byte, whatever the model and the batch", () => {
    const anyRun = fc.record({
      hiddenSize: fc.constantFrom(32, 96, 256),
      numHiddenLayers: fc.integer({ min: 1, max: 4 }),
      intermediateSize: fc.constantFrom(7, 64, 160),
      dense: fc.boolean(),
      experts: fc.constantFrom([1, 1], [8, 2], [12, 5]),
      clipQkv: fc.constantFrom(null, 4),
      tieWordEmbeddings: fc.boolean(),
      recompute: fc.constantFrom("none" as const, "all" as const, [0]),
      sequenceLength: fc.constantFrom(2, 31, 160),
      batchSize: fc.constantFrom(1, 2, 6),
      halved: fc.boolean(),
      documentMask: fc.boolean(),
      routing: fc.constantFrom({}, {}, { expertCapacityFactor: 0.5 }, { softmaxAfterTopk: true }, EXPERT_CHOICE),
      norms: fc.constantFrom({}, { normType: "layernorm" }, { normType: "layernorm_nonparametric", qkNorm: "head" }),
      freeze: fc.constantFrom([], ["model.layers.0.*", "model.embed_tokens.*"], ["*.down_proj.weight"]),
    });
    fc.assert(
      fc.property(
        anyRun,
        ({
          dense,
          experts,
          halved,
          recompute,
          sequenceLength,
          batchSize,
          documentMask,
          routing,
          norms,
          freeze,
          ...model
        }) => {
          const [numExperts = 1, numExpertsPerTok = 1] = dense ? [1, 1] : experts;
          const mlp = dense ? { mlpType: "dense" } : { ...routing };
          const config = smallConfig({ ...model, ...norms, ...mlp, numExperts, numExpertsPerTok });
          const microBatchSize = halved && batchSize % 2 === 0 ? batchSize / 2 : batchSize;
          const run = options({ recompute, sequenceLength, batchSize, microBatchSize, documentMask, freeze });
          expect(totalBytes(trainingMemory(config, { ...run, evaluates: false }))).toBe(measured(config, run));
        },
      ),
      { seed: 1, numRuns: 25 },
    );
  });

  it("has parts that can be worked out: four floats for each weight, two for each position and pair of channels", () => {
    const config = resolveModel({ preset: "small" });
    const memory = trainingMemory(config, options({ sequenceLength: 256 }));
    // 56,762,624 floats are 216.5 MiB, in pages of 2.
    expect(memory).toMatchObject({
      weights: 218 * MIB,
      gradients: 218 * MIB,
      optimizer: 436 * MIB,
      positions: 2 ** 18,
    });
    const evaluated = trainingMemory(config, options({ sequenceLength: 256, microBatchSize: 1 }));
    expect(evaluated.evaluation).toBe(memory.evaluation);
    expect(evaluated.activations).toBeLessThan(memory.activations);
  });

  it("grows in a straight line beyond the passes that are run, and takes no time or memory for it", () => {
    const config = resolveModel({ preset: "olmoe-1b-7b" });
    const activations = (sequences: number) =>
      trainingMemory(config, options({ sequenceLength: 4096, batchSize: sequences, microBatchSize: sequences }))
        .activations;
    // 4 sequences are more than is run; 2 are run as they are.
    const [two, four, thousands] = [activations(2), activations(4), activations(16_384)];
    expect(four / (2 * two)).toBeGreaterThan(0.97);
    expect(four / (2 * two)).toBeLessThan(1.03);
    expect(thousands / four / 4096).toBeGreaterThan(0.97);
    expect(thousands / four / 4096).toBeLessThan(1.03);
  });

  it("is refused for a layer to recompute that the model does not have", () => {
    expect(() => trainingMemory(smallConfig(), options({ recompute: [5] }))).toThrow(
      new ConfigError("train.recompute: layer 5, the model has layers 0 to 1"),
    );
  });
});

describe("inferenceMemory", () => {
  it("holds the weights once, the cache of the whole context, and the activations of the prompt", () => {
    const config = smallConfig();
    const memory = inferenceMemory(config, 160, 100);
    const counted = countingBackend(backend);
    new PagePool(counted.backend, config, { pages: 5, type: "f32" }).dispose();
    expect(memory.cache).toBe(counted.bytes.peak);
    expect(memory).toMatchObject({ weights: trainingMemory(config, options()).weights, activations: 8 * MIB });
    expect(inferenceMemory({ ...config, maxPositionEmbeddings: 1e9 }, 1e9, 1e9).cache).toBeGreaterThan(1e11);
  });
});
