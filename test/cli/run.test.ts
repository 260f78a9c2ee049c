import { once } from "node:events";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { olmoe, startOlmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const model = join(root, "model");
const reference = ["--backend", "reference"];

beforeAll(async () => {
  await writeTinyModel(model);
});

/** The fields of --json that do not depend on time. */
async function runJson(...argv: string[]) {
  const { code, stdout, stderr } = await olmoe(["run", ...argv, "--json", ...reference]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const { firstTokenMs, tokensPerSec, ...rest } = JSON.parse(stdout);
  return { times: [firstTokenMs, tokensPerSec], rest };
}

describe("olmoe run", () => {
  it("streams text to stdout and statistics to stderr", async () => {
    const argv = ["run", model, "-p", "the cat", "--max-tokens", "6", "--seed", "3", ...reference];
    const { code, stdout, stderr } = await olmoe(argv);
    const { rest } = await runJson(model, "-p", "the cat", "--max-tokens", "6", "--seed", "3");
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${rest.text}\n` });
    expect(stderr).toMatch(
      /^\d prompt tokens, 6 new, ended by --max-tokens; first after [\d.]+ m?s; then .* tokens\/s; seed 3; reference typescript, 1 thread\n$/,
    );
  });

  it("gives programs one JSON object", async () => {
    const { rest, times } = await runJson(model, "-p", "the cat", "--max-tokens", "4", "--seed", "3");
    expect(rest).toEqual({
      model,
      prompt: "the cat",
      text: expect.any(String),
      promptTokens: expect.any(Number),
      ids: expect.any(Array),
      finishReason: "length",
      newTokens: 4,
      seed: 3,
      backend: "reference",
      isa: "typescript",
      threads: 1,
    });
    expect(rest.ids.length).toBe(4);
    expect(times.every((time) => time > 0)).toBe(true);
  });

  it("repeats itself with the same seed and differs with another", async () => {
    const text = async (seed: string) => (await runJson(model, "-p", "the", "--seed", seed)).rest.text;
    expect(await text("5")).toBe(await text("5"));
    expect(await text("5")).not.toBe(await text("6"));
  });

  it("reads the prompt from standard input, without its last line break", async () => {
    const { stdout } = await olmoe(["run", model, "--json", "--max-tokens", "0", ...reference], "the cat\r\n");
    expect(JSON.parse(stdout)).toMatchObject({ prompt: "the cat", text: "", firstTokenMs: null, tokensPerSec: null });
    expect(await olmoe(["run", model])).toEqual({
      code: 2,
      stdout: "",
      stderr: 'olmoe: run: no prompt\nhint: pass one with -p "TEXT", or on standard input\n',
    });
    expect(await olmoe(["run", model], Uint8Array.of(0xff))).toEqual({
      code: 1,
      stdout: "",
      stderr: "olmoe: standard input: not UTF-8, expected a text\n",
    });
  });

  it("takes a run's newest checkpoint", async () => {
    const run = join(root, "run");
    const newest = join(run, "checkpoints", "step100-tokens5");
    await writeTinyModel(newest);
    for (const name of ["step20-tokens9", "step200-tokens9.partial"]) await mkdir(join(run, "checkpoints", name));
    expect((await runJson(run, "-p", "a", "--max-tokens", "1")).rest.model).toBe(newest);
    await rm(newest, { recursive: true });
    await rm(join(run, "checkpoints", "step20-tokens9"), { recursive: true });
    expect(await olmoe(["run", run, "-p", "a"])).toEqual({
      code: 1,
      stdout: "",
      stderr: `olmoe: ${run}: no checkpoint\nhint: train one first: olmoe train RECIPE\n`,
    });
  });

  it("ends before a stop text and says which, or runs on where it never comes", async () => {
    const greedy = ["-p", "the cat", "--max-tokens", "12", "--temperature", "0"];
    const { text } = (await runJson(model, ...greedy)).rest;
    const stop = text.slice(5, 8);
    const { rest } = await runJson(model, ...greedy, "--stop", "never said", "--stop", stop);
    expect(rest).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finishReason: "stop", stop });
    const shown = await olmoe(["run", model, ...greedy, "--stop", stop, ...reference]);
    expect(shown.stdout).toBe(`${rest.text}\n`);
    expect(shown.stderr).toContain(`new, ended by --stop ${JSON.stringify(stop)}; `);
    expect((await runJson(model, ...greedy, "--stop", "never said")).rest).toMatchObject({
      text,
      finishReason: "length",
    });
    expect((await olmoe(["run", model, ...greedy, "--stop", ""])).stderr).toBe(
      'olmoe: --stop: "", expected a text of at least one character\nhint: "olmoe run --help" shows the usage\n',
    );
  });

  it("writes several texts of one prompt, with seeds one after another", async () => {
    const argv = ["-p", "the cat", "--max-tokens", "5"];
    const texts = [];
    for (const seed of ["7", "8"]) texts.push((await runJson(model, ...argv, "--seed", seed)).rest.text);
    const { stdout } = await olmoe(["run", model, ...argv, "--seed", "7", "--n", "2", ...reference]);
    expect(stdout).toBe(`[1 of 2]\n${texts[0]}\n[2 of 2]\n${texts[1]}\n`);
    const { rest } = await runJson(model, ...argv, "--seed", "7", "--n", "2");
    expect(rest.texts.map(({ text, seed }: { text: string; seed: number }) => [text, seed])).toEqual([
      [texts[0], 7],
      [texts[1], 8],
    ]);
  });

  it("shows log-probabilities, and takes every option of the sampler", async () => {
    const argv = ["-p", "the cat", "--max-tokens", "3", "--temperature", "0", "--logprobs", "2"];
    const { rest } = await runJson(model, ...argv);
    expect(rest.tokens.length).toBe(3);
    for (const token of rest.tokens) {
      expect(Object.keys(token)).toEqual(["id", "text", "byteOffset", "logprob", "top"]);
      expect(token.top.length).toBe(2);
      expect(token.top[0]).toEqual({ id: token.id, text: token.text, logprob: token.logprob });
    }
    const { stderr } = await olmoe(["run", model, ...argv, ...reference]);
    expect(stderr.split("\n")[0]).toMatch(/^"\S+" +-\d+\.\d{3} {2}"\S+" -\d+\.\d{3} {2}"\S+" -\d+\.\d{3}$/);
    const sampler = ["--min-p", "0.05", "--typical-p", "0.9", "--top-p", "0.9", "--top-k", "50"];
    const penalties = ["--repetition-penalty", "1.1", "--frequency-penalty", "0.2", "--presence-penalty", "-0.1"];
    await runJson(model, "-p", "the", "--max-tokens", "3", ...sampler, ...penalties);
    expect((await olmoe(["run", model, "-p", "a", "--min-p", "2"])).stderr).toBe(
      'olmoe: --min-p: "2", expected a number above 0 and at most 1\nhint: "olmoe run --help" shows the usage\n',
    );
  });

  it("keeps a smaller context, reads beyond the trained one on request, and refuses it otherwise", async () => {
    const long = "dog ".repeat(40);
    const run = (...argv: string[]) => olmoe(["run", model, "-p", long, "--max-tokens", "2", ...reference, ...argv]);
    expect((await run("--context", "20")).stderr).toMatch(
      /^olmoe: context: the prompt is \d+ tokens, the model holds 20\nhint: shorten the prompt to at most 20 tokens\n$/,
    );
    expect((await run("--context", "200")).stderr).toBe(
      "olmoe: engine: context: 200, the model holds 64\n" +
        "hint: give less, or read beyond the trained context with ropeScaling (--rope-scaling yarn:FACTOR)\n",
    );
    for (const scaling of ["yarn:4", "ntk:4"]) expect((await run("--rope-scaling", scaling)).code).toBe(0);
    expect((await run("--rope-scaling", "linear:4")).stderr).toBe(
      'olmoe: --rope-scaling: "linear:4", expected yarn:FACTOR or ntk:FACTOR with a factor above 1\n' +
        'hint: "olmoe run --help" shows the usage\n',
    );
    for (const type of ["f32", "f16", "q8_0"]) {
      const argv = ["run", model, "-p", "a", "--max-tokens", "2", "--cache-type", type, ...reference];
      expect((await olmoe(argv)).code).toBe(0);
    }
  });

  it("names what is wrong with a model, a prompt or an option", async () => {
    const absent = join(root, "absent");
    const long = "dog ".repeat(100);
    expect((await olmoe(["run", absent, "-p", "a"])).stderr).toBe(
      `olmoe: ${absent}: no such file or folder, expected a model\n` +
        "hint: give a .gguf file, a folder with config.json and weights, or the folder of a training run\n",
    );
    expect((await olmoe(["run", "allenai/OLMoE-1B-7B-0924", "-p", "a"])).stderr).toBe(
      "olmoe: allenai/OLMoE-1B-7B-0924: no such file or folder\n" +
        "hint: if this is a name on the Hugging Face hub: download its files first and give their folder\n",
    );
    expect((await olmoe(["run", model, "-p", long, ...reference])).stderr).toMatch(
      /^olmoe: context: the prompt is \d+ tokens, the model holds 64\nhint: shorten the prompt to at most 64 tokens\n$/,
    );
    expect(await olmoe(["run", model, "-p", "a", ...reference, "--isa", "avx2"])).toEqual({
      code: 2,
      stdout: "",
      stderr:
        'olmoe: --isa: "avx2", the reference backend has no choice of instruction sets\n' +
        'hint: "olmoe run --help" shows the usage\n',
    });
    await rm(join(model, "tokenizer.json"));
    expect(await olmoe(["run", model, "-p", "a", ...reference])).toEqual({
      code: 1,
      stdout: "",
      stderr:
        `olmoe: ${model}: the model has no tokenizer\n` +
        "hint: put the tokenizer.json that it was trained with beside it\n",
    });
  });
});

describe("olmoe run as a process", () => {
  const endless = join(root, "endless");
  const argv = ["run", endless, "-p", "the", "--temperature", "0", "--max-tokens", "100000", ...reference];
  beforeAll(async () => {
    // A long context, so that the signal arrives while it generates; greedy, so that it does not end by chance.
    await writeTinyModel(endless, { maxPositionEmbeddings: 50_000 });
  });

  it("exits with 130 soon after Ctrl-C", async () => {
    const child = startOlmoe(argv);
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    await once(child.stdout, "data");
    child.kill("SIGINT");
    const [code] = await once(child, "close");
    expect({ code, stderr }).toEqual({ code: 130, stderr: "olmoe: interrupted\n" });
  });

  it("exits quietly when its reader goes away", async () => {
    const child = startOlmoe(argv);
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    await once(child.stdout, "data");
    child.stdout.destroy();
    const [code] = await once(child, "close");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });
});
