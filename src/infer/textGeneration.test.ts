import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fakeEngine } from "../../test/fakeEngine.ts";
import { ConfigError } from "../errors.ts";
import { trainTokenizer } from "../tokenizer/io.ts";
import type { GeneratedToken } from "./engine.ts";
import type { TextPiece } from "./textAssembler.ts";
import { generateTexts, TextGeneration, type TextOptions } from "./textGeneration.ts";

const SAMPLE = "the cat sat on the mat and the rat sat on the cat, caf\u00e9 \u4f60\u597d \u{1F600} ".repeat(3);
const tokenizer = trainTokenizer([SAMPLE], { vocabSize: 285 });
const [eos, pad] = [0, 1];

const tokens = (ids: Iterable<number>): GeneratedToken[] => Array.from(ids, (id) => ({ id }));

/** A generation of the given tokens. */
function generation(answer: Iterable<GeneratedToken>, options: TextOptions = {}, prompt: string | number[] = "the") {
  const engine = fakeEngine(() => answer);
  return { engine, text: new TextGeneration({ engine, tokenizer }, prompt, options) };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** The result without what depends on time. */
async function resultOf(text: TextGeneration) {
  const { firstTokenMs, tokensPerSec, ...result } = await text.result;
  return result;
}

describe("a text generation", () => {
  it("gives pieces that join to the text, with the tokens that begin in them", async () => {
    const ids = [...(await tokenizer.encode("cat \u{1F600}!"))];
    const { text } = generation(tokens(ids));
    const pieces = await collect(text.pieces());
    const result = await resultOf(text);
    expect(pieces.map((piece) => piece.text).join("")).toBe("cat \u{1F600}!");
    expect(pieces.flatMap((piece) => piece.tokens)).toEqual(result.tokens);
    expect(result).toEqual({
      text: "cat \u{1F600}!",
      ids,
      tokens: ids.map((id, index) => ({
        id,
        text: tokenizer.tokenText(id),
        byteOffset: ids.slice(0, index).reduce((sum, other) => sum + tokenizer.tokenBytes(other).length, 0),
      })),
      finishReason: "length",
      stop: null,
      promptTokens: (await tokenizer.encode("the")).length,
      cachedTokens: 3,
      newTokens: ids.length,
      seed: 0,
    });
  });

  it("never splits a character, however its bytes are spread", async () => {
    const bytes = trainTokenizer(["a"], { vocabSize: 258 });
    const ids = await bytes.encode("a\u{1F600}b");
    const text = new TextGeneration({ engine: fakeEngine(() => tokens(ids)), tokenizer: bytes }, "a", {});
    expect(await collect(text)).toEqual(["a", "\u{1F600}", "b"]);
    expect((await text.result).tokens.map((token) => token.text)).toEqual([
      "a",
      "<0xF0>",
      "<0x9F>",
      "<0x98>",
      "<0x80>",
      "b",
    ]);
  });

  it("gives a replacement character for one that never completes, and leaves special tokens out of the text", async () => {
    const bytes = trainTokenizer(["a"], { vocabSize: 258 });
    const ids = [pad, ...(await bytes.encode("a\u{1F600}")).subarray(0, 3), pad];
    const text = new TextGeneration({ engine: fakeEngine(() => tokens(ids)), tokenizer: bytes }, "a", {});
    expect(await collect(text)).toEqual(["a", "\ufffd"]);
    const result = await text.result;
    expect(result.ids).toEqual(ids);
    expect(result.tokens.map(({ byteOffset }) => byteOffset)).toEqual([0, 0, 1, 2, 3]);
  });

  it("ends before a stop string, whatever the tokens, and shows nothing of it", async () => {
    const letters = fc.string({ unit: fc.constantFrom("t", "h", "e", " ", "c", "a", "\u00e9"), maxLength: 30 });
    const stops = fc.array(
      fc.string({ unit: fc.constantFrom("t", "h", "e", " ", "a", "\u00e9"), minLength: 1, maxLength: 4 }),
      {
        minLength: 1,
        maxLength: 3,
      },
    );
    const property = fc.asyncProperty(letters, stops, async (written, stop) => {
      const ids = [...(await tokenizer.encode(written))];
      const { text, engine } = generation(tokens(ids), { stop });
      const shown = (await collect(text)).join("");
      const result = await resultOf(text);
      expect(shown).toBe(result.text);
      const ends = Array.from({ length: written.length }, (_, index) => index + 1);
      const end = ends.find((place) => stop.some((one) => written.slice(0, place).endsWith(one)));
      if (end === undefined) {
        expect(result).toMatchObject({ text: written, stop: null, finishReason: "length", ids });
        return;
      }
      const ending = stop.filter((one) => written.slice(0, end).endsWith(one)).sort((a, b) => b.length - a.length);
      const kept = written.slice(0, end - (ending[0] as string).length);
      expect(result).toMatchObject({ text: kept, stop: ending[0], finishReason: "stop", cachedTokens: null });
      // The tokens that begin in what is kept, and no other.
      let bytes = 0;
      const inside = ids.filter((id) => {
        const begins = bytes < new TextEncoder().encode(kept).length;
        bytes += tokenizer.tokenBytes(id).length;
        return begins;
      });
      expect(result.ids).toEqual(inside);
      expect(engine.left).toBe(1);
    });
    await fc.assert(property, { numRuns: 150, seed: 1 });
  });

  it("runs on to its end where a stop string never comes", async () => {
    const ids = [...(await tokenizer.encode("the cat sat on"))];
    const { text } = generation(tokens(ids), { stop: "on the mat" });
    expect((await collect(text)).join("")).toBe("the cat sat on");
    expect(await text.result).toMatchObject({ text: "the cat sat on", finishReason: "length", stop: null });
  });

  it("ends at the end of text of tokenizer and model, or at the ids that are asked for", async () => {
    const ids = [...(await tokenizer.encode("the cat")), eos, ...(await tokenizer.encode(" sat"))];
    expect(await generation(tokens(ids)).text.result).toMatchObject({
      text: "the cat",
      finishReason: "stop",
      stop: null,
    });
    const { text, engine } = generation(tokens(ids), { stopIds: [] });
    expect(await text.result).toMatchObject({ text: "the cat sat", finishReason: "length" });
    expect(engine.requests.map(({ stopIds }) => stopIds)).toEqual([[]]);
  });

  it("starts an empty prompt from the end of text", async () => {
    const { text, engine } = generation([], {}, "");
    await text.result;
    expect(engine.requests[0]?.prompt).toEqual([eos]);
  });

  it("gives the routing of each token that is read, beside the text", async () => {
    const [the, cat] = [...(await tokenizer.encode("the cat"))] as [number, number];
    const of = (expert: number) => ({ experts: Int16Array.of(expert), weights: Float32Array.of(0.5) });
    const { text } = generation(
      [
        { id: the, routing: of(1), promptRouting: { position: 0, tokens: 2, ...of(7) } },
        { id: cat, routing: of(2) },
      ],
      { routing: { prompt: true } },
      [5, 6, 8],
    );
    const routes = [];
    for await (const route of text.routes()) routes.push(route);
    expect(routes).toEqual([
      { ids: Int32Array.of(5, 6), position: 0, tokens: 2, ...of(7) },
      { ids: Int32Array.of(8), position: 2, tokens: 1, ...of(1) },
      { ids: Int32Array.of(the), position: 3, tokens: 1, ...of(2) },
    ]);
    expect((await text.result).text).toBe("the cat");
  });

  it("passes log-probabilities and routing on with the text of the tokens", async () => {
    const [id] = [...(await tokenizer.encode("the"))] as [number];
    const routing = { experts: Int16Array.of(1, 0), weights: Float32Array.of(0.75, 0.25) };
    const logprobs = { id, logprob: -0.5, top: [{ id, logprob: -0.5 }] };
    const { text } = generation([{ id, logprobs, routing }], { logprobs: 1, routing: true, promptLogprobs: 1 }, [
      id,
      5,
    ]);
    expect(await collect(text.pieces())).toEqual([
      {
        text: "the",
        tokens: [{ id, text: "the", byteOffset: 0, logprob: -0.5, top: [{ id, text: "the", logprob: -0.5 }], routing }],
      } satisfies TextPiece,
    ]);
    expect((await text.result).prompt).toEqual([
      { id, text: "the", byteOffset: 0 },
      {
        id: 5,
        text: tokenizer.tokenText(5),
        byteOffset: 3,
        logprob: -5,
        top: [{ id: 0, text: "<|endoftext|>", logprob: -0.5 }],
      },
    ]);
  });

  it("gives its pieces to all who ask, also after the end", async () => {
    const ids = await tokenizer.encode("the cat sat on the mat");
    const { text, engine } = generation(tokens(ids));
    const [first, result, second] = await Promise.all([collect(text), text.result, collect(text)]);
    expect(first.join("")).toBe(result.text);
    expect(second).toEqual(first);
    expect(await collect(text)).toEqual(first);
    expect(engine.requests.length).toBe(1);
  });

  it("computes nothing that is not asked for", async () => {
    expect(generation([]).engine.requests).toEqual([]);
  });

  it("is cancelled by leaving its iteration, with what there is so far", async () => {
    const ids = await tokenizer.encode("the cat sat on the mat");
    const { text, engine } = generation(tokens(ids));
    for await (const piece of text) {
      expect(piece).toBe(tokenizer.tokenText(ids[0] as number));
      break;
    }
    expect(await text.result).toMatchObject({ finishReason: "cancelled", newTokens: 1, ids: [ids[0]] });
    expect(engine.requests[0]?.signal?.aborted).toBe(true);
  });

  it("throws the reason of an abort from iteration and result", async () => {
    const controller = new AbortController();
    const ids = await tokenizer.encode("the cat sat on the mat");
    const { text } = generation(tokens(ids), { signal: controller.signal });
    const reading = (async () => {
      for await (const _ of text) controller.abort(new Error("enough"));
    })();
    await expect(reading).rejects.toThrow("enough");
    await expect(text.result).rejects.toThrow("enough");
  });

  it("says what is wrong with its options, all faults of a kind at once", () => {
    const start = (options: object) => generation([], options as TextOptions);
    expect(() => start({ maxTokens: -1, seed: 1.5 })).toThrow(
      new ConfigError(
        "generate: 2 faults\n  - maxTokens: -1, expected number to be >=0\n  - seed: 1.5, expected int, received number",
      ),
    );
    expect(() => start({ temperatur: 1 })).toThrow(
      new ConfigError('sampling: temperatur: unknown key, did you mean "temperature"?'),
    );
    expect(() => start({ stop: ["a", ""] })).toThrow(
      new ConfigError('stop: "", expected a text of at least one character'),
    );
  });
});

describe("several texts of one prompt", () => {
  it("have seeds one after another", async () => {
    const ids = await tokenizer.encode("the cat");
    const engine = fakeEngine(() => tokens(ids));
    const texts = generateTexts({ engine, tokenizer }, "the", { n: 3, seed: 7 });
    const results = await Promise.all(texts.map(({ result }) => result));
    expect(results.map(({ seed, text }) => [seed, text])).toEqual([
      [7, "the cat"],
      [8, "the cat"],
      [9, "the cat"],
    ]);
    expect(() => generateTexts({ engine, tokenizer }, "the", { n: 0 })).toThrow(
      new ConfigError("generate: n: 0, expected number to be >=1"),
    );
  });
});
