import { describe, expect, it } from "vitest";
import { smallConfig } from "../../test/models.ts";
import { createDryBackend } from "../backend/dry/dry.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { lossSchema, optimizerSchema } from "../config/recipe.ts";
import { countParameters } from "../model/counts.ts";
import { calibrate, extrapolate } from "./calibrate.ts";
import type { TrainingMemoryOptions } from "./trainingMemory.ts";

const options = (changes: Partial<TrainingMemoryOptions> = {}): TrainingMemoryOptions => ({
  sequenceLength: 16,
  batchSize: 4,
  microBatchSize: 2,
  loss: lossSchema.parse({}),
  optimizer: optimizerSchema.parse({}),
  ...changes,
});
const PLENTY = { freeBytes: 2 ** 40 };

describe("calibrate", () => {
  it("times models of one and two layers, and measures what the program takes besides them", async () => {
    const backend = createReferenceBackend();
    const config = smallConfig({ numHiddenLayers: 6 });
    const calibration = await calibrate(backend, config, options(), { ...PLENTY, residentBytes: () => 123_456_789 });
    expect(calibration).toMatchObject({ layers: [1, 2], tokens: 32 });
    expect(calibration?.secondsPerStep).toBeGreaterThan(0);
    // Four floats for each of the parameters, and an arena of one chunk.
    expect(calibration?.runtimeBytes).toBeGreaterThan(123_456_789 - 2 ** 23 - 2 ** 21);
    expect(calibration?.runtimeBytes).toBeLessThan(123_456_789 - 2 ** 23);
  });

  it("takes groups of layers where only some have experts, and leaves patterns of tensors to the whole model", async () => {
    const run = options({
      freeze: ["model.layers.5.*"],
      optimizer: optimizerSchema.parse({ noDecay: ["*.layers.4.*"] }),
    });
    const groups = async (changes: object) =>
      (await calibrate(createDryBackend(), smallConfig(changes), run, PLENTY))?.layers;
    expect(await groups({ numHiddenLayers: 7, decoderSparseStep: 3 })).toEqual([3, 6]);
    expect(await groups({ numHiddenLayers: 5, decoderSparseStep: 3, layerSharedMoe: "none" })).toEqual([3]);
    expect(await groups({ numHiddenLayers: 6, layerSharedMoe: "moe" })).toEqual([1, 2]);
  });

  it("takes a model of one layer as it is, and long sequences in part", async () => {
    // Steps that compute nothing: 2048 tokens of the 2^16 of a micro-batch.
    const long = options({ sequenceLength: 2 ** 15 });
    const config = smallConfig({ numHiddenLayers: 1, maxPositionEmbeddings: 2 ** 15 });
    const calibration = await calibrate(createDryBackend(), config, long, PLENTY);
    expect(calibration).toMatchObject({ layers: [1], tokens: 2048, runtimeBytes: undefined });
  });

  it("takes fewer experts where memory is short, and is given up where even the chosen ones do not fit", async () => {
    const config = smallConfig({ numExperts: 4096, numExpertsPerTok: 2 });
    const of = (freeBytes: number) => calibrate(createDryBackend(), config, options(), { freeBytes });
    expect(await of(2 ** 25)).toMatchObject({ layers: [1, 2] });
    expect(await of(2 ** 22)).toBeUndefined();
  });

  it("stops when it is aborted", async () => {
    const controller = new AbortController();
    const running = calibrate(createDryBackend(), smallConfig(), options(), { ...PLENTY, signal: controller.signal });
    controller.abort();
    await expect(running).rejects.toBe(controller.signal.reason);
  });
});

describe("extrapolate", () => {
  const config = smallConfig({ numHiddenLayers: 6 });
  /** A machine that takes 3 s a layer forwards and 5 s backwards for 32 tokens, 1 s and 2 s for the rest. */
  const timed = (layers: number) => ({
    forward: 1 + 3 * layers,
    backward: 2 + 5 * layers,
    optimizer: countParameters({ ...config, numHiddenLayers: layers }).total / 1e6,
  });
  const times = [timed(1), timed(2)];
  const optimizer = timed(6).optimizer;

  it("gives a model whose time is a straight line in layers, tokens and parameters that time", () => {
    // 64 tokens of a step are two passes of 32.
    expect(extrapolate(config, config, options(), times, 16, 32)).toBeCloseTo(2 * (3 + 6 * 8) + optimizer, 9);
  });

  it("gives a model of groups of layers its time by the arithmetic of each", () => {
    const mixed = smallConfig({ numHiddenLayers: 6, decoderSparseStep: 2, numSharedExperts: 1 });
    const group = (groups: number) => ({
      ...timed(groups),
      optimizer: countParameters({ ...mixed, numHiddenLayers: 2 * groups }).total / 1e6,
    });
    const expected = 2 * (3 + 3 * 8) + group(3).optimizer;
    expect(extrapolate(mixed, mixed, options(), [group(1), group(2)], 16, 32)).toBeCloseTo(expected, 9);
  });

  it("adds a forward pass of the layers that are recomputed", () => {
    const of = (recompute: TrainingMemoryOptions["recompute"]) =>
      extrapolate(config, config, options({ recompute }), times, 16, 32);
    expect(of("all")).toBeCloseTo(2 * (3 + 6 * 11) + optimizer, 9);
    expect(of([1, 5])).toBeCloseTo(2 * (3 + 6 * 8 + 2 * 3) + optimizer, 9);
  });

  it("is not led to nothing by two layers that were timed as faster than one", () => {
    const noisy = [timed(2), timed(1)];
    expect(extrapolate(config, config, options(), noisy, 16, 32)).toBeGreaterThan(2 * 6 * 0.2 * (7 + 12));
  });
});
