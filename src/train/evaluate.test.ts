import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import type { Backend } from "../backend/backend.ts";
import type { HeldOutText } from "../data/heldOut.ts";
import type { Decoder } from "../model/decoder.ts";
import { evaluate, evaluateSource } from "./evaluate.ts";

const EOS = 0;
const LENGTH = 8;

/** Tokens of several documents, each closed by the end of text. */
function text(source: string, tokens: number, seed = 3): HeldOutText {
  const ids = new Draw(seed).ints(tokens, 1, 49).map((id, place) => (place % 11 === 10 ? EOS : id));
  ids[tokens - 1] = EOS;
  return { source, tokens: Uint16Array.from(ids), documents: [], textBytes: 3 * tokens };
}

/** -log p of every token in windows of `length`, one window at a time, from logits. */
function nats(
  backend: Backend,
  decoder: Decoder,
  tokens: HeldOutText["tokens"],
  documentMask: boolean,
  length = LENGTH,
) {
  const losses: number[] = [];
  for (let start = 0; start < tokens.length; start += length) {
    const targets = tokens.subarray(start, start + length);
    const ids = Array.from(targets, (_, index) => tokens[start + index - 1] ?? EOS);
    // A document starts after an end of text.
    const kvStart = documentMask ? ids.map((_, index) => ids.slice(0, index).lastIndexOf(EOS) + 1) : undefined;
    const logits = logitsOf(backend, decoder, ids, { kvStart });
    const width = logits.length / ids.length;
    for (const [place, target] of targets.entries()) {
      const row = Array.from(logits.subarray(place * width, (place + 1) * width));
      losses.push(Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)) - row[target]!);
    }
  }
  return losses;
}

const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);

describe.each(gradientBackends)("evaluateSource on %s", (_, backend) => {
  const decoder = createDecoder(backend, smallConfig());
  const options = { sequenceLength: LENGTH, eosTokenId: EOS, documentMask: false };

  it.each([false, true])("scores every token once, as a loss made by hand does (document mask: %s)", async (mask) => {
    const held = text("a", 53);
    const result = await evaluateSource(backend, decoder, held, { ...options, documentMask: mask });
    const expected = sum(nats(backend, decoder, held.tokens, mask));
    expect(result.tokens).toBe(53);
    expect(result.natsPerToken).toBeCloseTo(expected / 53, 5);
    expect(result.textBytes).toBe(159);
    expect(result.bitsPerByte).toBeCloseTo(expected / Math.LN2 / 159, 5);
  });

  it("counts the experts of the tokens alone, not of what fills the last window", async () => {
    const { expertCounts } = await evaluateSource(backend, decoder, text("a", 53), options);
    expect(expertCounts.map(sum)).toEqual([2 * 53, 2 * 53]);
    // Seven windows of eight places would be 112 slots a layer.
    const whole = await evaluateSource(backend, decoder, text("a", 56), options);
    expect(whole.expertCounts.map(sum)).toEqual([112, 112]);
  });

  it("spreads a subset evenly over the text, with its share of the bytes", async () => {
    const held = text("a", 53);
    const losses = nats(backend, decoder, held.tokens, false);
    // Of seven windows, 20 tokens take three: 0, 2 and 4.
    const chosen = [0, 2, 4].flatMap((window) => losses.slice(window * LENGTH, (window + 1) * LENGTH));
    const result = await evaluateSource(backend, decoder, held, { ...options, maxTokens: 20 });
    expect(result.tokens).toBe(24);
    expect(result.natsPerToken).toBeCloseTo(sum(chosen) / 24, 5);
    expect(result.textBytes).toBe(72);
    expect(result.bitsPerByte).toBeCloseTo(sum(chosen) / Math.LN2 / 72, 5);
    expect(result.expertCounts.map(sum)).toEqual([48, 48]);
    const all = await evaluateSource(backend, decoder, held, { ...options, maxTokens: 1e9 });
    expect(all).toEqual(await evaluateSource(backend, decoder, held, options));
    expect((await evaluateSource(backend, decoder, held, { ...options, maxTokens: 1 })).tokens).toBe(8);
  });
});

describe("evaluate", () => {
  const [, backend] = gradientBackends.at(-1)!;
  const decoder = createDecoder(backend, smallConfig());
  const options = { sequenceLength: LENGTH, eosTokenId: EOS, documentMask: false };

  it("weighs every token and byte alike", async () => {
    const texts = [text("short", 10), { ...text("long", 90, 4), textBytes: 500 }];
    const { sources, natsPerToken, bitsPerByte } = await evaluate(backend, decoder, texts, options);
    expect(sources.map(({ source, tokens, textBytes }) => [source, tokens, textBytes])).toEqual([
      ["short", 10, 30],
      ["long", 90, 500],
    ]);
    const total = sum(sources.map((source) => source.natsPerToken * source.tokens));
    expect(natsPerToken).toBeCloseTo(total / 100, 12);
    expect(bitsPerByte).toBeCloseTo(total / Math.LN2 / 530, 12);
  });

  it("gives the same in several passes as in one", async () => {
    // 40 windows of 128 tokens are more than the 4,096 of one pass.
    const held = text("a", 40 * 128);
    const result = await evaluateSource(backend, decoder, held, { ...options, sequenceLength: 128 });
    const expected = sum(nats(backend, decoder, held.tokens, false, 128));
    expect(result.natsPerToken * result.tokens).toBeCloseTo(expected, 1);
    expect(result.expertCounts.map(sum)).toEqual([2 * held.tokens.length, 2 * held.tokens.length]);
  });

  it("has no expert counts for a dense model", async () => {
    const dense = createDecoder(backend, smallConfig({ mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 }));
    const { sources } = await evaluate(backend, dense, [text("a", 20)], options);
    expect(sources.map(({ expertCounts }) => expertCounts)).toEqual([[]]);
  });

  it("stops when it is aborted", async () => {
    const reason = new Error("enough");
    const aborted = { ...options, signal: AbortSignal.abort(reason) };
    await expect(evaluate(backend, decoder, [text("a", 20)], aborted)).rejects.toBe(reason);
  });
});
