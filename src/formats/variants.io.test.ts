/** Models of every choice of architecture, written and opened again. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import { VARIANTS } from "../../test/variants.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { CheckpointError } from "../errors.ts";
import { openModel, saveModel } from "./model.io.ts";

const backend = createReferenceBackend();
const IDS = [3, 1, 4, 1, 5, 9, 2, 6];
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "variants-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("saveModel and openModel", () => {
  it.each(VARIANTS)("keep config and weights of %s", async (name, changes) => {
    const decoder = createDecoder(backend, smallConfig({ numHiddenLayers: 2, ...changes }));
    const directory = join(folder, name);
    await saveModel(directory, decoder.parameters);
    const json = JSON.parse(await readFile(join(directory, "config.json"), "utf8"));
    expect([json.model_type, json.architectures]).toEqual(["olmoe_variant", ["OlmoeVariantForCausalLM"]]);
    const opened = await openModel(directory, backend);
    expect(opened.config).toEqual(decoder.config);
    expect(logitsOf(backend, opened, IDS)).toEqual(logitsOf(backend, decoder, IDS));
  });

  it("keep a dense twin whose norms transformers has not", async () => {
    const dense = { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1, normType: "layernorm" };
    const decoder = createDecoder(backend, smallConfig(dense));
    await saveModel(join(folder, "dense"), decoder.parameters);
    const opened = await openModel(join(folder, "dense"), backend);
    expect(logitsOf(backend, opened, IDS)).toEqual(logitsOf(backend, decoder, IDS));
  });

  it("refuse weights of another architecture, naming what does not fit", async () => {
    const [first, second] = [{ numSharedExperts: 1 }, { layerSharedMoe: "moe" }].map((changes) =>
      createDecoder(backend, smallConfig(changes)),
    );
    await saveModel(join(folder, "first"), first!.parameters);
    const { readParameters } = await import("./model.io.ts");
    await expect(readParameters(join(folder, "first"), second!.parameters)).rejects.toThrow(CheckpointError);
    await expect(readParameters(join(folder, "first"), second!.parameters)).rejects.toThrow(
      /25 tensors missing \(model\.mlp\.gate\.weight, .*; 56 tensors not wanted \(/,
    );
  });
});
