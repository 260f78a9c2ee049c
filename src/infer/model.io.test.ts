import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { temporaryFolder, writeTinyModel } from "../../test/cli/harness.ts";
import { setup } from "../../test/policy/repository.ts";
import { CheckpointError, ConfigError, ShapeError, TokenizerError } from "../errors.ts";
import { OlmoeModel, type OpenOptions } from "./model.io.ts";
import type { OpenProgress } from "./model.ts";

const root = await temporaryFolder();
const folder = join(root, "model");
const reference: OpenOptions = { backend: "reference", inProcess: true };
const PROMPT = "the cat sat on the";

beforeAll(async () => {
  await writeTinyModel(folder);
});

describe("OlmoeModel.open", () => {
  it("opens a folder, and says what it is busy with and what it found", async () => {
    const stages: OpenProgress[] = [];
    await using model = await OlmoeModel.open(folder, { ...reference, onProgress: (stage) => stages.push(stage) });
    expect(stages).toEqual([{ stage: "backend" }, { stage: "weights" }, { stage: "tokenizer" }]);
    expect(model.info).toMatchObject({
      path: folder,
      context: 64,
      vocabSize: 280,
      chat: false,
      backend: { name: "reference", isa: "typescript", threads: 1 },
    });
    expect(model.info.parameters.total).toBeGreaterThan(model.info.parameters.active);
  });

  it("opens the newest checkpoint of a training run", async () => {
    const run = join(root, "run");
    for (const name of ["step20-tokens9", "step100-tokens5"]) await writeTinyModel(join(run, "checkpoints", name));
    await using model = await OlmoeModel.open(run, reference);
    expect(model.info.path).toBe(join(run, "checkpoints", "step100-tokens5"));
  });

  it("says what is not there, and that a name of the hub is to be fetched first", async () => {
    const absent = join(root, "absent.gguf");
    await expect(OlmoeModel.open(absent)).rejects.toThrow(
      new CheckpointError(`${absent}: no such file or folder, expected a model`, {
        hint: "give a .gguf file, a folder with config.json and weights, or the folder of a training run",
      }),
    );
    await expect(OlmoeModel.open("allenai/OLMoE-1B-7B-0924")).rejects.toThrow(
      new CheckpointError("allenai/OLMoE-1B-7B-0924: no such file or folder", {
        hint: "if this is a name on the Hugging Face hub: download its files first and give their folder",
      }),
    );
  });

  it("says what is wrong with files and options, and leaves nothing open", async () => {
    const broken = join(root, "broken");
    await writeTinyModel(broken);
    await rm(join(broken, "tokenizer.json"));
    await expect(OlmoeModel.open(broken, reference)).rejects.toThrow(
      new TokenizerError(`${broken}: the model has no tokenizer`, {
        hint: "put the tokenizer.json that it was trained with beside it",
      }),
    );
    await writeFile(join(broken, "tokenizer.json"), "{}");
    await expect(OlmoeModel.open(broken, reference)).rejects.toThrow(TokenizerError);
    const file = join(root, "text.gguf");
    await writeFile(file, "not a model");
    await expect(OlmoeModel.open(file, reference)).rejects.toThrow(CheckpointError);
    const empty = join(root, "empty");
    await mkdir(empty);
    await expect(OlmoeModel.open(empty, reference)).rejects.toThrow(CheckpointError);
    await expect(OlmoeModel.open(folder, { ...reference, context: 65 })).rejects.toThrow(
      new ConfigError("engine: context: 65, the model holds 64", {
        hint: "give less, or read beyond the trained context with ropeScaling (--rope-scaling yarn:FACTOR)",
      }),
    );
    await expect(OlmoeModel.open(folder, { ...reference, signal: AbortSignal.abort() })).rejects.toThrow("aborted");
  });
});

describe("an opened model", () => {
  it("gives what its parts say of each other", async () => {
    await using model = await OlmoeModel.open(folder, { ...reference, cacheType: "f32" });
    const { vocabSize, hiddenSize } = model.info.config;
    const ids = await model.tokenize(PROMPT);
    const logits = await model.logits(ids);
    expect(logits.length).toBe(ids.length * vocabSize);
    const next = logits.subarray((ids.length - 1) * vocabSize);
    const best = next.indexOf(next.reduce((a, b) => Math.max(a, b)));
    const { tokens, routing } = await (async () => {
      const result = await model.generate(PROMPT, { maxTokens: 1, temperature: 0, logprobs: 1, routing: true }).result;
      return { tokens: result.tokens, routing: result.tokens[0]?.routing };
    })();
    expect(tokens.map(({ id }) => id)).toEqual([best]);
    const sum = next.reduce((total, logit) => total + Math.exp(logit), 0);
    expect(tokens[0]?.logprob).toBeCloseTo((next[best] as number) - Math.log(sum), 5);
    const { numHiddenLayers, numExpertsPerTok } = model.info.config;
    expect(routing?.experts.length).toBe(numHiddenLayers * numExpertsPerTok);
    expect(routing?.weights.every((weight) => weight > 0 && weight <= 1)).toBe(true);
    const [vector] = await model.embed([PROMPT]);
    expect(vector?.length).toBe(hiddenSize);
    expect(model.detokenize(ids)).toBe(PROMPT);
  });

  it("refuses a prompt longer than its context, and ends where it ends", async () => {
    await using model = await OlmoeModel.open(folder, reference);
    const long = new Int32Array(65).fill(5);
    await expect(model.generate(long).result).rejects.toThrow(
      new ShapeError("context: the prompt is 65 tokens, the model holds 64", {
        hint: "shorten the prompt to at most 64 tokens",
      }),
    );
    const { finishReason, newTokens } = await model.generate(long.subarray(0, 60), { maxTokens: 99, stopIds: [] })
      .result;
    expect({ finishReason, newTokens }).toEqual({ finishReason: "context", newTokens: 5 });
  });

  it("computes a prompt once for all of its texts, and gives each what it gets alone", async () => {
    await using model = await OlmoeModel.open(folder, { ...reference, cacheTokens: 512 });
    const prompt = Array.from({ length: 40 }, (_, index) => index + 2);
    const options = { maxTokens: 8, seed: 3 };
    const texts = await Promise.all(model.generateTexts(prompt, { ...options, n: 3 }).map(({ result }) => result));
    expect(texts.map(({ cachedTokens }) => cachedTokens)).toEqual([0, 32, 32]);
    const alone = [];
    for (const seed of [3, 4, 5]) alone.push((await model.generate(prompt, { ...options, seed }).result).ids);
    expect(texts.map(({ ids }) => ids)).toEqual(alone);
  });
});

describe("a model in a worker", () => {
  // The worker runs the compiled code.
  beforeAll(setup);
  const options: OpenOptions = { backend: "wasm", threads: 1 };

  it("gives what it gives in process, and is one worker however often it is opened", async () => {
    await using one = await OlmoeModel.open(folder, options);
    await using two = await OlmoeModel.open(`${folder}/`, options);
    await using here = await OlmoeModel.open(folder, { ...options, inProcess: true });
    const request = { maxTokens: 12, seed: 5, routing: true, logprobs: 2 } as const;
    const withoutTimes = async (model: OlmoeModel) => {
      const { firstTokenMs, tokensPerSec, cachedTokens, ...rest } = await model.generate(PROMPT, request).result;
      return rest;
    };
    const result = await withoutTimes(one);
    expect(result).toEqual(await withoutTimes(here));
    // One worker: it has done what the other handle asked for.
    expect((await two.stats()).generatedTokens).toBe(result.newTokens);
    expect(await two.score(["the cat"])).toEqual(await here.score(["the cat"]));
    await one.close();
    expect(await withoutTimes(two)).toEqual(await withoutTimes(here));
  });

  it("is opened anew where its files were replaced", async () => {
    const changing = join(root, "changing");
    await writeTinyModel(changing);
    await using before = await OlmoeModel.open(changing, options);
    const text = async (model: OlmoeModel) =>
      (await model.generate("the", { maxTokens: 12, temperature: 0 }).result).text;
    const first = await text(before);
    await rm(changing, { recursive: true });
    await writeTinyModel(changing, { initializerRange: 0.2 });
    await using after = await OlmoeModel.open(changing, options);
    expect(await text(after)).not.toBe(first);
    expect(await text(before)).toBe(first);
  });

  it("passes errors on as they are", async () => {
    const file = join(root, "text.gguf");
    await writeFile(file, "not a model");
    const [here, there] = await Promise.all(
      [true, false].map((inProcess) => OlmoeModel.open(file, { ...options, inProcess }).catch((error) => error)),
    );
    expect(there).toBeInstanceOf(CheckpointError);
    expect([there.message, there.hint]).toEqual([here.message, here.hint]);
  });
});
