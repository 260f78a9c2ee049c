import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { Graph } from "../../src/autograd/graph.ts";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import type { ModelConfig } from "../../src/config/model.ts";
import { openModel } from "../../src/formats/model.io.ts";
import { Arena } from "../../src/tensor/arena.ts";
import { loadTokenizer } from "../../src/tokenizer/io.ts";
import { olmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const model = join(root, "model");
const reference = ["--backend", "reference", "--cache-type", "f32"];
const TEXT = "the cat sat on the mat. the rat sat on the hat, while the dog ran to the cat";

/** Log-probabilities by whole passes without a cache. */
let plain: (ids: readonly number[]) => number[];

beforeAll(async () => {
  await writeTinyModel(model);
  const backend = createReferenceBackend();
  const decoder = await openModel(model, backend);
  plain = (ids) => {
    const arena = new Arena(backend);
    const graph = new Graph(backend, arena, { record: false });
    const { hidden } = decoder.forward(graph, ids.slice(0, -1), { batch: 1 });
    const logits = decoder.logits(graph, hidden).value.data.slice();
    arena.dispose();
    const { vocabSize }: ModelConfig = decoder.config;
    return ids.slice(1).map((id, place) => {
      const row = logits.subarray(place * vocabSize, (place + 1) * vocabSize);
      const sum = row.reduce((total, logit) => total + Math.exp(logit), 0);
      return (row[id] as number) - Math.log(sum);
    });
  };
});

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

describe("olmoe score", () => {
  it("gives each line its log-probability, tokens and bits per byte", async () => {
    const tokenizer = await loadTokenizer(model);
    const lines = ["the cat sat", "", "tac eht tas"];
    const { code, stdout, stderr } = await olmoe(["score", model, "-", ...reference], `${lines.join("\n")}\n`);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const rows = stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t"));
    expect(rows.map(([, , , text]) => text)).toEqual(lines);
    for (const [index, line] of lines.entries()) {
      const ids = [...(await tokenizer.encode(line))];
      const logprob = line === "" ? 0 : sum(plain([tokenizer.eosTokenId, ...ids]));
      const bits = line === "" ? 0 : -logprob / Math.LN2 / line.length;
      expect(rows[index]?.slice(0, 3)).toEqual([logprob.toFixed(4), String(ids.length), bits.toFixed(4)]);
    }
  });

  it("gives programs each token's log-probability", async () => {
    const tokenizer = await loadTokenizer(model);
    const file = join(root, "lines.txt");
    await writeFile(file, "the cat\r\nsat");
    const { stdout } = await olmoe(["score", model, file, "--json", ...reference]);
    const ids = [...(await tokenizer.encode("the cat"))];
    const logprobs = plain([tokenizer.eosTokenId, ...ids]);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      model,
      texts: [{ text: "the cat", tokens: ids.length, bytes: 7, ids }, { text: "sat" }],
    });
    expect(report.texts[0].logprobs).toBeAllClose(logprobs, { atol: 1e-5 });
    expect(report.texts[0].logprob).toBeCloseTo(sum(logprobs), 4);
  });

  it("says what is missing", async () => {
    const absent = join(root, "absent");
    expect(await olmoe(["score", model])).toEqual({
      code: 2,
      stdout: "",
      stderr: "olmoe: score: no text\nhint: name a file, or give the text on standard input\n",
    });
    expect(await olmoe(["score", model, absent])).toEqual({
      code: 1,
      stdout: "",
      stderr: `olmoe: ${absent}: does not exist\n`,
    });
  });
});

describe("olmoe perplexity", () => {
  /** Each token once, in windows that are read by whole passes. */
  async function expected(context: number, stride: number) {
    const tokenizer = await loadTokenizer(model);
    const ids = [tokenizer.eosTokenId, ...(await tokenizer.encode(TEXT))];
    let logprob = 0;
    for (let start = 0, before = 1; before < ids.length; start += stride) {
      const end = Math.min(start + context, ids.length);
      logprob += sum(plain(ids.slice(start, end)).slice(-(end - before)));
      before = end;
    }
    return { tokens: ids.length - 1, logprob };
  }

  it.each([
    [64, 32],
    [16, 8],
    [10, 1],
  ])("of windows of %i tokens, %i apart, is what whole passes give", async (context, stride) => {
    const { tokens, logprob } = await expected(context, stride);
    const argv = ["perplexity", model, "-", "--context", String(context), "--stride", String(stride), "--json"];
    const { code, stdout, stderr } = await olmoe([...argv, ...reference], TEXT);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const report = JSON.parse(stdout);
    const [words, bytes] = [TEXT.split(" ").length, TEXT.length];
    expect(report).toMatchObject({ model, file: "-", context, stride, tokens, words, bytes });
    expect(report.logprob).toBeCloseTo(logprob, 3);
    expect(report.perToken).toBeCloseTo(Math.exp(-logprob / tokens), 3);
    expect(report.perWord / Math.exp(-logprob / words)).toBeCloseTo(1, 4);
    expect(report.perByte).toBeCloseTo(Math.exp(-logprob / bytes), 4);
    expect(report.bitsPerByte).toBeCloseTo(-logprob / Math.LN2 / bytes, 5);
  });

  it("is shown per token, word and byte, and how it was measured", async () => {
    const file = join(root, "text.txt");
    await writeFile(file, TEXT);
    const { tokens, logprob } = await expected(64, 32);
    const { stdout, stderr } = await olmoe(["perplexity", model, file, ...reference]);
    const words = TEXT.split(" ").length;
    expect(stdout.split("\n").map((line) => line.trimEnd())).toEqual([
      `perplexity     ${Math.exp(-logprob / tokens).toFixed(4)}  per token, of ${tokens}`,
      expect.stringMatching(new RegExp(`^ +\\S+ +per word, of ${words}$`)),
      expect.stringMatching(/^ +[\d.]+ +per byte, of 76 B$/),
      expect.stringMatching(/^bits per byte {2}[\d.]+$/),
      "",
    ]);
    expect(stderr).toMatch(
      /^windows of 64 tokens, 32 apart; [\d.]+ m?s, .* tokens\/s; reference typescript, 1 thread\n$/,
    );
  });

  it("names what can not be", async () => {
    const run = (...argv: string[]) => olmoe(["perplexity", model, "-", ...argv, ...reference], TEXT);
    const { code, stderr } = await run("--stride", "64");
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr:
        "olmoe: perplexity: stride: 64, must be below context (64)\n" +
        "hint: a smaller stride gives each token more text before it and takes longer\n",
    });
    expect((await olmoe(["perplexity", model, "-", ...reference], "")).stderr).toBe(
      "olmoe: perplexity: the text is empty, there is nothing to predict\n",
    );
    expect((await olmoe(["perplexity", model, "-", ...reference], Uint8Array.of(0xff))).stderr).toBe(
      "olmoe: standard input: not UTF-8, expected a text\n",
    );
    expect((await run("--strid", "8")).stderr).toBe(
      "olmoe: unknown option '--strid'\n" + 'hint: did you mean --stride? "olmoe perplexity --help" shows the usage\n',
    );
  });
});
