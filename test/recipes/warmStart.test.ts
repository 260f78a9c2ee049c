/** Runs that start from another model: weights only, or with the optimiser's moments, as annealing does. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBackend } from "../../src/backend/io.ts";
import { OlmoeError } from "../../src/errors.ts";
import { readTrainerState } from "../../src/train/checkpoint.io.ts";
import type { TrainEvent } from "../../src/train/run.io.ts";
import { writeTinyModel } from "../cli/harness.ts";
import { contents, metricsOf, resultOf } from "../resume/runFolder.ts";
import { stopAt, trainTiny, writeTexts } from "../tinyRun.ts";

const backend = await openBackend();
const folder = mkdtempSync(join(tmpdir(), "olmoe-warm-"));
const at = (...path: string[]) => join(folder, ...path);
const LAST = "step24-tokens3072";
beforeAll(async () => {
  writeTexts(folder);
  await trainTiny(folder, "first", backend);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A recipe that starts from `from`: another order, and the rate in a straight line to nothing, without a warm-up. */
function startFrom(from: string, { optimizer = false, ...rest }: Record<string, unknown> = {}) {
  const { model = {}, tokenizer = { file: at("first", "data", "tokenizer.json") } } = rest;
  const schedule = { kind: "linear", warmupSteps: 0, finalRatio: 0 };
  const train = { init: { from, optimizer }, schedule, optimizer: { lr: 5e-4 }, ...((rest.train as object) ?? {}) };
  const data = { heldOutBytes: 700, seed: 7, sources: [{ name: "prose", path: "text/prose" }] };
  return { changes: { seed: 42, model, tokenizer, data, train } };
}

const lossesOf = (run: string) =>
  (metricsOf(at(run)) as { type: string; cross_entropy: number }[])
    .filter(({ type }) => type === "train")
    .map((line) => line.cross_entropy);

describe("a warm start", () => {
  it.each<[string, string]>([
    ["a checkpoint", join("first", "checkpoints", LAST)],
    ["a run's folder, whose newest checkpoint it is", "first"],
  ])("from %s goes on from its weights, with a new optimiser and step 1", async (name, from) => {
    await trainTiny(folder, name, backend, startFrom(from));
    const cold = lossesOf("first");
    const warm = lossesOf(name);
    expect(warm[0]).toBeLessThan(cold[0]! - 1);
    expect(metricsOf(at(name))[1]).toMatchObject({ type: "train", step: 1, tokens: 128 });
    const state = await readTrainerState(at(name, "checkpoints", LAST));
    expect(state.priorSteps).toBeUndefined();
    expect(state.recipe.train.init).toEqual({ from, optimizer: false });
  });

  it("from a folder as transformers writes it, without training state, is the same", async () => {
    for (const file of ["config.json", "model.safetensors", "tokenizer.json"]) {
      cpSync(at("first", "checkpoints", LAST, file), at("plain", file));
    }
    await trainTiny(folder, "from plain", backend, startFrom("plain"));
    expect(lossesOf("from plain")).toEqual(lossesOf("a checkpoint"));
  });

  it("takes frozen parameters as the checkpoint has them, and a longer context", async () => {
    const changes = { model: { maxPositionEmbeddings: 128 }, train: { freeze: ["*.layers.*"] } };
    await trainTiny(folder, "long", backend, startFrom("first", changes));
    expect(lossesOf("long")[0]).toBe(lossesOf("a checkpoint")[0]);
  });

  it("that is interrupted and resumed ends with the same bits, though its start is gone by then", async () => {
    const stepIs = (event: TrainEvent) => event.type === "step" && event.metrics.step === 10;
    cpSync(at("first", "checkpoints", LAST), at("moved"), { recursive: true });
    await trainTiny(folder, "moved whole", backend, startFrom("moved", { optimizer: true }));
    await trainTiny(folder, "moved stopped", backend, {
      ...startFrom("moved", { optimizer: true }),
      ...stopAt(stepIs),
    });
    rmSync(at("moved"), { recursive: true });
    await trainTiny(folder, "moved stopped", backend, { ...startFrom("moved", { optimizer: true }), resume: true });
    expect(resultOf(at("moved stopped"), LAST)).toEqual(resultOf(at("moved whole"), LAST));
  });
});

describe("annealing", () => {
  it("keeps the optimiser's moments and how many steps they have seen, and starts the rest anew", async () => {
    await trainTiny(folder, "anneal", backend, startFrom("first", { optimizer: true }));
    const state = await readTrainerState(at("anneal", "checkpoints", LAST));
    expect(state).toMatchObject({ step: 24, tokens: 3072, priorSteps: 24 });
    const lines = metricsOf(at("anneal")) as { type: string; step: number; lr: number }[];
    const rates = lines.filter(({ type }) => type === "train").map(({ lr }) => lr);
    expect(rates).toBeAllClose(
      rates.map((_, index) => (5e-4 * (23 - index)) / 24),
      { rtol: 1e-9, atol: 1e-18 },
    );
    // The same first loss as with a new optimiser; from the first update on it is another run.
    const [kept, fresh] = [lossesOf("anneal"), lossesOf("a checkpoint")];
    expect(kept[0]).toBe(fresh[0]);
    expect(kept[1]).not.toBe(fresh[1]);
    // A run that starts from this one counts both.
    const next = startFrom("anneal", { optimizer: true, train: { steps: 1 } });
    await trainTiny(folder, "again", backend, next);
    expect(await readTrainerState(at("again", "checkpoints", "step1-tokens128"))).toMatchObject({ priorSteps: 48 });
  });
});

describe("a warm start that can not be", () => {
  /** The error of a run as "code message [hint]", the temporary folder written as DIR; nothing may be prepared by then. */
  async function failure(options: ReturnType<typeof startFrom>): Promise<string> {
    try {
      await trainTiny(folder, "refused", backend, options);
    } catch (error) {
      if (!(error instanceof OlmoeError)) throw error;
      return `${error.code} ${error.message} [${error.hint}]`.replaceAll(folder, "DIR");
    }
    return "no error";
  }
  const nothingPrepared = () => expect(existsSync(at("refused", "data"))).toBe(false);
  const CHECKPOINT = `DIR/first/checkpoints/${LAST}`;

  it("lists every difference in architecture, before the data is prepared", async () => {
    const model = { hiddenSize: 64, numExpertsPerTok: 4, normTopkProb: true, maxPositionEmbeddings: 128, clipQkv: 8 };
    expect(await failure(startFrom("first", { model }))).toBe(
      `E_CHECKPOINT train.init: ${CHECKPOINT}: of another architecture: hiddenSize is 64, the checkpoint has 32; ` +
        "numExpertsPerTok is 4, the checkpoint has 2; normTopkProb is true, the checkpoint has false; " +
        "clipQkv is 8, the checkpoint has null [give the recipe's model these values of the checkpoint, or start from another one]",
    );
    expect(await failure(startFrom("first", { tokenizer: { vocabSize: 300 } }))).toBe(
      `E_CHECKPOINT train.init: ${CHECKPOINT}: of another architecture: vocabSize is 300, the checkpoint has 320 ` +
        "[give the recipe's model these values of the checkpoint, or start from another one]",
    );
    nothingPrepared();
  });

  it("names a folder that is not there, and one without a model", async () => {
    expect(await failure(startFrom("nowhere"))).toBe(
      "E_CHECKPOINT DIR/nowhere: no such folder, looked for config.json in it [check the path; a training run keeps its models in runs/NAME/checkpoints]",
    );
    expect(await failure(startFrom("text"))).toMatch(/^E_CHECKPOINT (read )?DIR\/text\/config\.json: /);
    nothingPrepared();
  });

  it("names moments that are not there, and files that are damaged", async () => {
    await writeTinyModel(at("random"), { vocabSize: 320 });
    expect(await failure(startFrom("random", { optimizer: true, tokenizer: { vocabSize: 320 } }))).toBe(
      "E_CHECKPOINT train.init: DIR/random: no optimizer.safetensors, which optimizer: true needs " +
        "[start from a checkpoint of olmoe train, or leave train.init.optimizer out]",
    );
    cpSync(at("first", "checkpoints", LAST), at("damaged"), { recursive: true });
    const bytes = readFileSync(at("damaged", "model.safetensors"));
    bytes[bytes.length - 9]! ^= 4;
    writeFileSync(at("damaged", "model.safetensors"), bytes);
    expect(await failure(startFrom("damaged"))).toBe(
      "E_CHECKPOINT train.init: DIR/damaged: damaged, model.safetensors is changed [start from another checkpoint]",
    );
    writeFileSync(at("damaged", "model.safetensors"), bytes.subarray(0, 5000));
    expect(await failure(startFrom("damaged"))).toMatch(/^E_CHECKPOINT DIR\/damaged\/model\.safetensors: /);
    nothingPrepared();
  });

  it("names another tokenizer of the same size, before the first step", async () => {
    await writeTinyModel(at("random"), { vocabSize: 320 });
    const events: TrainEvent[] = [];
    const options = {
      ...startFrom("random", { tokenizer: { vocabSize: 320 } }),
      onEvent: (e: TrainEvent) => events.push(e),
    };
    expect(await failure(options)).toBe(
      "E_CHECKPOINT train.init: DIR/random: has another tokenizer (280 entries) than the recipe (320) " +
        "[set tokenizer.file to DIR/random/tokenizer.json]",
    );
    expect(events.every(({ type }) => type === "data")).toBe(true);
  });

  it("warns where the model has no tokenizer to compare", async () => {
    rmSync(at("plain", "tokenizer.json"));
    const warnings: string[] = [];
    await trainTiny(folder, "unknown tokenizer", backend, {
      ...startFrom("plain"),
      onEvent: (event) => event.type === "warning" && warnings.push(event.message.replaceAll(folder, "DIR")),
    });
    expect(warnings[0]).toBe(
      "DIR/plain has no tokenizer.json: whether its weights are for the recipe's tokenizer is not known",
    );
  });

  it("leaves the checkpoint it starts from untouched", async () => {
    const before = contents(at("first"));
    await failure(startFrom("first", { model: { hiddenSize: 64 } }));
    await trainTiny(folder, "untouched", backend, startFrom("first", { optimizer: true }));
    expect(contents(at("first"))).toEqual(before);
  });
});
