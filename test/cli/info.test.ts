import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { resolveModel } from "../../src/config/presets.ts";
import { parseRecipe } from "../../src/config/recipe.ts";
import { convertModel } from "../../src/formats/convert.io.ts";
import { writeModelConfig } from "../../src/formats/huggingface.io.ts";
import { olmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const folder = await temporaryFolder();
await writeTinyModel(folder);

describe("olmoe info", () => {
  it("describes a model", async () => {
    expect(await olmoe(["info", folder])).toEqual({
      code: 0,
      stderr: "",
      stdout: `folder        ${folder}
architecture  OLMoE, mixture of experts
parameters    51,488 (51.5 k), 33,056 (33.1 k) active for each token
layers        2, width 32
attention     2 heads of 16 channels
experts       8, 2 for each token, of width 16
context       64 tokens
vocabulary    280 rows
weights       69 tensors, F32, 206 kB
tokenizer     280 entries, end of text 0
training      no training state in this folder
`,
    });
  });

  it("names what a model has otherwise than OLMoE", async () => {
    const other = await temporaryFolder();
    const config = resolveModel({ preset: "tiny", normType: "layernorm", decoderSparseStep: 2, numSharedExperts: 1 });
    await writeModelConfig(other, config);
    const { stdout } = await olmoe(["info", other]);
    expect(stdout.split("\n").slice(1, 4)).toEqual([
      "architecture  OLMoE, mixture of experts",
      "choices       normType layernorm, decoderSparseStep 2, numSharedExperts 1",
      "parameters    60,224 (60.2 k), 51,008 (51 k) active for each token",
    ]);
  });

  it("gives programs the same facts", async () => {
    const { stdout } = await olmoe(["info", folder, "--json"]);
    expect(JSON.parse(stdout)).toEqual({
      folder,
      format: "huggingface",
      config: expect.objectContaining({ vocabSize: 280, numExperts: 8 }),
      parameters: { total: 51_488, active: 33_056 },
      weights: { files: 1, tensors: 69, dtypes: ["F32"], types: { F32: 69 }, bytes: 51_488 * 4 },
      tokenizer: { vocabSize: 280, eosTokenId: 0, padTokenId: 1 },
      training: null,
    });
  });

  it("describes a GGUF file, split or not", async () => {
    const file = join(folder, "model.gguf");
    await convertModel(folder, file, { type: "f16", maxShardBytes: 60_000 });
    const { stdout, stderr, code } = await olmoe(["info", join(folder, "model-00002-of-00002.gguf")]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.split("\n").slice(0, 2)).toEqual([
      `file          ${join(folder, "model-00002-of-00002.gguf")}`,
      "architecture  OLMoE, mixture of experts",
    ]);
    expect(stdout.split("\n").slice(-4)).toEqual([
      "vocabulary    280 rows",
      "weights       27 tensors, 16 F16 and 11 F32, 105 kB in 2 files",
      "tokenizer     280 entries, end of text 0",
      "",
    ]);
  });

  it("tells how far a checkpoint was trained, and what is not there", async () => {
    const source = { name: "text", path: "text" };
    const recipe = parseRecipe({
      name: "test",
      model: { preset: "tiny" },
      tokenizer: { vocabSize: 280 },
      data: { sources: [source] },
      train: { steps: 500, batchSize: 2, sequenceLength: 32 },
    });
    const cursor = { sequenceLength: 32, sources: [{ name: "text", chunks: 9, taken: 4 }] };
    const state = { version: "0.1.0", step: 40, tokens: 20_480, cursor, data: {}, recipe };
    await writeFile(join(folder, "trainer.json"), JSON.stringify(state));
    await rm(join(folder, "tokenizer.json"));
    await rm(join(folder, "model.safetensors"));
    const { stdout } = await olmoe(["info", folder]);
    expect(stdout.split("\n").slice(-4, -1)).toEqual([
      "weights       none in this folder",
      "tokenizer     none in this folder",
      "training      step 40 of 500, 20,480 tokens",
    ]);
  });

  it("fails on a folder without a config", async () => {
    expect(await olmoe(["info", join(folder, "absent")])).toMatchObject({ code: 1, stdout: "" });
  });
});
