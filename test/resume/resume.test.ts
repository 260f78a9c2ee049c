/** A run that is interrupted and resumed is, bit by bit, the run that was not. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBackend } from "../../src/backend/io.ts";
import { CheckpointError, ConfigError, DataError } from "../../src/errors.ts";
import type { TrainEvent } from "../../src/train/run.io.ts";
import { stopAt, trainTiny, writeTexts } from "../tinyRun.ts";
import { checkpointNames, contents, metricsOf, resultOf, unfinished } from "./runFolder.ts";

const backend = await openBackend();
const folder = mkdtempSync(join(tmpdir(), "olmoe-resume-"));
const at = (...path: string[]) => join(folder, ...path);
beforeAll(async () => {
  writeTexts(folder);
  await trainTiny(folder, "whole", backend);
});
afterAll(() => rmSync(folder, { recursive: true }));

const LAST = "step24-tokens3072";
const stepIs = (step: number) => (event: TrainEvent) => event.type === "step" && event.metrics.step === step;

describe("a run that is interrupted", () => {
  it.each<[string, (event: TrainEvent) => boolean, number]>([
    ["after a step that has a checkpoint", stepIs(9), 9],
    ["after a step that has none", stepIs(10), 10],
    ["after the first step", stepIs(1), 1],
    ["during a held-out evaluation", (event) => event.type === "checkpoint" && event.path.includes("step12-"), 12],
    ["during the last evaluation", (event) => event.type === "checkpoint" && event.path.includes("step24-"), 24],
  ])("%s and resumed ends with the same bits", async (when, test, step) => {
    const stopped = await trainTiny(folder, when, backend, stopAt(test));
    expect(stopped).toMatchObject({ status: "interrupted", step, tokens: 128 * step, evaluation: undefined });
    expect(stopped.checkpoint).toBe(at(when, "checkpoints", `step${step}-tokens${128 * step}`));
    const resumed = await trainTiny(folder, when, backend, { resume: true });
    expect(resumed).toMatchObject({ status: "done", step: 24, tokens: 3072 });
    expect(resultOf(at(when), LAST)).toEqual(resultOf(at("whole"), LAST));
    expect(unfinished(at(when))).toEqual([]);
  });

  it("four times, in micro-batches and with a document mask, ends with the same bits", async () => {
    const changes = { train: { microBatchSize: 2, documentMask: true, monitorEvery: 5 } };
    await trainTiny(folder, "masked whole", backend, { changes });
    let resume = false;
    for (const step of [2, 7, 8, 19]) {
      await trainTiny(folder, "masked", backend, { changes, ...stopAt(stepIs(step)), resume });
      resume = true;
    }
    await trainTiny(folder, "masked", backend, { changes, resume });
    expect(resultOf(at("masked"), LAST)).toEqual(resultOf(at("masked whole"), LAST));
  });
});

describe("an interruption", () => {
  it("before the first step leaves nothing to resume, and the run can start again", async () => {
    const run = "before";
    const stop = stopAt((event) => event.type === "ready");
    expect(await trainTiny(folder, run, backend, stop)).toMatchObject({
      status: "interrupted",
      step: 0,
      checkpoint: undefined,
    });
    expect(await trainTiny(folder, run, backend, stopAt(stepIs(1)))).toMatchObject({ step: 1 });
  });

  it("while the data is prepared ends at once, and the data is prepared again", async () => {
    const stop = stopAt((event) => event.type === "data" && event.progress.phase === "encode");
    await expect(trainTiny(folder, "data", backend, stop)).rejects.toThrow("aborted");
    expect(readdirSync(at("data", "data"))).not.toContain("manifest.json");
    await trainTiny(folder, "data", backend, { resume: true });
    expect(contents(at("data"))).toHaveLength(contents(at("whole")).length);
    expect(resultOf(at("data"), LAST)).toEqual(resultOf(at("whole"), LAST));
  });
});

describe("resuming", () => {
  const state = at("whole", "checkpoints", LAST);

  it("a run that is done says so and changes nothing in its checkpoints", async () => {
    const before = contents(at("whole", "checkpoints"));
    const [{ mtimeMs }, metrics] = [statSync(join(state, "model.safetensors")), metricsOf(at("whole"))];
    const events: TrainEvent[] = [];
    const outcome = await trainTiny(folder, "whole", backend, {
      resume: true,
      onEvent: (event) => events.push(event),
    });
    expect(outcome).toMatchObject({ status: "done", step: 24, tokens: 3072, checkpoint: state });
    expect(events.map(({ type }) => type)).toEqual(["ready", "evaluation"]);
    expect(events[0]).toMatchObject({ type: "ready", resumedFrom: 24 });
    expect(contents(at("whole", "checkpoints"))).toEqual(before);
    expect(statSync(join(state, "model.safetensors")).mtimeMs).toBe(mtimeMs);
    expect(metricsOf(at("whole"))).toEqual(metrics);
  });

  it("without --resume is refused where there is a run", async () => {
    await expect(trainTiny(folder, "whole", backend)).rejects.toThrow(
      new ConfigError(`${at("whole")}: holds a run already (${LAST})`, {
        hint: "add --resume to go on with it, or choose another folder with --out",
      }),
    );
  });

  it("starts from nothing where there is no run", async () => {
    await trainTiny(folder, "new", backend, { resume: true });
    expect(resultOf(at("new"), LAST)).toEqual(resultOf(at("whole"), LAST));
  });

  it("with another recipe lists what is different", async () => {
    const changes = {
      seed: 8,
      model: { numExpertsPerTok: 4 },
      train: { microBatchSize: 2, optimizer: { lr: 1e-3, noDecay: ["*norm*"] } },
    };
    await expect(trainTiny(folder, "whole", backend, { changes, resume: true })).rejects.toThrow(
      new ConfigError(
        `${state}: was trained with another recipe: seed is 8, was 7, model.numExpertsPerTok is 4, was left out, ` +
          'train.optimizer.lr is 0.001, was 0.005, train.optimizer.noDecay is ["*norm*"], was [], train.microBatchSize is 2, was left out',
        {
          hint: `${at("whole", "recipe.json")} is the recipe of this run; start another one in another folder with --out`,
        },
      ),
    );
  });
});

describe("resuming with other text", () => {
  const text = at("text", "list", "3.txt");
  const run = at("other-text");
  beforeAll(async () => {
    await trainTiny(folder, "other-text", backend, stopAt(stepIs(5)));
  });

  it("goes on when files are only touched, or the prepared data is gone", async () => {
    utimesSync(text, 1, 1);
    rmSync(join(run, "data", "training"), { recursive: true });
    const outcome = await trainTiny(folder, "other-text", backend, { resume: true, ...stopAt(stepIs(6)) });
    expect(outcome.step).toBe(6);
  });

  it("is refused, also for one letter", async () => {
    const original = readFileSync(text, "utf8");
    const changed = original.replace("- ", "+ ");
    writeFileSync(text, changed);
    const split = gunzipSync(readFileSync(join(run, "data", "heldout", "list", "00002.jsonl.gz"))).toString();
    const held = split.includes('"id":"3.txt"') ? "heldout/list/00002" : "training/list/00002-00000";
    const refused = trainTiny(folder, "other-text", backend, { resume: true });
    await expect(refused).rejects.toThrow(DataError);
    await expect(refused).rejects.toThrow(
      `${join(run, "checkpoints", "step6-tokens768")}: was trained on other data: ${held}.npy changed`,
    );
    await expect(refused).rejects.toMatchObject({
      hint: "put the text back as it was, or start a new run with --out",
    });
    writeFileSync(text, original);
    const outcome = await trainTiny(folder, "other-text", backend, { resume: true });
    expect(outcome.status).toBe("done");
    expect(resultOf(run, LAST)).toEqual(resultOf(at("whole"), LAST));
  });
});

describe("resuming from a checkpoint that is not whole", () => {
  it("is refused, and works from the one before it when that is removed", async () => {
    await trainTiny(folder, "broken", backend);
    expect(checkpointNames(at("broken"))).toEqual(["step21-tokens2688", LAST]);
    const broken = at("broken", "checkpoints", LAST);
    const bytes = readFileSync(join(broken, "optimizer.safetensors"));
    bytes[9000]! ^= 4;
    writeFileSync(join(broken, "optimizer.safetensors"), bytes);
    // A digit within the recipe must not be taken for another recipe.
    const json = readFileSync(join(broken, "trainer.json"), "utf8").replace('"steps": 24', '"steps": 25');
    writeFileSync(join(broken, "trainer.json"), json);
    rmSync(join(broken, "tokenizer.json"));
    await expect(trainTiny(folder, "broken", backend, { resume: true })).rejects.toThrow(
      new CheckpointError(
        `${broken}: damaged, optimizer.safetensors is changed, tokenizer.json is missing, trainer.json is changed`,
        { hint: "remove this folder: --resume then goes on from the checkpoint before it, or from the start" },
      ),
    );
    rmSync(broken, { recursive: true });
    await trainTiny(folder, "broken", backend, { resume: true });
    expect(resultOf(at("broken"), LAST)).toEqual(resultOf(at("whole"), LAST));
  });

  it("clears away what a killed process left, and takes none of it for a checkpoint", async () => {
    await trainTiny(folder, "left", backend, stopAt(stepIs(6)));
    const left = ["step9-tokens1152.partial", "step9-tokens1152.partial/config.json", "step3-tokens384.removed"];
    for (const name of left) mkdirSync(at("left", "checkpoints", name), { recursive: true });
    for (const name of ["metrics.jsonl.41.tmp", "report.html.41.tmp", ".probe-41"]) writeFileSync(at("left", name), "");
    writeFileSync(at("left", "data", "manifest.json.partial"), "{");
    rmSync(at("left", "data", "manifest.json"));
    await trainTiny(folder, "left", backend, { resume: true });
    expect(unfinished(at("left"))).toEqual([]);
    expect(resultOf(at("left"), LAST)).toEqual(resultOf(at("whole"), LAST));
  });
});

describe("a run", () => {
  const { threads } = backend;
  afterAll(() => {
    backend.kernels.setThreads(threads);
  });

  it("gives the same bytes on one, two and three threads", async () => {
    for (const count of [1, 2, 3]) {
      backend.kernels.setThreads(count);
      await trainTiny(folder, `threads ${count}`, backend, { changes: { train: { steps: 6 } } });
      expect(resultOf(at(`threads ${count}`), "step6-tokens768")).toEqual(resultOf(at("threads 1"), "step6-tokens768"));
    }
  });

  it("keeps the newest checkpoints only", () => {
    expect(checkpointNames(at("whole"))).toEqual(["step21-tokens2688", LAST]);
  });
});
