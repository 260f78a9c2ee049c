/** Generation: one pass over the prompt, then one token a pass over the cache. */

import { z } from "zod";
import { Graph } from "../autograd/graph.ts";
import type { Backend } from "../backend/backend.ts";
import { parseConfig } from "../config/check.ts";
import { ConfigError, ShapeError, TokenizerError } from "../errors.ts";
import { PagePool } from "../model/cache.ts";
import type { Decoder, Observer } from "../model/decoder.ts";
import { Arena } from "../tensor/arena.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { createRandom } from "../util/random.ts";
import { checkSampling, type SamplingOptions, sampleToken } from "./sampling.ts";

export interface GenerateOptions {
  /** Most new tokens. */
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  /** Of the random draws: the same seed gives the same tokens. Default 0. */
  readonly seed?: number | undefined;
  /** Ids that end the generation and are not part of it; default: the model's end of text. */
  readonly stopIds?: readonly number[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Sees every pass from inside: the first is over the prompt, each other over one token. */
  readonly observe?: Observer | undefined;
}

/** Why a generation ended: a stop id, `maxTokens`, or the end of the model's context. */
export type FinishReason = "stop" | "length" | "context";

const countsSchema = z.strictObject({ maxTokens: z.int().min(0), seed: z.int() });

/** Lets timers, signals and input through. A timer alone would wait a millisecond or more for each token. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve);
  });
}

/** The ids to start from; an empty prompt is the start of a document. */
function startOf(prompt: ArrayLike<number>, { config }: Decoder): ArrayLike<number> {
  const { maxPositionEmbeddings, eosTokenId } = config;
  if (prompt.length > maxPositionEmbeddings) {
    throw new ShapeError(`context: the prompt is ${prompt.length} tokens, the model holds ${maxPositionEmbeddings}`, {
      hint: `shorten the prompt to at most ${maxPositionEmbeddings} tokens`,
    });
  }
  if (prompt.length > 0) return prompt;
  if (eosTokenId === null) {
    throw new ConfigError("generate: an empty prompt starts from eosTokenId, which the model config leaves out", {
      hint: "give a prompt of at least one token",
    });
  }
  return [eosTokenId];
}

/**
 * Continues a prompt, token by token. Between tokens the event loop turns once, so that an abort takes effect within one.
 *
 * @param prompt ids; an empty prompt starts from the model's end of text.
 * @returns the new ids as they come, then why there are no more.
 * @throws ConfigError for bad options; ShapeError for a prompt longer than the context or with an id outside the
 *   vocabulary; the signal's reason when it is aborted.
 */
export async function* generate(
  backend: Backend,
  decoder: Decoder,
  prompt: ArrayLike<number>,
  options: GenerateOptions,
): AsyncGenerator<number, FinishReason> {
  const { maxTokens, seed } = parseConfig(
    countsSchema,
    { maxTokens: options.maxTokens, seed: options.seed ?? 0 },
    "generate",
  );
  const { signal, observe } = options;
  const { maxPositionEmbeddings, eosTokenId } = decoder.config;
  const sampling = checkSampling(options.sampling);
  const stopIds = options.stopIds ?? (eosTokenId === null ? [] : [eosTokenId]);
  const start = startOf(prompt, decoder);
  const random = createRandom(seed, "generate");
  const capacity = Math.min(maxPositionEmbeddings, start.length + maxTokens);
  const pool = new PagePool(backend, decoder.config, { pages: PagePool.pagesFor(capacity), type: "f32" });
  const cache = pool.sequence();
  const arena = new Arena(backend);
  try {
    let ids = start;
    for (let count = 0; count < maxTokens; count++) {
      await turn();
      signal?.throwIfAborted();
      if (cache.length + ids.length > maxPositionEmbeddings) return "context";
      arena.reset();
      const graph = new Graph(backend, arena, { record: false });
      const { hidden } = decoder.forward(graph, ids, { sequences: [{ tokens: ids.length, cache }], observe });
      const width = hidden.value.dim(1);
      const last = graph.constant(hidden.value.slice((ids.length - 1) * width, [1, width]));
      const id = sampleToken(decoder.logits(graph, last).value.data, sampling, random);
      if (stopIds.includes(id)) return "stop";
      yield id;
      ids = [id];
    }
    return "length";
  } finally {
    arena.dispose();
    pool.dispose();
  }
}

/** What a finished generation was. */
export interface GeneratedText {
  readonly promptTokens: number;
  /** New ids. */
  readonly ids: readonly number[];
  readonly finishReason: FinishReason;
}

/**
 * Continues a text. Each token gives one piece, "" where it only begins a character; the pieces joined are the decoding
 * of all new ids, special tokens left out.
 * @throws as `generate`; TokenizerError for a tokenizer with more entries than the model has rows.
 */
export async function* generateText(
  backend: Backend,
  decoder: Decoder,
  tokenizer: Tokenizer,
  prompt: string,
  options: GenerateOptions,
): AsyncGenerator<string, GeneratedText> {
  if (tokenizer.vocabSize > decoder.config.vocabSize) {
    throw new TokenizerError(
      `tokenizer: it has ${tokenizer.vocabSize} entries, the model's vocabulary is ${decoder.config.vocabSize}`,
      { hint: "use the tokenizer.json that the model was trained with" },
    );
  }
  const promptIds = await tokenizer.encode(prompt);
  const { eosTokenId } = decoder.config;
  const stopIds = options.stopIds ?? [tokenizer.eosTokenId, ...(eosTokenId === null ? [] : [eosTokenId])];
  const start = promptIds.length > 0 ? promptIds : [tokenizer.eosTokenId];
  const stream = tokenizer.streamDecoder({ skipSpecialTokens: true });
  const generation = generate(backend, decoder, start, { ...options, stopIds });
  const ids: number[] = [];
  try {
    for (;;) {
      const next = await generation.next();
      if (next.done) {
        const rest = stream.flush();
        if (rest !== "") yield rest;
        return { promptTokens: start.length, ids, finishReason: next.value };
      }
      ids.push(next.value);
      yield stream.push(next.value);
    }
  } finally {
    // Gives the cache back when the caller stops early; returns at once after the end.
    await generation.return("stop");
  }
}
