/** One generation by itself: an engine for a single request, whose memory is gone with it. */

import type { Backend } from "../backend/backend.ts";
import { ConfigError } from "../errors.ts";
import type { Decoder, Observer } from "../model/decoder.ts";
import type { WeightSource } from "../model/weights.ts";
import type { FinishReason, GenerationRequest } from "./engine.ts";
import { LocalEngine } from "./localEngine.ts";
import { checkRequest } from "./request.ts";
import type { SamplingOptions } from "./sampling.ts";

export interface GenerateOptions {
  /** Most new tokens. */
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  /** Of the random draws: the same seed gives the same tokens. Default 0. */
  readonly seed?: number | undefined;
  /** Ids that end the generation and are not part of it; default: the model's end of text. */
  readonly stopIds?: readonly number[] | undefined;
  /** Changes of the routing. */
  readonly interventions?: GenerationRequest["interventions"];
  readonly signal?: AbortSignal | undefined;
  /** Sees every pass from inside: the first is over the prompt, each other over one token. */
  readonly observe?: Observer | undefined;
}

/** The ids to start from; an empty prompt is the start of a document. */
function startOf(prompt: ArrayLike<number>, { config: { eosTokenId } }: Decoder<WeightSource>): ArrayLike<number> {
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
  decoder: Decoder<WeightSource>,
  prompt: ArrayLike<number>,
  { maxTokens, sampling, seed = 0, stopIds, interventions, signal, observe }: GenerateOptions,
): AsyncGenerator<number, FinishReason> {
  const { maxPositionEmbeddings: context, eosTokenId } = decoder.config;
  const start = startOf(prompt, decoder);
  const ends = stopIds ?? (eosTokenId === null ? [] : [eosTokenId]);
  const request: GenerationRequest = { prompt: start, maxTokens, sampling, seed, stopIds: ends, interventions, signal };
  checkRequest(request, decoder.config, context);
  const cacheTokens = Math.min(context, start.length + maxTokens);
  // The whole prompt is one pass, and keys and values are as exact as in a pass without a cache.
  const options = {
    cacheTokens,
    cacheType: "f32",
    passTokens: start.length,
    sequences: 1,
    prefixCache: false,
  } as const;
  const engine = new LocalEngine(backend, decoder, options, { observe });
  const generation = engine.generate(request);
  try {
    for (;;) {
      const next = await generation.next();
      if (next.done) return next.value.finishReason;
      yield next.value.id;
    }
  } finally {
    await engine.close();
  }
}
