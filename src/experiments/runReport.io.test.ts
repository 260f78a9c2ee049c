import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KINDS } from "../../test/tinyRecipe.ts";
import { parsedRecipe, trainTiny, writeTexts } from "../../test/tinyRun.ts";
import { openBackend } from "../backend/io.ts";
import { bitsPerByte } from "../data/heldOut.ts";
import { openTrainingSources } from "../data/open.io.ts";
import { bigramModel } from "../eval/baselines.ts";
import { escapeHtml } from "../report/html.ts";
import { formatCount, formatDuration } from "../report/text.ts";
import { evaluate } from "../train/evaluate.ts";
import type { TrainOutcome } from "../train/run.io.ts";
import { writeRunReport } from "./runReport.io.ts";
import { type RunSummary, readSummary, writeSummary } from "./summary.io.ts";

const backend = await openBackend();
const folder = mkdtempSync(join(tmpdir(), "olmoe-report-"));
const directory = join(folder, "run");
afterAll(() => rmSync(folder, { recursive: true }));

const changes = { train: { monitorEvery: 12 } };
const recipe = parsedRecipe(changes);
let outcome: TrainOutcome;
let summary: RunSummary;
let html = "";
beforeAll(async () => {
  writeTexts(folder);
  outcome = await trainTiny(folder, "run", backend, { changes });
  summary = await writeRunReport({ backend, recipe, directory, outcome });
  html = readFileSync(join(directory, "report.html"), "utf8");
});

/** Bits per byte of all text from those of each kind, every byte counted once. */
function overall(bySource: readonly number[]): number {
  const bytes = outcome.heldOut.map(({ textBytes }) => textBytes);
  const bits = bySource.reduce((sum, value, index) => sum + value * bytes[index]!, 0);
  return bits / bytes.reduce((sum, count) => sum + count, 0);
}

describe("the comparison of a finished run", () => {
  const rowOf = (name: string) => summary.comparison.find((row) => row.name === name);

  it("starts with the model and names what it is held against", () => {
    expect(summary.comparison.map(({ name }) => name)).toEqual([
      "this model",
      "bigram of the same tokens",
      "brotli 11",
      "the untrained model",
    ]);
    expect(summary.sources).toEqual(KINDS);
    const { evaluation } = outcome;
    expect(rowOf("this model")?.bySource).toEqual(evaluation?.sources.map((source) => source.bitsPerByte));
    expect(rowOf("this model")?.all).toBe(evaluation?.bitsPerByte);
    expect(rowOf("this model")?.all).toBeCloseTo(overall(rowOf("this model")?.bySource ?? []), 12);
  });

  it("has the bigram of all training tokens", () => {
    const { sources, close } = openTrainingSources(outcome.data, recipe.data);
    const files = sources.flatMap((source) => source.files.map((file) => file.subarray(0, file.length)));
    close();
    const bigram = bigramModel(files, outcome.data.tokenizer.vocabSize);
    const expected = outcome.heldOut.map(({ tokens, textBytes }) => bitsPerByte(bigram.nats(tokens), textBytes));
    const row = rowOf("bigram of the same tokens");
    expect(row?.bySource).toEqual(expected);
    expect(row?.all).toBeCloseTo(overall(expected), 12);
  });

  it("has brotli on each kind's held-out text", () => {
    const [prose] = outcome.heldOut;
    const text = Buffer.from(prose?.documents.map((document) => document.text).join("\n\n") ?? "");
    const params = { [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT };
    const bits = (8 * brotliCompressSync(text, { params }).length) / text.length;
    expect(rowOf("brotli 11")?.bySource[0]).toBeCloseTo(bits, 1);
  });

  it("has the model as it was before its first step", async () => {
    const { decoder, data, heldOut } = outcome;
    const values = decoder.parameters.values.data;
    const trained = values.slice();
    decoder.parameters.initialise(7);
    const options = { sequenceLength: 32, eosTokenId: data.tokenizer.eosTokenId, documentMask: false };
    const start = await evaluate(backend, decoder, heldOut, options);
    decoder.parameters.values.data.set(trained);
    expect(rowOf("the untrained model")?.bySource).toEqual(start.sources.map((source) => source.bitsPerByte));
    expect(rowOf("the untrained model")?.all).toBe(start.bitsPerByte);
    expect(rowOf("the untrained model")?.all).toBeGreaterThan(rowOf("this model")?.all ?? 0);
  });
});

describe("the report of a finished run", () => {
  it("holds every number and text of the summary", () => {
    for (const { name, bySource, all } of summary.comparison) {
      const cells = [...bySource, all].map((bits) => `<td class="right">${bits.toFixed(3)}</td>`).join("");
      expect(html).toContain(`<tr><td>${name}</td>${cells}</tr>`);
    }
    for (const { source, prompt, text } of summary.samples) {
      expect(html).toContain(`<h3>${source}</h3>\n<pre>\n<b>${escapeHtml(prompt)}</b>${escapeHtml(text)}</pre>`);
    }
    for (const sentence of summary.experts) expect(html).toContain(`<li>${sentence}</li>`);
    for (const number of [formatDuration(summary.trainingSeconds), formatCount(summary.tokens)]) {
      expect(html).toContain(`<dd>${number}</dd>`);
    }
    expect(html).toContain(`olmoe info ${escapeHtml(summary.checkpoint)}`);
    expect(html).toContain("<title>Training run: tiny-run</title>");
  });

  it("starts with the model's size and what it was trained on", () => {
    // 320 entries: 2 * 320 * 32 + 2 * (4 * 32^2 + 4 * 32 + 8 * 32 + 8 * 3 * 32 * 16) + 32; two of eight experts active.
    expect(html).toContain(
      "A model of 54 k parameters, 35.6 k of them active for each token, after 3.07 k tokens of prose, code, list, number.",
    );
  });

  it("shows how evenly experts were used, the gradients, and the memory", () => {
    expect(html).toContain("<h2>How training went</h2>");
    for (const title of ["Busiest expert of a layer", "Router churn", "Gradient norm by group", "Memory"]) {
      expect(html).toContain(title);
    }
    expect(html).toMatch(/Memory after a tenth of the steps: [\d.]+ [MG]B; after the last: [\d.]+ [MG]B; at most: /);
  });

  it("has prompts that end between words and fit the context with what follows", () => {
    for (const [index, { source, prompt }] of summary.samples.entries()) {
      const { documents } = outcome.heldOut[index]!;
      expect(source).toBe(KINDS[index]);
      const text = documents.find((document) => document.text.startsWith(prompt))?.text ?? "";
      expect([text[prompt.length], prompt.length <= 120]).toEqual([expect.stringMatching(/\s/), true]);
    }
  });

  it("comes with a picture of the experts and a summary that reads back", async () => {
    expect(summary.picture).toBe(join(directory, "experts.png"));
    expect(readFileSync(join(directory, "experts.png")).subarray(1, 4).toString()).toBe("PNG");
    expect(readFileSync(join(directory, "experts.svg"), "utf8")).toContain("<svg");
    expect(summary).toMatchObject({ name: "tiny-run", tokens: 3072, checkpoint: outcome.checkpoint });
    expect(summary.trainingSeconds).toBeGreaterThan(0);
    expect(await readSummary(directory)).toEqual(summary);
  });

  it("is the same when it is written again", async () => {
    const again = await writeRunReport({ backend, recipe, directory, outcome });
    expect(again).toEqual(summary);
    expect(readFileSync(join(directory, "report.html"), "utf8")).toBe(html);
  });

  it("stops when it is aborted", async () => {
    const reason = new Error("enough");
    const options = { backend, recipe, directory, outcome, signal: AbortSignal.abort(reason) };
    await expect(writeRunReport(options)).rejects.toBe(reason);
  });

  it("has no part about experts for a dense model", async () => {
    const changes = {
      model: { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 },
      train: { steps: 2 },
    };
    const dense = await trainTiny(folder, "dense", backend, { changes });
    const options = { backend, recipe: parsedRecipe(changes), directory: join(folder, "dense"), outcome: dense };
    const { experts, picture } = await writeRunReport(options);
    expect({ experts, picture }).toEqual({ experts: [], picture: undefined });
    expect(existsSync(join(folder, "dense", "experts.png"))).toBe(false);
    expect(readFileSync(join(folder, "dense", "report.html"), "utf8")).not.toContain("Which experts fire");
  });

  it("says of a model whose experts choose that it can not write, and why", async () => {
    const changes = { model: { routing: "expert_choice" }, train: { steps: 2, loss: { balance: 0 } } };
    const choosing = await trainTiny(folder, "choosing", backend, { changes });
    const options = { backend, recipe: parsedRecipe(changes), directory: join(folder, "choosing"), outcome: choosing };
    const { samples, experts, picture } = await writeRunReport(options);
    expect({ samples, experts, picture }).toEqual({ samples: [], experts: [], picture: undefined });
    const page = readFileSync(join(folder, "choosing", "report.html"), "utf8");
    expect(page).toContain("It can not write, and its scores are not to be compared");
    expect(page).not.toMatch(/What it writes|Which experts fire|Busiest expert|olmoe run|from_pretrained/);
  });
});

describe("a summary", () => {
  it("that is not there or not one is none", async () => {
    const empty = mkdtempSync(join(folder, "summary-"));
    expect(await readSummary(empty)).toBeUndefined();
    for (const text of ["", "{", "null", "[]", "{}", JSON.stringify({ ...summary, comparison: 3 })]) {
      writeFileSync(join(empty, "summary.json"), text);
      expect(await readSummary(empty)).toBeUndefined();
    }
    await writeSummary(empty, summary);
    expect(await readSummary(empty)).toEqual(summary);
  });
});
