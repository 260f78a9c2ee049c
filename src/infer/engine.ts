/** What every engine gives its callers, whether it runs on their thread or in a worker. Ids in, ids out: no text here. */
import type { InterventionInput } from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import type { TraceColumn, TraceRows } from "../formats/trace.ts";
import type { RouterColumn, TokenRouting, TokensRouting } from "./routes.ts";
import type { SamplingOptions } from "./sampling.ts";

/** What is given of the routing of a generation. */
export interface RoutingOptions {
  /** Give the routing of the prompt, too, with the first token. */
  readonly prompt?: boolean | undefined;
  /** Give these of each router besides experts and weights. */
  readonly columns?: readonly RouterColumn[] | undefined;
}

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
  /** Give the experts of the pass that each new token came from, and their weights. */
  readonly routing?: boolean | RoutingOptions | undefined;
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

export interface GeneratedToken {
  readonly id: number;
  readonly logprobs?: TokenLogprobs | undefined;
  /** Of the token before it, whose pass it came from. */
  readonly routing?: TokenRouting | undefined;
  /** With the first token: of the prompt without its last token. */
  readonly promptRouting?: TokensRouting | undefined;
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
  /** Changes of the routing of this sequence, and of no other. A text that is read in windows has positions in each. */
  readonly interventions?: readonly InterventionInput[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface TraceOptions extends ScoreOptions {
  /** Arrays to give; default: ids, experts and weights. */
  readonly columns?: readonly TraceColumn[] | undefined;
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
  /** Which experts each token is sent to, and what else a trace may have of a sequence of N tokens: `logprobs` and `predicted` of position t are about token t + 1. */
  trace(ids: ArrayLike<number>, options?: TraceOptions): Promise<TraceRows>;
  stats(): Promise<EngineStats>;
  /** Ends what is running with an error and gives everything back. */
  close(): Promise<void>;
}
