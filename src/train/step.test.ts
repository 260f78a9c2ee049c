import { afterAll, describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { Graph } from "../autograd/graph.ts";
import type { Backend } from "../backend/backend.ts";
import type { ModelConfig } from "../config/model.ts";
import { resolveModel } from "../config/presets.ts";
import { lossSchema, optimizerSchema } from "../config/recipe.ts";
import { ShapeError, TrainingError } from "../errors.ts";
import type { Decoder } from "../model/decoder.ts";
import { layerSharedBalanceLoss, loadBalancingLoss } from "../nn/losses.ts";
import { routerStats } from "../nn/routerLosses.ts";
import { Arena } from "../tensor/arena.ts";
import { type StepBatch, TrainStep } from "./step.ts";

const [, fastBackend] = gradientBackends.at(-1) as (typeof gradientBackends)[number];

interface Setup {
  readonly config?: ModelConfig;
  readonly sequences?: number;
  readonly length?: number;
  readonly microBatchSize?: number;
  readonly loss?: object;
}

/** A trainer and the batches of its steps, the same for the same sizes. */
function setup(
  backend: Backend,
  { config = smallConfig(), sequences = 4, length = 12, microBatchSize, loss }: Setup = {},
) {
  const decoder = createDecoder(backend, config, { trainable: true });
  const trainer = new TrainStep(backend, decoder, {
    sequenceLength: length,
    microBatchSize: microBatchSize ?? sequences,
    loss: lossSchema.parse(loss ?? {}),
    optimizer: optimizerSchema.parse({ lr: 1e-2 }),
  });
  const draw = new Draw(9);
  const nextBatch = (): StepBatch => {
    const ids = draw.ints(sequences * length, 0, config.vocabSize - 1);
    const labels = ids.map((_, i) => ((i + 1) % length === 0 ? -100 : (ids[i + 1] as number)));
    return { ids, labels };
  };
  return { decoder, trainer, nextBatch };
}

const valuesOf = ({ parameters }: Decoder) => parameters.values.data.slice();

/** Results, gradients and weights of some steps. */
function history(backend: Backend, options: Setup, steps = 3) {
  const { decoder, trainer, nextBatch } = setup(backend, options);
  const all = Array.from({ length: steps }, () => {
    let gradients = new Float32Array();
    const result = trainer.run(nextBatch(), 1e-2, {
      onGradients: () => {
        gradients = decoder.parameters.grads?.data.slice() ?? gradients;
      },
    });
    return { result, gradients, values: valuesOf(decoder) };
  });
  trainer.dispose();
  decoder.dispose();
  decoder.parameters.dispose();
  return all;
}

describe("three training steps", () => {
  const { threads } = fastBackend;
  afterAll(() => {
    fastBackend.kernels.setThreads(threads);
  });

  it.each<[string, Setup]>([
    ["a small model", {}],
    ["a small model in micro-batches", { microBatchSize: 1 }],
    ["preset nano with 2 x 64 tokens", { config: resolveModel({ preset: "nano" }), sequences: 2, length: 64 }],
  ])("of %s give the same bits on one, two and three threads", (_, options) => {
    const [one, ...others] = [1, 2, 3].map((count) => {
      fastBackend.kernels.setThreads(count);
      return history(fastBackend, options);
    });
    for (const other of others) {
      expect(other.map(({ result }) => result)).toEqual(one?.map(({ result }) => result));
      for (const [step, { gradients, values }] of other.entries()) {
        const expected = one?.[step];
        expect(Buffer.compare(bytes(gradients), bytes(expected?.gradients)), `gradients of step ${step}`).toBe(0);
        expect(Buffer.compare(bytes(values), bytes(expected?.values)), `weights after step ${step}`).toBe(0);
      }
    }
    expect(one?.at(-1)?.values).not.toEqual(one?.[0]?.values);
  });

  it("are the same on the reference and the fast backend, up to rounding", () => {
    const [reference, fast] = gradientBackends.map(([, backend]) => history(backend, { sequences: 2 }, 1));
    expect(fast?.[0]?.gradients).toBeAllClose(reference?.[0]?.gradients ?? [], { atol: 1e-5, rtol: 1e-4 });
    expect(fast?.[0]?.result.loss).toBeCloseTo(reference?.[0]?.result.loss ?? Number.NaN, 5);
  });
});

function bytes(values: Float32Array | undefined): Uint8Array {
  return new Uint8Array(values?.buffer ?? new ArrayBuffer(0), values?.byteOffset, values?.byteLength);
}

describe.each(gradientBackends)("TrainStep on %s", (_, backend) => {
  it("gives one gradient of four sequences, at once and two by two", () => {
    // Without the balance loss, which is of one micro-batch and not linear in it.
    const loss = { balance: 0, z: 0.01 };
    const [whole, halves, single] = [4, 2, 1].map((microBatchSize) => history(backend, { loss, microBatchSize }, 1)[0]);
    for (const part of [halves, single]) {
      expect(part?.gradients).toBeAllClose(whole?.gradients ?? [], { atol: 1e-6, rtol: 1e-4 });
      const numbers = ({ result }: NonNullable<typeof part>) => {
        const { loss: total, crossEntropy, z, gradientNorm, chosenProbabilities } = result;
        return [total, crossEntropy, z, gradientNorm, ...chosenProbabilities];
      };
      if (part && whole) expect(numbers(part)).toBeAllClose(numbers(whole), { atol: 1e-6, rtol: 1e-6 });
      expect(part?.result.expertCounts).toEqual(whole?.result.expertCounts);
    }
  });

  it("measures the losses and adds them up with the recipe's weights and denominator", () => {
    for (const crossEntropyOver of ["tokens", "targets"] as const) {
      const loss = { crossEntropyOver, balance: 0.5, z: 0.25 };
      const [step] = history(backend, { loss, sequences: 2, length: 8 }, 1);
      const result = step?.result;
      if (result === undefined) throw new Error("no step");
      // 14 of 16 tokens have a target.
      const weighted = result.crossEntropy * (crossEntropyOver === "tokens" ? 14 / 16 : 1);
      expect(result.loss).toBeCloseTo(weighted + 0.5 * result.balance + 0.25 * result.z, 6);
      expect([result.tokens, result.lr]).toEqual([16, 1e-2]);
      expect(result.expertCounts.map((counts) => counts.reduce((sum, count) => sum + count, 0))).toEqual([32, 32]);
      expect(result.balance).toBeGreaterThanOrEqual(1);
    }
  });

  it("learns a batch by heart", () => {
    const { trainer, nextBatch } = setup(backend, { sequences: 2, length: 8 });
    const batch = nextBatch();
    const losses = Array.from({ length: 20 }, () => trainer.run(batch, 1e-2).crossEntropy);
    expect(losses.at(-1)).toBeLessThan(0.5 * (losses[0] as number));
  });

  const HINT =
    "start again with a lower train.optimizer.lr, more train.schedule.warmupSteps or a smaller train.optimizer.clipNorm";

  /** Runs a step that must fail after `spoil`, undoes it, and proves that nothing else has changed. */
  function failing(spoil: (weights: Float32Array) => void, name: string, error: Error): void {
    const { decoder, trainer, nextBatch } = setup(backend);
    const clean = setup(backend);
    for (const { trainer: some, nextBatch: next } of [{ trainer, nextBatch }, clean]) some.run(next(), 1e-2);
    const tensor = () => decoder.parameters.tensors().find((one) => one.name === name)?.data ?? new Float32Array();
    const kept = tensor().slice();
    spoil(tensor());
    const before = valuesOf(decoder);
    expect(() => trainer.run(setup(backend).nextBatch(), 1e-2)).toThrow(error);
    expect(valuesOf(decoder)).toEqual(before);
    expect(trainer.optimizer.steps).toBe(1);
    tensor().set(kept);
    expect(trainer.run(nextBatch(), 1e-2)).toEqual(clean.trainer.run(clean.nextBatch(), 1e-2));
    expect(valuesOf(decoder)).toEqual(valuesOf(clean.decoder));
  }

  it.each(["model.layers.1.mlp.gate.weight", "lm_head.weight", "model.layers.0.self_attn.q_norm.weight"])(
    "names %s when one element of it is NaN, and leaves all as before the step",
    (name) => {
      failing(
        (weights) => weights.fill(Number.NaN, 3, 4),
        name,
        new TrainingError(`step 2: loss NaN, gradient norm NaN; ${name} is not finite`, { hint: HINT }),
      );
    },
  );

  it("names the first gradient when the weights are finite and the loss is not", () => {
    failing(
      (weights) => weights.fill(3e38),
      "model.norm.weight",
      new TrainingError(
        "step 2: loss NaN, gradient norm NaN; the gradient of model.embed_tokens.weight is not finite",
        { hint: HINT },
      ),
    );
  });

  it("says whether a weight or a moment became NaN or infinite, for a check before a checkpoint", () => {
    const { decoder, trainer, nextBatch } = setup(backend);
    trainer.run(nextBatch(), 1e-2);
    expect(() => trainer.checkFinite()).not.toThrow();
    const { values } = decoder.parameters;
    const { m, v } = trainer.optimizer.moments;
    const { start } = decoder.parameters.ranges().find(({ name }) => name === "model.norm.weight")!;
    for (const [flat, value, what] of [
      [v, Number.NaN, "the second moment of "],
      [m, Number.NEGATIVE_INFINITY, "the first moment of "],
      [values, Number.POSITIVE_INFINITY, ""],
    ] as const) {
      flat.data[start + 3] = value;
      expect(() => trainer.checkFinite()).toThrow(
        new TrainingError(`step 1: ${what}model.norm.weight is not finite after it`, { hint: HINT }),
      );
    }
  });

  it("takes the next step as if one had not been whose second micro-batch is refused", () => {
    const [refusing, plain] = [setup(backend, { microBatchSize: 1 }), setup(backend, { microBatchSize: 1 })];
    const [batch, wrong] = [plain.nextBatch(), refusing.nextBatch()];
    wrong.ids[40] = 50;
    const before = valuesOf(refusing.decoder);
    const refused = () => refusing.trainer.run(wrong, 1e-2);
    expect(refused).toThrow(new ShapeError("embedding: id 50 at position 4 is outside 0..49"));
    expect(valuesOf(refusing.decoder)).toEqual(before);
    expect(refusing.trainer.run(batch, 1e-2)).toEqual(plain.trainer.run(batch, 1e-2));
    expect(valuesOf(refusing.decoder)).toEqual(valuesOf(plain.decoder));
  });
});

describe("the balance loss of a step", () => {
  it.each([
    ["none", loadBalancingLoss],
    ["moe", layerSharedBalanceLoss],
  ] as const)(
    "is of layers apart, or of all together where they share their experts: %s",
    (layerSharedMoe, formula) => {
      const { decoder, trainer, nextBatch } = setup(fastBackend, { config: smallConfig({ layerSharedMoe }) });
      const batch = nextBatch();
      const graph = new Graph(fastBackend, new Arena(fastBackend), { record: false });
      const { routings } = decoder.forward(graph, batch.ids, { batch: 4 });
      const expected = formula(routings.map((routing) => routerStats(graph, routing))).value;
      expect(trainer.run(batch, 1e-2).balance).toBe(expected);
      trainer.dispose();
    },
  );
});
