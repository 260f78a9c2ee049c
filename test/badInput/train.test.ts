/** What goes wrong in a run: one error whose whole message is asserted, and what was there before stays whole. */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBackend } from "../../src/backend/io.ts";
import { CheckpointError, ConfigError, OlmoeError, TrainingError } from "../../src/errors.ts";
import { newestCheckpoint } from "../../src/formats/runFolder.io.ts";
import { verifyCheckpoint } from "../../src/train/checkpoint.io.ts";
import type { TrainEvent } from "../../src/train/run.io.ts";
import { checkpointNames, metricsOf, resultOf, unfinished } from "../resume/runFolder.ts";
import { trainTiny, writeTexts } from "../tinyRun.ts";

const backend = await openBackend();
const folder = mkdtempSync(join(tmpdir(), "olmoe-bad-run-"));
const at = (...path: string[]) => join(folder, ...path);
beforeAll(() => writeTexts(folder));
afterAll(() => rmSync(folder, { recursive: true }));

/** The error of a run as "code message [hint]", the temporary folder written as DIR. */
async function failure(run: string, options: Parameters<typeof trainTiny>[3] = {}): Promise<string> {
  try {
    await trainTiny(folder, run, backend, options);
  } catch (error) {
    if (!(error instanceof OlmoeError)) throw error;
    return `${error.code} ${error.message} [${error.hint}]`.replaceAll(folder, "DIR");
  }
  return "no error";
}

const changes = (train: object) => ({ changes: { train } });
/** Steps of the lines after the first, which is about the run. */
const stepsOf = (run: string) =>
  metricsOf(at(run))
    .map((line) => (line as { step: number }).step)
    .slice(1);

const ADVICE =
  "start again with a lower train.optimizer.lr, more train.schedule.warmupSteps or a smaller train.optimizer.clipNorm";

describe("a run that can not be", () => {
  it("names a pattern that matches no parameter, before the data is prepared", async () => {
    expect(await failure("pattern", changes({ optimizer: { noDecay: ["*norm.weight", "*.bias"] } }))).toBe(
      'E_CONFIG train.optimizer.noDecay: "*.bias" matches no parameter [names look like model.embed_tokens.weight, ' +
        "model.layers.0.input_layernorm.weight, model.layers.0.self_attn.q_proj.weight]",
    );
    expect(readdirSync(at("pattern"))).toEqual([]);
  });

  it("names the place that can not be written, before any work", async () => {
    writeFileSync(at("file"), "");
    const events: TrainEvent[] = [];
    expect(await failure("file/run", { onEvent: (event) => events.push(event) })).toBe(
      "E_RESOURCE write DIR/file/run: a part of the path is a file, expected a folder [check the path]",
    );
    expect(events).toEqual([]);
  });

  // The superuser writes everywhere.
  it.skipIf(process.getuid?.() === 0)("names a folder that may not be written, before any work", async () => {
    mkdirSync(at("mine"));
    chmodSync(at("mine"), 0o500);
    expect(await failure("mine")).toBe(
      "E_RESOURCE write DIR/mine: permission denied [check who owns the file and its folder (ls -ld)]",
    );
  });

  it("names a model that is too large for this machine", async () => {
    expect(await failure("large", { changes: { model: { intermediateSize: 1e12 } } })).toMatch(
      /^E_RESOURCE (wasm )?memory: 6144000000117888 bytes are not to be had/,
    );
  });

  it("names a tokenizer that has more entries than the model has rows", async () => {
    await trainTiny(folder, "first", backend, changes({ steps: 1 }));
    const tokenizer = { file: join("first", "data", "tokenizer.json") };
    expect(await failure("rows", { changes: { tokenizer, model: { vocabSize: 300 } } })).toBe(
      "E_CONFIG model.vocabSize: 300, must be at least the tokenizer's entries (320) [leave vocabSize out to take the tokenizer's]",
    );
  });

  it("names a source with less text than one sequence", async () => {
    mkdirSync(at("text", "short"), { recursive: true });
    for (let index = 0; index < 6; index++) writeFileSync(at("text", "short", `${index}.txt`), `a${index}`);
    const data = { heldOutBytes: 2, sources: [{ name: "short", path: "text/short" }] };
    expect(await failure("short", { changes: { data, tokenizer: { vocabSize: 258 } } })).toBe(
      'E_DATA source "short": 15 training tokens, one sequence needs 32 [add text or lower train.sequenceLength]',
    );
  });

  it("has no newest checkpoint", async () => {
    await expect(newestCheckpoint(at("pattern"))).rejects.toThrow(
      new CheckpointError(`${at("pattern")}: no checkpoint`, { hint: "train one first: olmoe train RECIPE" }),
    );
  });

  it("names the line of the metrics that is damaged", async () => {
    await trainTiny(folder, "metrics", backend, changes({ steps: 3, saveEvery: 1 }));
    writeFileSync(at("metrics", "metrics.jsonl"), '{"type":"train","step":1}\n{"ty\n');
    expect(await failure("metrics", { ...changes({ steps: 3, saveEvery: 1 }), resume: true })).toBe(
      "E_DATA DIR/metrics/metrics.jsonl:2: not a line of metrics [remove this line]",
    );
  });
});

describe("a loss that is not finite", () => {
  it("stops a run whose learning rate is absurd, with the checkpoint before it whole", async () => {
    const message = await failure("rate", changes({ optimizer: { lr: 1000 }, saveEvery: 1 }));
    // When the numbers overflow depends on how the kernels of this machine add.
    const [, step] =
      /^E_TRAINING step (\d+): loss \S+, gradient norm \S+; \S.* is not finite \[(.*)\]$/.exec(message) ?? [];
    expect(message.endsWith(`[${ADVICE}]`)).toBe(true);
    const last = Number(step) - 1;
    expect(stepsOf("rate")).toEqual(Array.from({ length: last }, (_, index) => index + 1));
    const [newest] = checkpointNames(at("rate")).slice(-1);
    expect(newest).toBe(`step${last}-tokens${128 * last}`);
    await verifyCheckpoint(at("rate", "checkpoints", newest ?? ""));
  });

  it("names the weight that overflowed in the step before", async () => {
    expect(await failure("overflow", changes({ optimizer: { lr: 1e39 } }))).toBe(
      `E_TRAINING step 2: loss NaN, gradient norm NaN; model.embed_tokens.weight is not finite [${ADVICE}]`,
    );
    expect(stepsOf("overflow")).toEqual([1]);
  });

  it("names the weight that became NaN", async () => {
    let weights: Float32Array = new Float32Array();
    const onEvent = (event: TrainEvent) => {
      if (event.type === "ready") weights = event.decoder.parameters.get("model.layers.1.mlp.gate.weight").value.data;
      if (event.type === "step" && event.metrics.step === 7) weights[5] = Number.NaN;
    };
    expect(await failure("weight", { onEvent })).toBe(
      `E_TRAINING step 8: loss NaN, gradient norm NaN; model.layers.1.mlp.gate.weight is not finite [${ADVICE}]`,
    );
    expect(checkpointNames(at("weight"))).toEqual(["step3-tokens384", "step6-tokens768"]);
    await verifyCheckpoint(at("weight", "checkpoints", "step6-tokens768"));
    expect(stepsOf("weight")).toEqual([1, 2, 3, 4, 5, 6, 6, 7]);
    // The weights alone were at fault here: the run goes on from the checkpoint to its usual end.
    await trainTiny(folder, "weight", backend, { resume: true });
    await trainTiny(folder, "whole", backend);
    const last = "step24-tokens3072";
    expect(resultOf(at("weight"), last)).toEqual(resultOf(at("whole"), last));
  });

  it("is not saved: a checkpoint is of finite weights and moments", async () => {
    const infinite = { saveEvery: 1, optimizer: { lr: 1e39 } };
    expect(await failure("save", changes(infinite))).toBe(
      `E_TRAINING step 1: model.embed_tokens.weight is not finite after it [${ADVICE}]`,
    );
    expect(existsSync(at("save", "checkpoints"))).toBe(false);
  });

  it("is an error of its own kind", async () => {
    await expect(trainTiny(folder, "kind", backend, changes({ optimizer: { lr: 1e39 } }))).rejects.toThrow(
      TrainingError,
    );
    await expect(trainTiny(folder, "whole", backend)).rejects.toThrow(ConfigError);
  });
});

/** Mounts a small file system, which takes rights that few have. */
function mounted(): boolean {
  try {
    mkdirSync(at("disk"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "olmoe-test", at("disk")], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const small = mounted();
const remount = (options: string) => execFileSync("mount", ["-o", `remount,${options}`, at("disk")]);
afterAll(() => {
  if (small) execFileSync("umount", [at("disk")]);
});

// Needs the right to mount a file system of 2 MB.
describe.skipIf(!small)("a real disk", () => {
  it("that is full stops the run with advice, keeps the checkpoint before, and serves again with more space", async () => {
    writeFileSync(at("disk", "filler"), new Uint8Array(800_000));
    expect(await failure("disk/run")).toMatch(
      /^E_RESOURCE write DIR\/disk\/run\/checkpoints\/step6-tokens768\.partial\/\w+\.(safetensors|json): no space left on the device \[free some space or choose another folder\]$/,
    );
    expect(checkpointNames(at("disk", "run"))).toEqual(["step3-tokens384"]);
    await verifyCheckpoint(at("disk", "run", "checkpoints", "step3-tokens384"));
    expect(unfinished(at("disk", "run"))).toEqual([]);
    remount("size=16m");
    await trainTiny(folder, "disk/run", backend, { resume: true });
    const last = "step24-tokens3072";
    expect(resultOf(at("disk", "run"), last)).toEqual(resultOf(at("whole"), last));
  });

  it("that is read-only is named before any work", async () => {
    remount("ro");
    expect(await failure("disk/run", { resume: true })).toBe(
      "E_RESOURCE write DIR/disk/run: the file system is read-only [choose another folder]",
    );
    remount("rw");
  });
});
