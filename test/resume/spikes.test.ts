/**
 * A run that meets bad batches: a source of noise comes up once in 25 steps, and its loss is a spike. Going back and on without
 * those batches gives, bit by bit, the same however often the run is interrupted or killed.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBackend } from "../../src/backend/io.ts";
import { TrainingError } from "../../src/errors.ts";
import type { EvalHook } from "../../src/train/evalHooks.ts";
import { type Metrics, readMetrics } from "../../src/train/metrics.io.ts";
import type { TrainEvent } from "../../src/train/run.io.ts";
import { createRandom, uniform } from "../../src/util/random.ts";
import { scalarsIn } from "../eventFile.ts";
import { tinyRecipe } from "../tinyRecipe.ts";
import { stopAt, trainTiny, writeTexts } from "../tinyRun.ts";
import { checkpointNames, resultOf } from "./runFolder.ts";

const backend = await openBackend();
const folder = mkdtempSync(join(tmpdir(), "olmoe-spikes-"));
const at = (...path: string[]) => join(folder, ...path);
afterAll(() => rmSync(folder, { recursive: true }));

const LAST = "step60-tokens7680";
const data = {
  heldOutBytes: 700,
  sources: [...tinyRecipe().data.sources, { name: "noise", path: "text/noise", weight: 0.04 }],
};
/** Nothing here has the same period, so that a stop falls between any two of them. */
const train = {
  steps: 60,
  saveEvery: 8,
  evalEvery: 11,
  monitorEvery: 7,
  // So that the loss is soon flat, and a batch with noise 10 deviations and more above it.
  optimizer: { lr: 2e-2 },
  schedule: { kind: "constant", warmupSteps: 4 },
  spikes: { window: 12, threshold: 5, action: "rewind" },
};
const changes = { data, train };

/** Something to measure beside held-out loss: the largest weight of the last norm. */
const hook: EvalHook = {
  name: "norm",
  run: async ({ decoder }) => ({ max: Math.max(...decoder.parameters.get("model.norm.weight").value.data) }),
};
const evalHooks = [hook];

beforeAll(async () => {
  writeTexts(folder);
  mkdirSync(at("text", "noise"));
  const random = createRandom(3, "noise");
  const letter = () => String.fromCharCode(33 + Math.floor(94 * uniform(random)));
  for (let index = 0; index < 12; index++) {
    writeFileSync(at("text", "noise", `${index}.txt`), Array.from({ length: 400 }, letter).join(""));
  }
  await trainTiny(folder, "whole", backend, { changes, evalHooks });
});

const recordsOf = (run: string) => readMetrics(at(run, "metrics.jsonl"));
const typed = <T extends Metrics["type"]>(records: readonly Metrics[], type: T) =>
  records.filter((record): record is Extract<Metrics, { type: T }> => record.type === type);

/** All that must not depend on interruptions, the event file too. */
function allOf(run: string) {
  const scalars = scalarsIn(at(run));
  for (const name of ["train/tokens_per_sec", "train/resident_bytes"]) scalars.delete(name);
  return { ...resultOf(at(run), LAST), scalars: [...scalars], checkpoints: checkpointNames(at(run)) };
}

describe("a run with bad batches", () => {
  it("goes back to the last good checkpoint each time, and on with other data", async () => {
    const records = await recordsOf("whole");
    const [first, second, ...others] = typed(records, "rewind");
    expect(others).toEqual([]);
    expect(first).toMatchObject({ step: 24, tokens: 24 * 128, spike_step: 31, rewinds: 1 });
    expect(first?.reason).toMatch(
      /^step 31: loss \d\.\d{3} is a spike, above \d\.\d{3}: 5 deviations above the median \d\.\d{3} of the last 12 steps$/,
    );
    expect(first?.undone_losses).toHaveLength(7);
    // The step right after checkpoint 48 went wrong, so that this one is not good.
    expect(second).toMatchObject({ step: 40, tokens: 40 * 128, spike_step: 49, rewinds: 2 });
    expect(second?.undone_losses).toHaveLength(9);
    expect(Math.max(...(second?.undone_losses ?? []))).toBe(second?.undone_losses.at(-1));
  });

  it("has each step once and in order, in the metrics and in the event file", async () => {
    const steps = Array.from({ length: 60 }, (_, index) => index + 1);
    const records = await recordsOf("whole");
    expect(typed(records, "train").map(({ step }) => step)).toEqual(steps);
    const series = scalarsIn(at("whole"));
    expect(series.get("train/loss")?.map(([step]) => step)).toEqual(steps);
    expect(series.get("rewind/rewinds")).toEqual([
      [24, 1],
      [40, 2],
    ]);
    const monitored = steps.filter((step) => step % 7 === 0);
    for (const tag of ["routing/churn/layer_1", "routing/load_entropy/layer_0", "norms/gradient/router"]) {
      expect(
        series.get(tag)?.map(([step]) => step),
        tag,
      ).toEqual(monitored);
    }
    expect(series.get("eval/results/norm/max")?.map(([step]) => step)).toEqual([11, 22, 33, 44, 55, 60]);
    expect(Object.keys(typed(records, "eval")[0]?.results ?? {})).toContain("perplexity/noise");
  });

  it("has gone through the data of the steps it undid", async () => {
    const state = JSON.parse(readFileSync(at("whole", "checkpoints", LAST, "trainer.json"), "utf8"));
    const taken = state.cursor.sources.reduce((sum: number, source: { taken: number }) => sum + source.taken, 0);
    expect([state.step, taken]).toEqual([60, 4 * (60 + 7 + 9)]);
    expect(state.spikes.rewinds).toBe(2);
    expect(state.spikes.losses).toHaveLength(12);
  });

  it("without a bad batch in it does not depend on the setting", async () => {
    const calm = (spikes: object) => ({ changes: { data, train: { ...train, steps: 24, spikes } } });
    await trainTiny(folder, "calm", backend, calm({ ...train.spikes, action: "warn" }));
    await trainTiny(folder, "ready", backend, calm(train.spikes));
    const weights = (run: string) => readFileSync(at(run, "checkpoints", "step24-tokens3072", "model.safetensors"));
    expect(weights("ready").equals(weights("calm"))).toBe(true);
  });
});

/** A test of events that holds for the nth event of a step, counted over all tries of it. */
function nthStep(step: number, nth: number): (event: TrainEvent) => boolean {
  let seen = 0;
  return (event) => event.type === "step" && event.metrics.step === step && ++seen === nth;
}

const isRewind = (event: TrainEvent) => event.type === "record" && event.record.type === "rewind";

const MOMENTS: readonly (readonly [string, () => (event: TrainEvent) => boolean])[] = [
  ["between two checkpoints", () => nthStep(20, 1)],
  ["just before the spike", () => nthStep(30, 1)],
  ["at the spike", () => nthStep(31, 1)],
  ["just after going back", () => isRewind],
  ["on the way again", () => nthStep(27, 2)],
  ["after the step that went wrong before", () => nthStep(34, 1)],
  ["at the second spike", () => nthStep(49, 1)],
  ["on the way again for the second time", () => nthStep(45, 2)],
];

describe("such a run, stopped once, ends with the same bits", () => {
  it.each(MOMENTS.filter((_, index) => [0, 3, 4, 7].includes(index)))(
    "when it is interrupted %s",
    async (when, moment) => {
      const run = `interrupted ${when}`;
      const stopped = await trainTiny(folder, run, backend, { changes, evalHooks, ...stopAt(moment()) });
      expect(stopped.status).toBe("interrupted");
      await trainTiny(folder, run, backend, { changes, evalHooks, resume: true });
      expect(allOf(run)).toEqual(allOf("whole"));
    },
  );

  it.each(MOMENTS)("when it is killed %s", async (when, moment) => {
    const run = `killed ${when}`;
    const test = moment();
    const killed = new Error("killed");
    const onEvent = (event: TrainEvent) => {
      if (test(event)) throw killed;
    };
    await expect(trainTiny(folder, run, backend, { changes, evalHooks, onEvent })).rejects.toBe(killed);
    await trainTiny(folder, run, backend, { changes, evalHooks, resume: true });
    expect(allOf(run)).toEqual(allOf("whole"));
  });
});

describe("such a run, stopped at every seventh event", () => {
  it("ends with the same bits, in micro-batches and with a document mask", { timeout: 120_000 }, async () => {
    const masked = { data, train: { ...train, microBatchSize: 2, documentMask: true } };
    await trainTiny(folder, "masked whole", backend, { changes: masked, evalHooks });
    for (let resume = false, done = false; !done; resume = true) {
      let events = 0;
      const stop = stopAt((event) => event.type !== "data" && ++events === 7);
      const outcome = await trainTiny(folder, "masked", backend, { changes: masked, evalHooks, resume, ...stop });
      done = outcome.status === "done";
    }
    expect(typed(await recordsOf("masked whole"), "rewind").length).toBeGreaterThan(0);
    expect(allOf("masked")).toEqual(allOf("masked whole"));
  });
});

describe("a run that may not go back again", () => {
  it("ends with an error that says why, the checkpoint before it whole, and does so again when resumed", async () => {
    const bounded = { data, train: { ...train, spikes: { ...train.spikes, maxRewinds: 1 } } };
    const message = /^step 49: loss .* of the last 12 steps; went back 1 times already \(train\.spikes\.maxRewinds\)$/;
    for (const resume of [false, true]) {
      const run = trainTiny(folder, "bounded", backend, { changes: bounded, resume });
      await expect(run).rejects.toThrow(TrainingError);
      await expect(run).rejects.toThrow(message);
    }
    expect(checkpointNames(at("bounded"))).toEqual(["step40-tokens5120", "step48-tokens6144"]);
  });
});

describe("a run whose weights become NaN", () => {
  /** Spoils a weight after a step, at the first try of it only. */
  function spoiledAfter(step: number) {
    const events: TrainEvent[] = [];
    let weights: Float32Array = new Float32Array();
    const test = nthStep(step, 1);
    const onEvent = (event: TrainEvent) => {
      events.push(event);
      if (event.type === "ready") weights = event.decoder.parameters.get("lm_head.weight").value.data;
      if (test(event)) weights[7] = Number.NaN;
    };
    const warnings = () => events.flatMap((event) => (event.type === "warning" ? [event.message] : []));
    return { onEvent, warnings };
  }

  it("goes back to its checkpoint, or to its start, and on", async () => {
    const spikes = { action: "rewind" };
    for (const [step, place] of [
      [10, 8],
      [2, 0],
    ] as const) {
      const { onEvent, warnings } = spoiledAfter(step);
      const options = { changes: { train: { saveEvery: 4, spikes } }, onEvent };
      const outcome = await trainTiny(folder, `spoiled ${step}`, backend, options);
      expect(outcome).toMatchObject({ status: "done", step: 24 });
      expect(warnings()).toEqual([
        `step ${step + 1}: loss NaN, gradient norm NaN; lm_head.weight is not finite; back to step ${place}, without the batches since then`,
      ]);
      const [rewind] = typed(await recordsOf(`spoiled ${step}`), "rewind");
      expect(rewind).toMatchObject({ step: place, spike_step: step + 1, rewinds: 1 });
      expect(rewind?.undone_losses).toHaveLength(step - place);
    }
  });

  it("goes back where that shows at the next checkpoint", async () => {
    const { onEvent, warnings } = spoiledAfter(8);
    await trainTiny(folder, "spoiled at save", backend, {
      changes: { train: { saveEvery: 4, spikes: { action: "rewind" } } },
      onEvent,
    });
    expect(warnings()).toEqual([
      "step 8: lm_head.weight is not finite after it; back to step 4, without the batches since then",
    ]);
  });
});

describe("a run that only warns", () => {
  it("says so once, records it, and trains on", async () => {
    const warned = { data, train: { ...train, steps: 36, spikes: { ...train.spikes, action: "warn" } } };
    const warnings: string[] = [];
    const onEvent = (event: TrainEvent) => event.type === "warning" && warnings.push(event.message);
    await trainTiny(folder, "warned", backend, { changes: warned, onEvent });
    const [spike, ...others] = typed(await recordsOf("warned"), "spike");
    expect(others).toEqual([]);
    const { loss, median, deviation, limit } = spike!;
    expect([spike?.step, limit]).toEqual([31, median + 5 * deviation]);
    expect(warnings).toEqual([
      "layer 1: 1 of 8 experts received no token; a larger train.loss.balance spreads the load",
      `step 31: loss ${loss.toPrecision(4)} is a spike, above ${limit.toPrecision(4)}: 5 deviations above the median ${median.toPrecision(4)} of the last 12 steps`,
    ]);
    expect(checkpointNames(at("warned"))).toEqual(["step32-tokens4096", "step36-tokens4608"]);
  });
});
