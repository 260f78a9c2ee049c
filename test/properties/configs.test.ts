/** What holds for every model that a config can describe. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { openBackend } from "../../src/backend/io.ts";
import type { ModelConfig } from "../../src/config/model.ts";
import { resolveModel } from "../../src/config/presets.ts";
import { parseRecipe, type TrainRecipe } from "../../src/config/recipe.ts";
import { readModelConfig } from "../../src/formats/huggingface.io.ts";
import { countParameters, flopsPerToken } from "../../src/model/counts.ts";
import { Decoder } from "../../src/model/decoder.ts";
import { Parameters } from "../../src/model/parameters.ts";
import { trainTokenizer } from "../../src/tokenizer/io.ts";
import { readCheckpoint, readTrainerState, verifyCheckpoint, writeCheckpoint } from "../../src/train/checkpoint.io.ts";
import { frozenTensors } from "../../src/train/patterns.ts";
import { type StepBatch, TrainStep } from "../../src/train/step.ts";
import { totalBytes, trainingMemory } from "../../src/train/trainingMemory.ts";
import { Draw } from "../conformance/harness.ts";
import { countedFlops } from "../countedFlops.ts";
import { countingBackend } from "../countingBackend.ts";
import { tinyRecipe } from "../tinyRecipe.ts";
import { anyConfig, CHOICES, LENGTH } from "./anyConfig.ts";

const RUNS = 200;
const SEQUENCES = 2;
const LEARNING_RATE = 1e-3;

const backend = await openBackend({ threads: 1 });
const tokenizer = trainTokenizer(["the cat sat on the mat"], { vocabSize: 260 });
const folder = mkdtempSync(join(tmpdir(), "olmoe-configs-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** What a run adds to a model. */
const anyRun = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 31 }),
  microBatchSize: fc.constantFrom(1, SEQUENCES),
  documents: fc.boolean(),
  balanceScale: fc.constantFrom("paper", "huggingface"),
  recompute: fc.constantFrom<TrainRecipe["recompute"][]>("none", "all", [0]),
  freeze: fc.constantFrom([], ["model.embed_tokens.weight"], ["*.down_proj.weight", "*.v_proj.weight"]),
});
type AnyRun = typeof anyRun extends fc.Arbitrary<infer T> ? T : never;

function recipeOf({ vocabSize: _ofTokenizer, ...model }: ModelConfig, run: AnyRun) {
  const { seed, microBatchSize, balanceScale, recompute, freeze } = run;
  const loss = { balanceScale, ...(model.routing === "expert_choice" ? { balance: 0 } : {}) };
  const train = { sequenceLength: LENGTH, batchSize: SEQUENCES, microBatchSize, loss, recompute, freeze };
  return parseRecipe(tinyRecipe({ seed, model, train }));
}

function batchOf({ vocabSize }: ModelConfig, { seed, documents }: AnyRun): StepBatch {
  const draw = new Draw(seed);
  const count = SEQUENCES * LENGTH;
  const [ids, labels] = [draw.ints(count, 0, vocabSize - 1), draw.ints(count, 0, vocabSize - 1)];
  const starts = Int32Array.from({ length: count }, (_, index) => (index % LENGTH < 3 ? 0 : 3));
  return { ids, labels, kvStart: documents ? starts : undefined };
}

/** A model and its optimiser, of new weights. */
function trainer(config: ModelConfig, run: AnyRun, on = backend) {
  const recipe = recipeOf(config, run);
  const { train } = recipe;
  const parameters = new Parameters(on, config, { trainable: true, frozen: frozenTensors(recipe) });
  parameters.initialise(run.seed);
  const decoder = new Decoder(on, parameters);
  const step = new TrainStep(on, decoder, {
    sequenceLength: LENGTH,
    microBatchSize: run.microBatchSize,
    loss: train.loss,
    optimizer: train.optimizer,
    recompute: train.recompute,
  });
  const { optimizer } = step;
  const dispose = () => {
    step.dispose();
    decoder.dispose();
    parameters.dispose();
  };
  /** Bits of all weights and moments. */
  const state = () => [parameters.values, optimizer.moments.m, optimizer.moments.v].map(({ data }) => data.slice());
  /** Bits of the frozen tensors. */
  const frozen = () =>
    parameters
      .tensors()
      .filter(({ name }) => parameters.isFrozen(name))
      .map(({ data }) => data.slice());
  return { config, parameters, step, optimizer, state, frozen, dispose };
}

type Trainer = ReturnType<typeof trainer>;

async function save({ config, parameters, optimizer }: Trainer, run: AnyRun): Promise<string> {
  const cursor = { sequenceLength: LENGTH, sources: [{ name: "a", chunks: 1, taken: 0 }] };
  const state = { step: optimizer.steps, tokens: 0, cursor, data: {}, recipe: recipeOf(config, run) };
  return writeCheckpoint(folder, { parameters, optimizer }, tokenizer, state, { keep: 1 });
}

/** Config, weights and moments come from the folder alone. */
async function resume(path: string, run: AnyRun): Promise<Trainer> {
  await verifyCheckpoint(path);
  const resumed = trainer(await readModelConfig(path), { ...run, seed: run.seed + 1 });
  const state = await readTrainerState(path);
  expect(resolveModel(state.recipe.model, { vocabSize: resumed.config.vocabSize })).toEqual(resumed.config);
  await readCheckpoint(path, resumed, state);
  return resumed;
}

const seen = new Map(Object.keys(CHOICES).map((key) => [key, new Set<unknown>()]));

/** Three steps on one batch, with a second trainer that takes over before the last one. */
async function checkLaws(config: ModelConfig, run: AnyRun): Promise<void> {
  for (const [key, values] of seen) values.add(config[key as keyof ModelConfig]);
  const batch = batchOf(config, run);
  const { backend: counting, bytes } = countingBackend(backend);
  const first = trainer(config, run, counting);
  const tensors = first.parameters.tensors();
  expect(countParameters(config).total).toBe(tensors.reduce((sum, { data }) => sum + data.length, 0));
  const flops = SEQUENCES * LENGTH * flopsPerToken(config, LENGTH).training;
  expect(flops / countedFlops(config, SEQUENCES, LENGTH)).toBeCloseTo(1, 12);

  const frozen = first.frozen();
  const losses = [first, first].map(({ step }) => step.run(batch, LEARNING_RATE).loss);
  const second = await resume(await save(first, run), run);
  expect(second.config).toEqual(config);
  const last = [first, second].map(({ step }) => step.run(batch, LEARNING_RATE));
  expect(last[1]).toEqual(last[0]);
  expect(second.state()).toEqual(first.state());
  expect(second.frozen()).toEqual(frozen);

  const { train } = recipeOf(config, run);
  const predicted = { ...train, ...run, documentMask: run.documents, evaluates: false };
  expect(bytes.peak).toBe(totalBytes(trainingMemory(config, predicted)));
  losses.push(last[0]?.loss as number);
  expect(losses.every(Number.isFinite)).toBe(true);
  expect(losses.at(-1)).toBeLessThan(losses[0] as number);
  for (const { dispose } of [first, second]) dispose();
}

describe("any valid config", () => {
  it(`trains, counts what it has, and resumes with the same bits: ${RUNS} of them`, { timeout: 180_000 }, async () => {
    await fc.assert(fc.asyncProperty(anyConfig, anyRun, checkLaws), { seed: 1, numRuns: RUNS, endOnFailure: true });
    const unseen = Object.entries(CHOICES).flatMap(([key, values]) =>
      values.filter((value) => !seen.get(key)?.has(value)).map((value) => `${key} ${value}`),
    );
    expect(unseen).toEqual([]);
  });
});
