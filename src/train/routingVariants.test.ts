/** Training with each routing: bits, dropped slots, metrics, resume. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { metricsOf, resultOf } from "../../test/resume/runFolder.ts";
import { stopAt, trainTiny, writeTexts } from "../../test/tinyRun.ts";
import type { Backend } from "../backend/backend.ts";
import { lossSchema, optimizerSchema } from "../config/recipe.ts";
import type { TrainMetrics } from "./metrics.io.ts";
import { TrainStep } from "./step.ts";

const [, fastBackend] = gradientBackends.at(-1) as (typeof gradientBackends)[number];
const EXPERT_CHOICE = { routing: "expert_choice" };
const [SEQUENCES, LENGTH] = [4, 12];

/** Results and weights of three steps of a small model. */
function threeSteps(backend: Backend, model: object, microBatchSize = SEQUENCES) {
  const decoder = createDecoder(backend, smallConfig(model), { trainable: true });
  const trainer = new TrainStep(backend, decoder, {
    sequenceLength: LENGTH,
    microBatchSize,
    loss: lossSchema.parse("routing" in model ? { balance: 0 } : {}),
    optimizer: optimizerSchema.parse({ lr: 1e-2 }),
  });
  const draw = new Draw(9);
  const results = Array.from({ length: 3 }, () => {
    const ids = draw.ints(SEQUENCES * LENGTH, 0, decoder.config.vocabSize - 1);
    const labels = ids.map((_, i) => ((i + 1) % LENGTH === 0 ? -100 : (ids[i + 1] as number)));
    return trainer.run({ ids, labels }, 1e-2);
  });
  const values = decoder.parameters.values.data.slice();
  trainer.dispose();
  decoder.dispose();
  decoder.parameters.dispose();
  return { results, values };
}

describe("three training steps", () => {
  const { threads } = fastBackend;
  afterAll(() => {
    fastBackend.kernels.setThreads(threads);
  });

  it.each([
    EXPERT_CHOICE,
    { ...EXPERT_CHOICE, expertChoiceScope: "batch", numExpertsPerTok: 8 },
    { expertCapacityFactor: 1 },
    { expertCapacityFactor: 0.25, normTopkProb: true },
    { softmaxAfterTopk: true },
    { numExperts: 1, numExpertsPerTok: 1, expertCapacityFactor: 0.5 },
  ])("give the same bits on one, two and three threads, %j", (model) => {
    const [one, ...others] = [1, 2, 3].map((count) => {
      fastBackend.kernels.setThreads(count);
      return threeSteps(fastBackend, model);
    });
    for (const other of others) expect(other).toEqual(one);
  });

  it("with a capacity that nothing exceeds are dropless bit for bit", () => {
    expect(threeSteps(fastBackend, { expertCapacityFactor: 4 })).toEqual(threeSteps(fastBackend, {}));
  });

  it("let experts choose alike in each sequence and in a batch of one", () => {
    const scoped = (expertChoiceScope: string) => threeSteps(fastBackend, { ...EXPERT_CHOICE, expertChoiceScope }, 1);
    expect(scoped("batch")).toEqual(scoped("sequence"));
  });

  it.each([4, 1])("count what they drop over all micro-batches, here of %i sequences", (size) => {
    // One expert: int(0.5 * 12 * size) of the tokens of a micro-batch stay, in each of two layers.
    const model = { numExperts: 1, numExpertsPerTok: 1, expertCapacityFactor: 0.5 };
    const { results } = threeSteps(fastBackend, model, size);
    expect(results.map(({ droppedSlots }) => droppedSlots)).toEqual([1, 2, 3].map(() => [24, 24]));
    expect(results[0]?.expertCounts.map((counts) => [...counts])).toEqual([[48], [48]]);
  });
});

describe("a whole run", () => {
  const folder = mkdtempSync(join(tmpdir(), "olmoe-routing-"));
  beforeAll(() => writeTexts(folder));
  afterAll(() => rmSync(folder, { recursive: true }));
  const trained = (run: string) =>
    metricsOf(join(folder, run)).filter((line): line is TrainMetrics => (line as TrainMetrics).type === "train");

  it.each([
    { name: "expert choice", model: EXPERT_CHOICE, loss: { balance: 0 } },
    { name: "dropping", model: { expertCapacityFactor: 1, softmaxAfterTopk: true }, loss: {} },
  ])(
    "with $name that is interrupted and resumed ends with the same bits, and has learned",
    async ({ name, ...recipe }) => {
      const changes = { model: recipe.model, train: { loss: recipe.loss } };
      await trainTiny(folder, name, fastBackend, { changes });
      const stop = stopAt((event) => event.type === "step" && event.metrics.step === 10);
      await trainTiny(folder, `${name} stopped`, fastBackend, { changes, ...stop });
      await trainTiny(folder, `${name} stopped`, fastBackend, { changes, resume: true });
      const result = (run: string) => resultOf(join(folder, run), "step24-tokens3072");
      expect(result(`${name} stopped`)).toEqual(result(name));
      const lines = trained(name);
      expect(lines.at(-1)?.cross_entropy).toBeLessThan(0.8 * (lines[0]?.cross_entropy ?? 0));
    },
  );

  it("reports how much was dropped, and an even load where experts choose", () => {
    for (const { dropped_slots: dropped, dropped_share: share } of trained("dropping")) {
      // 128 tokens with two slots each in two layers.
      const total = dropped.reduce((sum, slots) => sum + slots, 0);
      expect([dropped.length, share]).toEqual([2, Number((total / 512).toFixed(4))]);
      expect(total).toBeGreaterThan(0);
    }
    for (const line of trained("expert choice")) {
      expect(line).toMatchObject({
        load_entropy: [1, 1],
        dead_experts: [0, 0],
        dropped_slots: [0, 0],
        dropped_share: 0,
      });
      expect(line.balance_loss).toBeCloseTo(1, 5);
    }
  });
});
