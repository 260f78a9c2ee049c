import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { Profiler } from "../backend/profile.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { lossSchema, optimizerSchema } from "../config/recipe.ts";
import { flopsPerToken } from "../model/counts.ts";
import { parameterNames, writeProfile } from "./profile.io.ts";
import { TrainStep } from "./step.ts";

/** Losses of four steps of 2 x 8 tokens, of which two are profiled where there is a profiler. */
function train(profiler?: Profiler, config = smallConfig()): number[] {
  const backend = profiler?.backend ?? createReferenceBackend();
  const decoder = createDecoder(backend, config, { trainable: true });
  if (profiler !== undefined) profiler.nameOf = parameterNames(decoder.parameters);
  const trainer = new TrainStep(backend, decoder, {
    sequenceLength: 8,
    microBatchSize: 1,
    loss: lossSchema.parse({}),
    optimizer: optimizerSchema.parse({}),
    onPhase: profiler?.onPhase,
  });
  const draw = new Draw(1);
  return Array.from({ length: 4 }, () => {
    const ids = draw.ints(16, 0, 49);
    return trainer.run({ ids, labels: ids }, 1e-3).loss;
  });
}

it("a profile counts the rows that experts really have", () => {
  const profiler = new Profiler(createReferenceBackend(), { warmUp: 1, steps: 2 });
  const config = smallConfig({ routing: "expert_choice", numExperts: 3, numExpertsPerTok: 2 });
  train(profiler, config);
  const flops = profiler.profile.kernels.reduce((sum, kernel) => sum + kernel.flops, 0);
  // Each expert takes 5 of 8 tokens, where 8 x 3 slots are offered.
  expect(flops).toBe(2 * 16 * flopsPerToken(config, 8).training);
});

it("a profile of training steps names every product by its weight, changes no bit, and is written with a trace", async () => {
  const profiler = new Profiler(createReferenceBackend(), { warmUp: 1, steps: 2 });
  expect(train(profiler)).toEqual(train());
  const { profile } = profiler;
  const roles = profile.kernels.filter(({ role }) => role !== "").map(({ role, calls }) => [role, calls]);
  // Two layers, two micro-batches, two steps; the head once for each micro-batch.
  const layers = ["q_proj", "k_proj", "v_proj", "o_proj", "mlp.gate"];
  const expected = [...layers.map((name) => [name, 8] as const), ["lm_head", 4] as const].flatMap(([name, calls]) =>
    [name, `${name} dx`, `${name} dw`].map((role) => [role, calls]),
  );
  expect(Object.fromEntries(roles)).toEqual(Object.fromEntries(expected));
  const flops = profile.kernels.reduce((sum, kernel) => sum + kernel.flops, 0);
  expect(flops).toBe(2 * 16 * flopsPerToken(smallConfig(), 8).training);
  expect(Object.keys(profile.phases)).toEqual(["forward", "backward", "optimizer"]);

  const folder = await mkdtemp(join(tmpdir(), "olmoe-profile-"));
  try {
    const text = await writeProfile(join(folder, "a"), profile, { flopsPerSecond: 1e9, bytesPerSecond: 1e9 }, "tiny");
    expect(text).toMatch(/^tiny\nlimits: 1\.0 GFLOP\/s of multiply-adds, 1\.0 GB\/s of reads; mean of 2 steps\n\n/);
    const read = async (name: string) => readFile(join(folder, "a", name), "utf8");
    expect(await read("profile.txt")).toBe(`${text}\n`);
    expect(JSON.parse(await read("profile.json"))).toMatchObject({ title: "tiny", steps: 2, droppedEvents: 0 });
    expect(JSON.parse(await read("trace.json")).traceEvents.length).toBe(1 + profile.events.length);
  } finally {
    await rm(folder, { recursive: true });
  }
});
