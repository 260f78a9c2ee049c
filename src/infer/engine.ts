/** What every engine gives its callers, whether it runs on their thread or in a worker. Ids in, ids out: no text here. */
import type { InterventionInput } from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import type { SamplingOptions } from "./sampling.ts";

export interface GenerationRequest {
  /** Ids to continue, at least one. */
  readonly prompt: ArrayLike<number>;
  /** Most new tokens. */
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  /** The same seed gives the same tokens, whatever else the engine is doing. */
  readonly seed: number;
  /** Ids that end the generation and are not part of it. */
  readonly stopIds: readonly number[];
  /** Give each new token's log-probability, and those of this many of the best tokens in its place. */
  readonly logprobs?: number | undefined;
  /** The same for each prompt token after the first. */
  readonly promptLogprobs?: number | undefined;
  /** Give the experts that each new token's pass chose, and their weights. */
  readonly routing?: boolean | undefined;
  /** Guess this many tokens at a time from the text so far (prompt lookup); only where sampling is greedy. */
  readonly speculate?: number | undefined;
  /** Changes of the routing of this sequence, and of no other. */
  readonly interventions?: readonly InterventionInput[] | undefined;
  /** Ends the generation within a token; the iterator then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface TokenLogprob {
  readonly id: number;
  /** Natural logarithm of its probability before temperature and filters. */
  readonly logprob: number;
}

export interface TokenLogprobs extends TokenLogprob {
  /** The best tokens in this place, best first. */
  readonly top: readonly TokenLogprob[];
}

/** The experts of one token's pass. */
export interface TokenRouting {
  /**
   * [layers with experts * S], layer after layer, the most probable expert first. S is K, or the most that the sequence's
   * interventions can give a token; -1 in a slot without an expert.
   */
  readonly experts: Int32Array;
  /** [layers with experts * S] */
  readonly weights: Float32Array;
}

export interface GeneratedToken {
  readonly id: number;
  readonly logprobs?: TokenLogprobs | undefined;
  readonly routing?: TokenRouting | undefined;
}

/** Why a generation ended: a stop id, `maxTokens`, or the end of the model's context. */
export type FinishReason = "stop" | "length" | "context";

export interface Generation {
  readonly promptTokens: number;
  /** Prompt tokens whose keys and values were still there from an earlier request. */
  readonly cachedTokens: number;
  readonly ids: readonly number[];
  readonly finishReason: FinishReason;
  readonly promptLogprobs?: readonly TokenLogprobs[] | undefined;
}

export interface ScoreOptions {
  /** Changes of the routing of this sequence, and of no other. */
  readonly interventions?: readonly InterventionInput[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  /** Pages of the key/value cache: in use by sequences, kept for their prefix, in all. */
  readonly pages: { readonly used: number; readonly kept: number; readonly total: number };
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly generatedTokens: number;
  /** Tokens that were guessed from the text (`speculate`), and those of them that were right. */
  readonly speculation: { readonly proposed: number; readonly accepted: number };
}

export interface Engine {
  readonly config: ModelConfig;
  /** Tokens as they come, then what the generation was. Ending the iteration early aborts it. */
  generate(request: GenerationRequest): AsyncGenerator<GeneratedToken, Generation>;
  /** [N - 1]: log p(ids[t + 1] | ids[0..t]). */
  logprobs(ids: ArrayLike<number>, options?: ScoreOptions): Promise<Float32Array>;
  /** [N, V], row after row. */
  logits(ids: ArrayLike<number>, options?: ScoreOptions): Promise<Float32Array>;
  /** [D]: the mean over the tokens of the hidden state after the last norm. */
  embed(ids: ArrayLike<number>, options?: ScoreOptions): Promise<Float32Array>;
  stats(): Promise<EngineStats>;
  /** Ends what is running with an error and gives everything back. */
  close(): Promise<void>;
}
