/** Runs with frozen parameters and with a batch-size warm-up, from recipe to checkpoint. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBackend } from "../../src/backend/io.ts";
import { ConfigError } from "../../src/errors.ts";
import { SafetensorsFile } from "../../src/formats/io.ts";
import { readTrainerState } from "../../src/train/checkpoint.io.ts";
import type { TrainEvent } from "../../src/train/run.io.ts";
import { metricsOf, resultOf } from "../resume/runFolder.ts";
import { stopAt, trainTiny, writeTexts } from "../tinyRun.ts";

const backend = await openBackend();
const folder = mkdtempSync(join(tmpdir(), "olmoe-recipes-"));
const at = (...path: string[]) => join(folder, ...path);
beforeAll(() => writeTexts(folder));
afterAll(() => rmSync(folder, { recursive: true }));

const stepIs = (step: number) => (event: TrainEvent) => event.type === "step" && event.metrics.step === step;
const LAST = "step24-tokens3072";

/** Every tensor of a checkpoint's file. */
async function tensorsOf(checkpoint: string, name: string): Promise<Map<string, string>> {
  const file = await SafetensorsFile.open(join(checkpoint, name));
  const tensors = new Map<string, string>();
  for (const [tensor, { shape }] of file.tensors) {
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    await file.readInto(tensor, values);
    tensors.set(tensor, Buffer.from(values.buffer).toString("base64"));
  }
  await file.close();
  return tensors;
}

describe("a run with frozen parameters", () => {
  const changes = { train: { freeze: ["model.embed_tokens.*", "*.mlp.gate.weight", "*.experts.5.*"] } };
  const isFrozen = (name: string) => /embed_tokens|mlp\.gate\.|experts\.5\./.test(name);

  it("leaves them bit for bit as they were drawn, without moments, and trains all others", async () => {
    // A run that stops after its first step has a checkpoint; in a learning rate of nothing it holds the first weights.
    const still = { train: { ...changes.train, steps: 1, optimizer: { lr: 1e-30 } } };
    await trainTiny(folder, "still", backend, { changes: still });
    await trainTiny(folder, "frozen", backend, { changes });
    const first = await tensorsOf(at("still", "checkpoints", "step1-tokens128"), "model.safetensors");
    const last = await tensorsOf(at("frozen", "checkpoints", LAST), "model.safetensors");
    const moments = await tensorsOf(at("frozen", "checkpoints", LAST), "optimizer.safetensors");
    for (const [name, values] of last) {
      expect(values === first.get(name), name).toBe(isFrozen(name));
      // Zeros in base64.
      for (const moment of ["m", "v"]) expect(/^A*=*$/.test(moments.get(`${moment}.${name}`)!)).toBe(isFrozen(name));
    }
    const losses = metricsOf(at("frozen")).flatMap((line) => (line as { loss?: number }).loss ?? []);
    expect(losses.at(-1)).toBeLessThan(losses[0]! - 0.3);
  });

  it("that is interrupted and resumed ends with the same bits", async () => {
    await trainTiny(folder, "frozen stopped", backend, { changes, ...stopAt(stepIs(10)) });
    await trainTiny(folder, "frozen stopped", backend, { changes, resume: true });
    expect(resultOf(at("frozen stopped"), LAST)).toEqual(resultOf(at("frozen"), LAST));
  });

  it("refuses a pattern that matches nothing, and patterns that leave nothing, before the data is prepared", async () => {
    const run = (freeze: string[]) => trainTiny(folder, "refused", backend, { changes: { train: { freeze } } });
    await expect(run(["*.mlp.gate.weight", "*.bias"])).rejects.toThrow(
      new ConfigError('train.freeze: "*.bias" matches no parameter', {
        hint: "names look like model.embed_tokens.weight, model.layers.0.input_layernorm.weight, model.layers.0.self_attn.q_proj.weight",
      }),
    );
    await expect(run(["model.*", "lm_head.weight"])).rejects.toThrow(
      new ConfigError('train.freeze: all 69 tensors match ("model.*", "lm_head.weight"), nothing is left to train', {
        hint: "freeze less; to score a model without training it, use olmoe forward",
      }),
    );
    expect(readdirSync(at("refused"))).toEqual([]);
  });
});

describe("sequence length and RoPE theta", () => {
  it("are those of the recipe: other tokens a step, and other losses on the same weights and text", async () => {
    const lossOf = async (run: string, model: object, train: object) => {
      await trainTiny(folder, run, backend, { changes: { model, train: { steps: 1, ...train } } });
      const [, line] = metricsOf(at(run)) as { tokens: number; cross_entropy: number }[];
      return line!;
    };
    const plain = await lossOf("plain", {}, {});
    expect(plain.tokens).toBe(4 * 32);
    expect((await lossOf("long", {}, { sequenceLength: 64 })).tokens).toBe(4 * 64);
    const near = await lossOf("near", { ropeTheta: 100 }, {});
    expect(near.cross_entropy).not.toBe(plain.cross_entropy);
    // Positions hardly matter to random weights.
    expect(near.cross_entropy).toBeCloseTo(plain.cross_entropy, 2);
    expect(await lossOf("default", { ropeTheta: 10_000 }, {})).toEqual(plain);
  });
});

describe("a run with a batch-size warm-up", () => {
  const changes = {
    train: {
      batchSize: 4,
      batchWarmup: [
        { steps: 4, batchSize: 1 },
        { steps: 6, batchSize: 2 },
      ],
      microBatchSize: 2,
      schedule: { warmupSteps: 4, finalRatio: 0 },
    },
  };
  // 4 x 1 + 6 x 2 + 14 x 4 sequences of 32 tokens.
  const last = `step24-tokens${72 * 32}`;

  it("counts the tokens of each step, and moves the schedule by them", async () => {
    await trainTiny(folder, "warm", backend, { changes });
    const lines = metricsOf(at("warm")) as { type: string; tokens: number; lr: number }[];
    const steps = lines.filter(({ type }) => type === "train");
    const sequences = [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, ...Array.from({ length: 14 }, (_, index) => 20 + 4 * index)];
    expect(steps.map(({ tokens }) => tokens)).toEqual(sequences.map((count) => count * 32));
    // Warm-up is over after 4 full batches, which is 16 sequences; the end after 72 of them.
    const rate = (count: number) =>
      count < 16 ? 0.1 + (0.9 * count) / 16 : (1 + Math.cos((Math.PI * (count - 16)) / (72 - 16))) / 2;
    expect(steps.map(({ lr }) => lr)).toBeAllClose(
      sequences.map((count) => 5e-3 * rate(count)),
      { rtol: 1e-12, atol: 1e-18 },
    );
    const { cursor, tokens } = await readTrainerState(at("warm", "checkpoints", last));
    expect(tokens).toBe(72 * 32);
    expect(cursor.sources.map(({ taken }) => taken)).toEqual([18, 18, 18, 18]);
  });

  it("sees the sequences in the order of any other run", async () => {
    const seen = async (run: string, train: object) => {
      const epochs: number[][] = [];
      const onEvent = (event: TrainEvent) => event.type === "step" && epochs.push([...event.epochs]);
      await trainTiny(folder, run, backend, { changes: { train: { ...train, steps: 6 } }, onEvent });
      return epochs.at(-1);
    };
    // 3 x 1 + 3 x 4 sequences, and 5 x 2 + 5.
    const warm = await seen("order warm", { batchWarmup: [{ steps: 3, batchSize: 1 }] });
    expect(warm).toEqual(await seen("order plain", { batchSize: 5, batchWarmup: [{ steps: 5, batchSize: 2 }] }));
  });

  it.each([2, 4, 9, 10, 17])("that is interrupted after step %i and resumed ends with the same bits", async (step) => {
    const run = `warm ${step}`;
    await trainTiny(folder, run, backend, { changes, ...stopAt(stepIs(step)) });
    await trainTiny(folder, run, backend, { changes, resume: true });
    expect(resultOf(at(run), last)).toEqual(resultOf(at("warm"), last));
    expect(existsSync(at(run, "checkpoints", last))).toBe(true);
  });
});
