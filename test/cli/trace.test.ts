import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { beforeAll, describe, expect, it } from "vitest";
import { modelDigest, tokenizerDigest } from "../../src/formats/modelDigest.io.ts";
import { openTrace } from "../../src/formats/trace.io.ts";
import type { TraceChunk } from "../../src/formats/trace.ts";
import { OlmoeModel } from "../../src/infer/model.io.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { olmoe, startOlmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const model = join(root, "model");
const reference = ["--backend", "reference", "--cache-type", "f32"];
const [cats, code] = [join(root, "cats.txt"), join(root, "code.jsonl")];
const CATS = "the cat sat on the mat. the rat sat on the hat, while the dog ran to the cat";
const CODE = ["the dog ran", "to the hat"];
let tokenizer: Tokenizer;

beforeAll(async () => {
  ({ tokenizer } = await writeTinyModel(model));
  await writeFile(cats, CATS);
  await writeFile(code, CODE.map((text) => `${JSON.stringify({ text })}\n`).join(""));
});

async function read(path: string) {
  await using trace = await openTrace(path);
  const chunks: TraceChunk[] = [];
  for await (const chunk of trace.chunks()) chunks.push(chunk);
  return { trace, chunks };
}

describe("olmoe trace", () => {
  it("writes the experts of every token of every source, in pieces of the context", async () => {
    const out = join(root, "a.trace");
    const args = ["trace", model, cats, `js=${code}`, "--out", out, "--context", "16", "--columns", "logprobs"];
    const { code: exit, stdout, stderr } = await olmoe([...args, ...reference]);
    expect(exit).toBe(0);
    const eos = tokenizer.eosTokenId;
    const documents = await Promise.all([CATS, ...CODE].map(async (text) => [eos, ...(await tokenizer.encode(text))]));
    const all = documents.flat();
    expect(stdout).toMatch(
      new RegExp(`a\\.trace: ${all.length} tokens, 2 layers, [\\d.]+ kB, [\\d.]+ bytes a token\n$`),
    );
    expect(stderr).toMatch(/^[\d.]+ m?s, [\d,.k ]+tokens\/s; reference typescript, 1 thread\n$/);
    const { trace, chunks } = await read(out);
    expect(trace.header).toMatchObject({
      model: { digest: await modelDigest(model), vocabSize: 280 },
      tokenizer: { digest: tokenizerDigest(tokenizer.toJson()), vocabSize: 280 },
      layers: [0, 1],
      columns: ["ids", "experts", "weights", "logprobs"],
      origin: "score",
    });
    expect([trace.sources, trace.tokens]).toEqual([["cats", "js"], all.length]);
    expect(trace.vocabulary.get(eos)).toBe(tokenizer.entry(eos));
    expect([...chunks[0]!.ids!]).toEqual(all);
    let [sequence, first] = [0, 0];
    const runs = documents.flatMap((ids, index) =>
      Array.from({ length: Math.ceil(ids.length / 16) }, (_, piece) => ({
        sequence: sequence++,
        source: index === 0 ? 0 : 1,
        position: 0,
        tokens: Math.min(16, ids.length - 16 * piece),
      })),
    );
    expect(chunks[0]?.runs).toEqual(runs);
    await using opened = await OlmoeModel.open(model, { backend: "reference", cacheType: "f32", inProcess: true });
    for (const { tokens } of runs) {
      const rows = await opened.trace(all.slice(first, first + tokens), { columns: ["logprobs"] });
      expect([...chunks[0]!.logprobs!.subarray(first, first + tokens)]).toEqual([...rows.logprobs!]);
      const width = rows.experts!.length / tokens / 2;
      const ours = [0, 1].flatMap((layer) => [
        ...chunks[0]!.experts!.subarray(
          (layer * all.length + first) * width,
          (layer * all.length + first + tokens) * width,
        ),
      ]);
      expect(ours).toEqual([...rows.experts!]);
      first += tokens;
    }
  });

  it("stops each source at --max-tokens", async () => {
    const out = join(root, "short.trace");
    await olmoe(["trace", model, cats, code, "--out", out, "--max-tokens", "5", ...reference]);
    const { chunks } = await read(out);
    expect(chunks[0]?.runs.map(({ source, tokens }) => [source, tokens])).toEqual([
      [0, 5],
      [1, 5],
    ]);
  });

  it("goes on after an interruption, and ends with the tokens of a trace that was never interrupted", async () => {
    const [whole, cut] = [join(root, "whole.trace"), join(root, "cut.trace")];
    const long = join(root, "long.txt");
    await writeFile(long, `${CATS}\n`.repeat(100));
    const args = (out: string) => ["trace", model, long, cats, "--out", out, "--context", "64", ...reference];
    expect((await olmoe(args(whole))).code).toBe(0);
    const child = startOlmoe(args(cut));
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    const begun = async () => (await readFile(cut).catch(() => Buffer.alloc(0))).length > 0;
    while (!(await begun())) await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    const partly = await (async () => {
      await using trace = await openTrace(cut, { partial: true });
      return trace.tokens;
    })();
    const { code: exit, stderr } = await olmoe(args(cut));
    expect(exit).toBe(0);
    expect(stderr.includes("goes on after")).toBe(partly > 0);
    const columnsOf = async (path: string) => {
      const { trace, chunks } = await read(path);
      return [trace.tokens, chunks.flatMap(({ ids }) => [...ids!]), trace.sources];
    };
    expect(await columnsOf(cut)).toEqual(await columnsOf(whole));
  });

  it("writes Parquet with a row for each token and layer", async () => {
    const out = join(root, "b.parquet");
    const { code: exit, stdout } = await olmoe([
      "trace",
      model,
      code,
      "--out",
      out,
      "--columns",
      "predicted",
      ...reference,
    ]);
    expect(exit).toBe(0);
    expect(stdout).toMatch(/b\.parquet: \d+ rows\n$/);
    const { trace, chunks } = await read(join(root, "b.trace"));
    const instance = await DuckDBInstance.create(":memory:");
    const connection = await instance.connect();
    const rows = (await connection.runAndReadAll(`SELECT * FROM '${out}'`)).getRowObjectsJson();
    connection.closeSync();
    const [chunk] = chunks as [TraceChunk];
    const { ids, experts, weights, predicted } = chunk as Required<TraceChunk>;
    const slots = trace.header.slots;
    const expected = chunk.runs.flatMap(({ sequence, tokens }) => {
      const first = chunk.runs.slice(0, sequence).reduce((sum, run) => sum + run.tokens, 0);
      return Array.from({ length: tokens }, (_, position) =>
        [0, 1].map((layer) => {
          const token = first + position;
          const slot = (layer * chunk.tokens + token) * slots;
          return {
            token,
            sequence,
            source: "code",
            position,
            layer,
            text: tokenizer.entry(ids[token]!),
            id: ids[token],
            experts: [...experts.subarray(slot, slot + slots)],
            weights: [...weights.subarray(slot, slot + slots)],
            predicted: predicted[token],
          };
        }),
      ).flat();
    });
    expect(rows).toEqual(expected);
  });

  it("keeps a finished trace, and says what is wrong", async () => {
    const out = join(root, "kept.trace");
    const args = ["trace", model, cats, "--out", out, ...reference];
    expect((await olmoe(args)).code).toBe(0);
    const refused = async (...argv: string[]) => {
      const { code, stderr } = await olmoe(argv);
      return `${code} ${stderr}`;
    };
    expect(await refused(...args)).toBe(
      `1 olmoe: ${out}: is a finished trace\nhint: choose another name, or replace it with --force\n`,
    );
    expect((await olmoe([...args, "--force"])).code).toBe(0);
    expect(await refused("trace", model, "--out", join(root, "x.trace"), ...reference)).toBe(
      `2 olmoe: trace: no inputs, and ${model} is not from a training run with held-out text\n` +
        "hint: name files or folders to read after the model\n",
    );
    expect(await refused("trace", model, cats, "--out", out, "--columns", "gates")).toBe(
      '2 olmoe: --columns: "gates", expected some of ids, experts, weights, predicted, logprobs, probabilities, logits\n' +
        'hint: "olmoe trace --help" shows the usage\n',
    );
    expect(await refused("trace", out, "--out", join(root, "y.trace"))).toBe(
      `2 olmoe: --out: "${join(root, "y.trace")}", of a trace only a .parquet file can be made\n` +
        'hint: "olmoe trace --help" shows the usage\n',
    );
    const foreign = join(root, "foreign.trace");
    await writeFile(foreign, "GGUF, not a trace");
    expect(await refused("trace", foreign, "--out", join(root, "y.parquet"))).toBe(
      `1 olmoe: ${foreign}: no routing trace, expected "OLMOEtrc" at its start\nhint: record one with olmoe trace\n`,
    );
    await rm(foreign);
  });
});
