import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { logitsOf } from "../../test/models.ts";
import { randomRows, TINY_HEADER, traceBytes } from "../../test/traces.ts";
import { openBackend } from "../backend/io.ts";
import { resolveModel } from "../config/presets.ts";
import { CheckpointError, ConfigError, DataError } from "../errors.ts";
import { saveModel } from "../formats/model.io.ts";
import { quantizeModel } from "../formats/quantize.io.ts";
import { openStored } from "../formats/stored.io.ts";
import { Decoder } from "../model/decoder.ts";
import { Parameters } from "../model/parameters.ts";
import { InterventionPlan } from "../nn/intervention.ts";
import { readInterventions } from "./interventions.io.ts";

const folder = await mkdtemp(join(tmpdir(), "olmoe-interventions-"));
afterAll(() => rm(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
const SIZES = { preset: "tiny", numHiddenLayers: 3, numExperts: 4, numExpertsPerTok: 2 };
const backend = await openBackend();
afterAll(() => backend.close());
const LARGER = resolveModel({ preset: "tiny", hiddenSize: 64, intermediateSize: 32, vocabSize: 50, numExperts: 6 });
const config = resolveModel(SIZES);
const HEADER = { ...TINY_HEADER, layers: [0, 1, 2], columns: ["ids", "experts", "weights"] as const };
const everywhere = { layers: "all", tokens: { from: 0 } };

/** Distinct experts, and none in the second slot of layer 1. */
const EXPERTS = Int16Array.of(...[0, 1, 2, 3, 1, 0], ...[3, -1, 2, -1, 0, -1], ...[1, 2, 2, 1, 3, 2]);
const rows = { ...randomRows(HEADER, 3, 1), experts: EXPERTS };
await writeFile(
  at("a.trace"),
  traceBytes(HEADER, [
    { source: "x", rows: { ...randomRows(HEADER, 2, 2), experts: new Int16Array(12).fill(-1) } },
    { source: "x", rows },
  ]),
);

let files = 0;
async function read(content: unknown, digest = "m1") {
  const path = at(`${files++}.json`);
  await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
  const model = { config, digest: async () => digest };
  return { path, result: await readInterventions(path, model).catch((error: unknown) => error) };
}

describe("a file of interventions", () => {
  it("is read with the routes of the traces it names, whose path starts at the file", async () => {
    const replay = { kind: "replay", trace: "a.trace", sequence: 1, layers: [0, 2], tokens: { from: 1 } };
    const { result } = await read({
      interventions: [{ kind: "uniform" }, replay, { ...replay, weights: "recorded", trace: at("a.trace") }],
    });
    const route = { layers: [0, 1, 2], positions: 3, slots: 2, experts: EXPERTS };
    const place = { layers: [0, 2], tokens: { from: 1 } };
    expect(result).toEqual([
      { kind: "uniform", ...everywhere },
      { kind: "replay", trace: route, ...place },
      { kind: "replay", trace: { ...route, weights: rows.weights }, ...place },
    ]);
  });

  it("asks for the model's digest only where it names a trace", async () => {
    const path = at("plain.json");
    await writeFile(path, '{"interventions": [{"kind": "top_k", "k": 1}]}');
    const digest = () => Promise.reject(new Error("asked"));
    expect(await readInterventions(path, { config, digest })).toEqual([{ kind: "top_k", k: 1, ...everywhere }]);
  });

  it.each<[unknown, string]>([
    ["{", "not valid JSON, expected a file of interventions"],
    [
      '{"interventions": [], "interventions": []}',
      "a key is repeated within one object, expected a file of interventions",
    ],
    [{ interventions: [{ kind: "bias", experts: [1] }] }, "interventions.0.value: missing, expected number"],
    [
      {
        interventions: [
          { kind: "uniform", layers: [3] },
          { kind: "mask", experts: [9] },
        ],
      },
      "2 faults\n  - interventions.0.layers.0: 3, the model has layers 0..2\n" +
        "  - interventions.1.experts.0: 9, the model has experts 0..3",
    ],
    [
      { interventions: [{ kind: "replay", trace: "a.trace", sequence: 2 }] },
      "interventions.0.sequence: 2, a.trace has no such sequence",
    ],
    [
      '{"interventions": [{"kind": "scale", "experts": [0], "factor": 1e999}]}',
      "interventions.0.factor: Infinity, expected number, received Infinity",
    ],
  ])("is refused with the reason: %j", async (content, message) => {
    const { path, result } = await read(content);
    expect(result).toEqual(new ConfigError(`${path}: ${message}`));
  });

  it("is refused where it is missing, a folder, or names what is no trace", async () => {
    const model = { config, digest: async () => "m1" };
    await expect(readInterventions(at("none"), model)).rejects.toThrow(
      new CheckpointError(`${at("none")}: no such file`),
    );
    await expect(readInterventions(folder, model)).rejects.toThrow(
      new CheckpointError(`${folder}: a folder, expected a file`),
    );
    await writeFile(at("text.trace"), "no trace");
    const { result } = await read({ interventions: [{ kind: "replay", trace: "text.trace" }] });
    expect(result).toBeInstanceOf(DataError);
    expect((result as Error).message).toMatch(/text.trace: /);
  });

  it("is refused with a trace of another model", async () => {
    const { path, result } = await read({ interventions: [{ kind: "replay", trace: "a.trace" }] }, "m2");
    expect(result).toEqual(
      new ConfigError(`${path}: interventions.0.trace: a.trace is of tiny (digest m1), this model's digest is m2`, {
        hint: "record a trace of this model with `olmoe trace`",
      }),
    );
    await writeFile(at("other.trace"), traceBytes(TINY_HEADER, [{ source: "x", rows: randomRows(TINY_HEADER, 2, 2) }]));
    const other = await read({ interventions: [{ kind: "uniform" }, { kind: "replay", trace: "other.trace" }] });
    expect(other.result).toEqual(
      new ConfigError(
        `${other.path}: interventions.1.trace: other.trace is of a model with 4 experts in layers 0, 2, ` +
          "this one has 4 experts in layers 0, 1, 2",
        { hint: "record a trace of this model with `olmoe trace`" },
      ),
    );
  });
});

it.each(["q4_0", "q8_0", "bf16"] as const)(
  "a model stored as %s has more and fewer experts like another",
  async (type) => {
    const model = at(`model-${type}`);
    const { numExpertsPerTok: topK } = LARGER;
    const parameters = new Parameters(backend, LARGER, { trainable: false });
    parameters.initialise(1);
    await saveModel(model, parameters);
    await quantizeModel(model, at(`${type}.gguf`), { type, backend });
    const stored = await openStored(at(`${type}.gguf`), backend);
    const decoder = new Decoder(backend, stored);
    const ids = Array.from({ length: 12 }, (_, index) => (index * 7) % 50);
    const plain = logitsOf(backend, decoder, ids);
    const size = plain.length;
    for (const k of [1, topK, topK + 2]) {
      const plan = new InterventionPlan([{ kind: "top_k", k }], LARGER);
      const both = logitsOf(backend, decoder, [...ids, ...ids], { batch: 2, interventions: [undefined, plan] });
      const other = new Decoder(backend, stored);
      Object.assign(other, { config: { ...LARGER, numExpertsPerTok: k } });
      expect(both.slice(0, size)).toEqual(plain);
      expect(both.slice(size)).toEqual(logitsOf(backend, other, ids));
    }
    stored.dispose();
  },
);
