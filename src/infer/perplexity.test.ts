import { describe, expect, it } from "vitest";
import { fakeEngine } from "../../test/fakeEngine.ts";
import { ConfigError, DataError } from "../errors.ts";
import { trainTokenizer } from "../tokenizer/io.ts";
import { stridedWindows, textPerplexity, windowedLogprobs } from "./perplexity.ts";

/** The loop of transformers' page, in its words: begin, end and the targets of each window. */
function huggingFaceWindows(length: number, maxLength: number, stride: number) {
  const windows = [];
  for (let begin = 0, previousEnd = 0; ; begin += stride) {
    const end = Math.min(begin + maxLength, length);
    const targets = end - previousEnd;
    // The model shifts labels: the first token of a window is no target.
    windows.push({ start: begin, end, scored: Math.min(targets, end - begin - 1) });
    previousEnd = end;
    if (end === length) return windows;
  }
}

describe("strided windows", () => {
  it("are those of transformers' page", () => {
    for (const context of [2, 3, 8, 16]) {
      for (let stride = 1; stride < context; stride++) {
        for (const length of [2, 3, 7, 8, 9, 40, 41]) {
          expect([...stridedWindows(length, { context, stride })]).toEqual(huggingFaceWindows(length, context, stride));
        }
      }
    }
  });

  it("score each token once, with at least context - stride tokens before it but for the first window", () => {
    const counts = new Int32Array(101);
    for (const { start, end, scored } of stridedWindows(101, { context: 16, stride: 5 })) {
      for (let place = end - scored; place < end; place++) {
        counts[place]! += 1;
        if (start > 0) expect(place - start).toBeGreaterThanOrEqual(11);
      }
    }
    expect([...counts]).toEqual([0, ...Array(100).fill(1)]);
  });

  it("are refused where they leave tokens out or exceed the model", async () => {
    const engine = fakeEngine(() => []);
    const windows = (context: number, stride: number) => windowedLogprobs(engine, [1, 2, 3], { context, stride });
    await expect(windows(65, 8)).rejects.toThrow(
      new ConfigError("perplexity: context: 65, the model holds 64", { hint: "give at most 64" }),
    );
    await expect(windows(8, 8)).rejects.toThrow(
      new ConfigError("perplexity: stride: 8, must be below context (8)", {
        hint: "a smaller stride gives each token more text before it and takes longer",
      }),
    );
    await expect(windows(1, 0)).rejects.toThrow(
      new ConfigError(
        "perplexity: 2 faults\n  - context: 1, expected number to be >=2\n  - stride: 0, expected number to be >=1",
      ),
    );
  });
});

describe("perplexity", () => {
  const tokenizer = trainTokenizer(["abc abd"], { vocabSize: 258 });
  // Each token has the log-probability of minus its id.
  const engine = fakeEngine(() => []);

  it("adds up over all windows, with progress after each", async () => {
    const ids = Array.from({ length: 100 }, (_, index) => index % 7);
    const progress: number[] = [];
    const logprobs = await windowedLogprobs(engine, ids, {
      context: 16,
      stride: 8,
      onProgress: ({ tokens, of }) => progress.push(tokens, of),
    });
    expect([...logprobs]).toEqual(ids.slice(1).map((id) => -id));
    expect(progress.slice(0, 4)).toEqual([15, 99, 23, 99]);
    expect(progress.slice(-2)).toEqual([99, 99]);
  });

  it("is given per token, word and byte", async () => {
    const text = "ab \u00e9 ";
    const ids = await tokenizer.encode(text);
    const logprob = -ids.reduce((sum, id) => sum + id, 0);
    expect(await textPerplexity({ engine, tokenizer }, text)).toEqual({
      tokens: ids.length,
      words: 2,
      bytes: 6,
      logprob,
      perToken: Math.exp(-logprob / ids.length),
      perWord: Math.exp(-logprob / 2),
      perByte: Math.exp(-logprob / 6),
      bitsPerByte: -logprob / Math.LN2 / 6,
    });
  });

  it("is refused for an empty text, and ends with its signal", async () => {
    await expect(textPerplexity({ engine, tokenizer }, "")).rejects.toThrow(
      new DataError("perplexity: the text is empty, there is nothing to predict"),
    );
    await expect(textPerplexity({ engine, tokenizer }, "abc", { signal: AbortSignal.abort() })).rejects.toThrow(
      "aborted",
    );
  });
});
