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

  it("names what is wrong with a model, a prompt or an option", async () => {
    const absent = join(root, "absent");
    const long = "dog ".repeat(100);
    expect((await olmoe(["run", absent, "-p", "a"])).stderr.split("\n")[0]).toBe(
      `olmoe: ${absent}: no such folder, looked for config.json in it`,
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
        `olmoe: ${join(model, "tokenizer.json")}: file does not exist\n` +
        "hint: name a tokenizer.json or a folder that holds one\n",
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
