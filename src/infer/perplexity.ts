/** How likely a model finds texts of any length: strided windows over them, and what follows from the sum. */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { ConfigError, DataError } from "../errors.ts";
import type { Engine, ScoreOptions } from "./engine.ts";
import type { TextSource } from "./textGeneration.ts";

export interface WindowOptions extends ScoreOptions {
  /** Most tokens in a window; default: the model's context. */
  readonly context?: number | undefined;
  /** Tokens from one window's start to the next one's; default: half of `context`. */
  readonly stride?: number | undefined;
  /** Called after each window. */
  readonly onProgress?: ((done: WindowProgress) => void) | undefined;
}

export interface WindowProgress {
  /** Tokens scored so far. */
  readonly tokens: number;
  /** Their summed log-probability. */
  readonly logprob: number;
  /** Tokens in all. */
  readonly of: number;
}

const schema = z.strictObject({ context: z.int().min(2), stride: z.int().min(1) });

/**
 * Windows of a sequence of N tokens: each has at most `context` of them and begins `stride` after the one before it. Its
 * last tokens, those that no earlier window has, are scored, so that each token is scored once and, but in the first
 * window, with at least `context - stride` tokens before it. This is how transformers' page "Perplexity of fixed-length
 * models" has it; the first token of all has nothing before it and no score.
 */
export function* stridedWindows(
  tokens: number,
  { context, stride }: { readonly context: number; readonly stride: number },
): Generator<{ readonly start: number; readonly end: number; readonly scored: number }> {
  for (let start = 0, before = 1; before < tokens; start += stride) {
    const end = Math.min(start + context, tokens);
    yield { start, end, scored: end - before };
    before = end;
  }
}

/**
 * Natural logarithms of the probabilities of a sequence's tokens, however long it is.
 *
 * @param ids N tokens.
 * @returns [N - 1]: of each token after the first, given those before it in its window; empty for fewer than two tokens.
 * @throws ConfigError for windows that are longer than the model's context or leave tokens out; the signal's reason.
 */
export async function windowedLogprobs(
  engine: Engine,
  ids: ArrayLike<number>,
  { signal, interventions, onProgress, ...options }: WindowOptions = {},
): Promise<Float32Array> {
  const { maxPositionEmbeddings } = engine.config;
  const context = options.context ?? maxPositionEmbeddings;
  const windows = parseConfig(schema, { context, stride: options.stride ?? Math.max(1, context >> 1) }, "perplexity");
  if (context > maxPositionEmbeddings) {
    throw new ConfigError(`perplexity: context: ${context}, the model holds ${maxPositionEmbeddings}`, {
      hint: `give at most ${maxPositionEmbeddings}`,
    });
  }
  if (windows.stride >= context) {
    throw new ConfigError(`perplexity: stride: ${windows.stride}, must be below context (${context})`, {
      hint: "a smaller stride gives each token more text before it and takes longer",
    });
  }
  const sequence = Int32Array.from(ids);
  const result = new Float32Array(Math.max(0, sequence.length - 1));
  let logprob = 0;
  for (const { start, end, scored } of stridedWindows(sequence.length, windows)) {
    signal?.throwIfAborted();
    const logprobs = await engine.logprobs(sequence.subarray(start, end), { interventions, signal });
    const last = logprobs.subarray(logprobs.length - scored);
    result.set(last, end - 1 - scored);
    logprob += last.reduce((sum, value) => sum + value, 0);
    onProgress?.({ tokens: end - 1, logprob, of: result.length });
  }
  return result;
}

/** Perplexities of a text. */
export interface Perplexity {
  readonly tokens: number;
  readonly words: number;
  readonly bytes: number;
  /** Sum of the tokens' log-probabilities, natural. */
  readonly logprob: number;
  readonly perToken: number;
  /** White space is between words. */
  readonly perWord: number;
  readonly perByte: number;
  readonly bitsPerByte: number;
}

/**
 * How well a model predicts a text. The text begins after one end-of-text token, as a document does, so that each of its
 * tokens is scored once.
 * @throws DataError for a text without a token; else as `windowedLogprobs`.
 */
export async function textPerplexity(
  { engine, tokenizer }: TextSource,
  text: string,
  options: WindowOptions = {},
): Promise<Perplexity> {
  const ids = await tokenizer.encode(text);
  if (ids.length === 0) throw new DataError("perplexity: the text is empty, there is nothing to predict");
  const logprobs = await windowedLogprobs(engine, [tokenizer.eosTokenId, ...ids], options);
  const logprob = logprobs.reduce((sum, value) => sum + value, 0);
  const tokens = ids.length;
  const words = text.split(/\s+/u).filter((word) => word !== "").length;
  const bytes = new TextEncoder().encode(text).length;
  return {
    tokens,
    words,
    bytes,
    logprob,
    perToken: Math.exp(-logprob / tokens),
    perWord: Math.exp(-logprob / words),
    perByte: Math.exp(-logprob / bytes),
    bitsPerByte: -logprob / Math.LN2 / bytes,
  };
}
