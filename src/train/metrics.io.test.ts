import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { stopAt, trainTiny, writeTexts } from "../../test/tinyRun.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { lossSchema } from "../config/recipe.ts";
import { DataError, ResourceError } from "../errors.ts";
import { PACKAGE_VERSION } from "../util/packageRoot.io.ts";
import { type Metrics, MetricsFile, readMetrics, trainMetrics } from "./metrics.io.ts";

const folder = mkdtempSync(join(tmpdir(), "olmoe-metrics-"));
afterAll(() => rmSync(folder, { recursive: true }));

const file = join(folder, "metrics.jsonl");
const write = (...lines: unknown[]) => writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));

/** As much of a line as reading looks at. */
const trained = (step: number) => ({ type: "train", step }) as Metrics;
const evaluated = (step: number, complete = false) => ({ type: "eval", step, complete }) as Metrics;

const finite = z.number();
const count = z.int().min(0);
const place = { step: count, tokens: count, time: finite.positive() };
const perLayer = z.array(finite).length(2);
const trainLine = z.strictObject({
  type: z.literal("train"),
  ...place,
  loss: finite,
  cross_entropy: finite,
  balance_loss: finite,
  balance_loss_weighted: finite,
  z_loss: finite,
  z_loss_weighted: finite,
  grad_norm: finite,
  lr: finite,
  tokens_per_sec: finite.positive(),
  load_entropy: perLayer,
  largest_load_share: perLayer,
  dead_experts: z.array(count).length(2),
  chosen_probability: finite,
  dropped_slots: z.array(count).length(2),
  dropped_share: finite,
  // A process of Node takes more than 10 MB.
  masked_sequences: z.literal(0),
  source_epochs: z.record(z.string(), z.number().positive()),
  resident_bytes: z.int().min(10_000_000),
});
const scores = { tokens: count, nats_per_token: finite, bits_per_byte: finite };
const kinds = z.enum(["prose", "code", "list", "number"]);
const evalLine = z.strictObject({
  type: z.literal("eval"),
  ...place,
  ...scores,
  sources: z.record(kinds, z.strictObject(scores)),
  results: z.record(z.enum([...kinds.options, "all"].map((name) => `perplexity/${name}`)), finite.positive()),
  complete: z.boolean(),
});
const runLine = z.strictObject({
  type: z.literal("run"),
  ...place,
  name: z.literal("tiny-run"),
  version: z.literal(PACKAGE_VERSION),
  overrides: z.array(z.string()),
});
const share = z.number().min(0).max(1);
const shares = z.array(share).length(2);
const routingLine = z.strictObject({
  type: z.literal("routing"),
  ...place,
  steps: count.min(1),
  layers: z.tuple([z.literal(0), z.literal(1)]),
  load_entropy: shares,
  largest_load_share: shares,
  dead_experts: z.array(count).length(2),
  chosen_probability: shares,
  churn: shares,
  slot_churn: shares,
});
const groups = z.strictObject(
  Object.fromEntries(
    ["embeddings", "attention", "norms", "router", "experts", "head"].map((name) => [name, finite.positive()]),
  ),
);
const normsLine = z.strictObject({
  type: z.literal("norms"),
  ...place,
  gradient: groups,
  parameter: groups,
  gradient_by_layer: perLayer,
  parameter_by_layer: perLayer,
});

describe("the metrics of a run", () => {
  let lines: unknown[] = [];
  beforeAll(async () => {
    writeTexts(folder);
    const changes = { train: { steps: 4, evalEvery: 2, monitorEvery: 3 } };
    await trainTiny(folder, "run", createReferenceBackend(), { changes, overrides: ["train.steps=4"] });
    const text = readFileSync(join(folder, "run", "metrics.jsonl"), "utf8");
    lines = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
  });

  it("have one line for each step and evaluation, in order, with every field", () => {
    const lineOf = z.discriminatedUnion("type", [runLine, trainLine, evalLine, routingLine, normsLine]);
    const parsed = lines.map((line) => lineOf.parse(line));
    expect(parsed[0]).toMatchObject({ overrides: ["train.steps=4"] });
    expect(parsed.map(({ type, step, tokens }) => [type, step, tokens])).toEqual([
      ["run", 0, 0],
      ["train", 1, 128],
      ["train", 2, 256],
      ["eval", 2, 256],
      ["train", 3, 384],
      ["routing", 3, 384],
      ["norms", 3, 384],
      ["train", 4, 512],
      ["eval", 4, 512],
    ]);
    expect(parsed.flatMap((line) => (line.type === "eval" ? [line.complete] : []))).toEqual([false, true]);
  });

  it("add up: the loss is the sum of its weighted parts, 31 of 32 places have a target", () => {
    for (const line of lines) {
      const { data } = trainLine.safeParse(line);
      if (data === undefined) continue;
      expect(data.balance_loss_weighted).toBeCloseTo(0.01 * data.balance_loss, 12);
      expect(data.z_loss_weighted).toBeCloseTo(0.001 * data.z_loss, 12);
      const sum = (data.cross_entropy * 31) / 32 + data.balance_loss_weighted + data.z_loss_weighted;
      expect(data.loss).toBeCloseTo(sum, 6);
    }
  });

  it("have perplexities that are exp of the nats, and gradient norms whose squares add up to the step's", () => {
    const evaluation = evalLine.parse(lines.find((line) => evalLine.safeParse(line).success));
    expect(evaluation.results["perplexity/all"]).toBe(Math.exp(evaluation.nats_per_token));
    const norms = normsLine.parse(lines.find((line) => normsLine.safeParse(line).success));
    const step = trainLine.parse(lines.find((line) => trainLine.safeParse(line).data?.step === 3));
    const squares = Object.values(norms.gradient).reduce((sum: number, norm) => sum + (norm as number) ** 2, 0);
    expect(Math.sqrt(squares) / step.grad_norm).toBeCloseTo(1, 12);
  });

  it("of a run that is interrupted end at its last step", async () => {
    const stop = stopAt((event) => event.type === "step" && event.metrics.step === 3);
    await trainTiny(folder, "stopped", createReferenceBackend(), { ...stop, changes: { train: { evalEvery: 2 } } });
    const all = await readMetrics(join(folder, "stopped", "metrics.jsonl"));
    expect(all.map(({ type, step }) => [type, step])).toEqual([
      ["run", 0],
      ["train", 1],
      ["train", 2],
      ["eval", 2],
      ["train", 3],
    ]);
  });
});

describe("trainMetrics", () => {
  it("keeps the rate of a very slow step", () => {
    const result = {
      loss: 3,
      crossEntropy: 2.5,
      balance: 2,
      z: 4,
      gradientNorm: 1,
      lr: 0.1,
      tokens: 128,
      expertCounts: [Float64Array.of(3, 1), Float64Array.of(2, 2)],
      droppedSlots: [1, 0],
      chosenProbabilities: [0.75, 0.25],
    };
    expect(trainMetrics(7, 896, result, lossSchema.parse({ balance: 0.25, z: 0.5 }), 1000)).toEqual({
      type: "train",
      step: 7,
      tokens: 896,
      loss: 3,
      cross_entropy: 2.5,
      balance_loss: 2,
      balance_loss_weighted: 0.5,
      z_loss: 4,
      z_loss_weighted: 2,
      grad_norm: 1,
      lr: 0.1,
      tokens_per_sec: 0.128,
      load_entropy: [0.8113, 1],
      largest_load_share: [0.75, 0.5],
      dead_experts: [0, 0],
      chosen_probability: 0.5,
      dropped_slots: [1, 0],
      dropped_share: 0.125,
    });
  });
});

describe("readMetrics", () => {
  it("reads nothing where there is no file, and ignores a last line without an end", async () => {
    expect(await readMetrics(join(folder, "none.jsonl"))).toEqual([]);
    writeFileSync(file, '{"type":"train","step":1}\n{"type":"train","st');
    expect(await readMetrics(file)).toEqual([trained(1)]);
    writeFileSync(file, '{"type":"train","step":1}');
    expect(await readMetrics(file)).toEqual([]);
  });

  it.each(['{"type":"tr', "null", "[]", "3", "{}", '{"type":"other"}', ""])("names a line that is %j", async (line) => {
    writeFileSync(file, `{"type":"train","step":1}\n${line}\n{"type":"train","step":2}\n`);
    await expect(readMetrics(file)).rejects.toThrow(
      new DataError(`${file}:2: not a line of metrics`, { hint: "remove this line" }),
    );
  });

  it("says what stands in the way of reading", async () => {
    mkdirSync(join(folder, "in-the-way"));
    await expect(readMetrics(join(folder, "in-the-way"))).rejects.toThrow(
      new ResourceError(`read ${join(folder, "in-the-way")}: it is a folder, expected a file`, {
        hint: "remove the folder or choose another name",
        cause: expect.anything(),
      }),
    );
  });
});

describe("MetricsFile", () => {
  it("goes back to a step: later lines and the last evaluation are written again", async () => {
    write(trained(1), evaluated(1), trained(2), evaluated(2, true), trained(3));
    const kept = [trained(1), evaluated(1), trained(2)];
    const metrics = new MetricsFile(file);
    expect(await metrics.rewindTo(2)).toEqual(kept);
    expect(await readMetrics(file)).toEqual(kept);
    await metrics.append(trained(3));
    await metrics.flush();
    expect(await readMetrics(file)).toEqual([...kept, trained(3)]);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  it("keeps as many returns to a checkpoint as there were before it, whatever their step", async () => {
    const returned = (step: number) => ({ type: "rewind", step }) as Metrics;
    const lines = [trained(1), trained(2), returned(3), returned(2), trained(3), returned(4), trained(4)];
    const kept = async (step: number, rewinds: number) => {
      write(...lines);
      return new MetricsFile(file).rewindTo(step, rewinds);
    };
    expect(await kept(2, 0)).toEqual([trained(1), trained(2)]);
    expect(await kept(2, 2)).toEqual([trained(1), trained(2), returned(3), returned(2)]);
    expect(await kept(4, 3)).toEqual(lines);
  });

  it("goes back to the start, also without a file", async () => {
    write(trained(1));
    expect(await new MetricsFile(file).rewindTo(0)).toEqual([]);
    expect(readFileSync(file, "utf8")).toBe("");
    rmSync(file);
    await new MetricsFile(file).rewindTo(0);
    expect(existsSync(file)).toBe(true);
  });

  it("appends after half a line only once that is gone", async () => {
    writeFileSync(file, '{"type":"train","step":1}\n{"type":"tra');
    const metrics = new MetricsFile(file);
    await metrics.rewindTo(1);
    await metrics.append(trained(2));
    expect(await readMetrics(file)).toEqual([trained(1), trained(2)]);
  });

  it("says what to do when a line can not be written", async () => {
    await expect(new MetricsFile(join(folder, "none", "metrics.jsonl")).append(trained(1))).rejects.toThrow(
      new ResourceError(`write ${join(folder, "none", "metrics.jsonl")}: no such file or folder`, {
        hint: "check the path",
        cause: expect.anything(),
      }),
    );
  });
});
