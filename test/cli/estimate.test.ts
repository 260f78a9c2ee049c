import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { tinyRecipe } from "../tinyRecipe.ts";
import { olmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const recipe = join(root, "recipe.yaml");
const model = join(root, "model");
beforeAll(async () => {
  await writeFile(recipe, stringify(tinyRecipe()));
  await writeTinyModel(model);
});
const argv = ["estimate", recipe, "--backend", "reference"];

describe("olmoe estimate", () => {
  it("tells of a recipe what it will take, before its text is read", async () => {
    const { code, stdout, stderr } = await olmoe(argv);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const size = "[\\d.]+ [kM]?B";
    const lines = [
      "recipe +tiny-run",
      "parameters +54,048 \\(54 k\\), 35,616 \\(35\\.6 k\\) active for each token",
      `memory +${size} at the peak, of the [\\d.]+ GB of this machine`,
      " +weights +216 kB",
      " +gradients +216 kB",
      " +optimizer +432 kB",
      " +positions +4\\.1 kB",
      " +activations +8\\.39 MB +4 x 32 tokens at a time",
      ` +evaluation +${size} +beside them, while held-out text is scored`,
      ` +runtime +${size} +measured here; the text that a run holds is not in it`,
      // Per layer 4096 + 256 + 3072 + 32 x 33 multiply-adds, and 320 x 32 of the head.
      "arithmetic +54\\.4 kFLOP a token forward, 163 kFLOP in training, at 32 tokens in sequence",
      "tokens +3\\.07 k in 24 steps of 4 x 32",
      "disk +1\\.95 MB: 3 checkpoints of 649 kB while one is written",
      "time +[\\d.]+ m?s of steps, [\\d.]+ m?s each, measured on reference typescript, 1 thread",
    ];
    expect(stdout).toMatch(new RegExp(`^${lines.join("\n")}\n$`));
  });

  it("gives programs the same as JSON, with overrides, and less memory where layers are recomputed", async () => {
    const bytes = async (...more: string[]) => {
      const { stdout } = await olmoe([...argv, "--json", "--set", "train.batchSize=512", ...more]);
      const { memory, peakBytes, tokens } = JSON.parse(stdout);
      const sum = Object.values<number>(memory).reduce((total, part) => total + part, 0);
      expect([peakBytes, tokens]).toEqual([sum, 24 * 512 * 32]);
      return memory.activations;
    };
    expect(await bytes("--set", "train.recompute=all")).toBeLessThan(0.75 * (await bytes()));
  });

  it("counts billions of parameters and tokens without having memory for them", async () => {
    const released = ["model.preset=olmoe-1b-7b", "model.numExpertsPerTok=64", "model.intermediateSize=65536"];
    const set = [...released, "train.sequenceLength=4096", "train.batchSize=16384"].flatMap((one) => ["--set", one]);
    const { code, stdout } = await olmoe([...argv, ...set, "--json"]);
    const { memory, secondsPerStep, tokens } = JSON.parse(stdout);
    expect({ code, secondsPerStep, tokens }).toEqual({ code: 0, secondsPerStep: null, tokens: 24 * 2 ** 26 });
    expect(memory.activations).toBeGreaterThan(1e14);
    expect((await olmoe([...argv, ...set])).stdout).toMatch(/\ntime +unknown: not even two layers fit/);
  });

  it("tells of a model what it takes with a full context", async () => {
    const { code, stdout } = await olmoe(["estimate", model]);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^parameters +51,488 .*\nmemory .*\n +weights +206 kB +in f32\n +positions .*\n +cache +32\.8 kB +keys and values of 64 tokens\n +activations .*\n +runtime .*\narithmetic .* at 64 tokens in sequence\n$/,
    );
    expect(JSON.parse((await olmoe(["estimate", model, "--json"])).stdout)).toMatchObject({ context: 64 });
  });

  it("names what it can not estimate", async () => {
    const fault = async (...arguments_: string[]) => {
      const { code, stdout, stderr } = await olmoe(["estimate", ...arguments_]);
      expect(stdout).toBe("");
      return [code, stderr];
    };
    expect(await fault(model, "--set", "train.steps=3")).toEqual([
      2,
      "olmoe: --set train.steps=3: a model's folder has no fields to change\nhint: name a recipe to try changes on\n",
    ]);
    expect(await fault(recipe, "--set", "train.recompute=[2]")).toEqual([
      1,
      `olmoe: ${recipe}: train.recompute: layer 2, the model has layers 0 to 1\nhint: see docs/configuration.md for every key\n`,
    ]);
    expect(await fault(join(root, "nothing.yaml"))).toEqual([
      1,
      `olmoe: ${join(root, "nothing.yaml")}: no such recipe\nhint: recipes/quickstart.yaml is one to start from\n`,
    ]);
    expect((await fault(root))[0]).toBe(1);
  });
});
