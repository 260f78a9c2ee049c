/** The work of continuing a prompt. */
import type { InterventionPlan } from "../nn/intervention.ts";
import { createRandom, type RandomGenerator } from "../util/random.ts";
import type { EngineStats, FinishReason, GeneratedToken, Generation, TokenLogprobs } from "./engine.ts";
import { logprobsOf } from "./logprobs.ts";
import { guessNext } from "./promptLookup.ts";
import type { CheckedRequest } from "./request.ts";
import { type RouteShape, RouteStore } from "./routes.ts";
import { drawToken, needsHistory, TokenHistory } from "./sampling.ts";
import { NO_IDS, type Row, type Work } from "./work.ts";

/** Who is told of a generation. One of `end` and `fail` is called, once, and nothing after it. */
export interface GenerationSink {
  token(token: GeneratedToken): void;
  end(generation: Generation): void;
  fail(error: unknown): void;
}

/** Counts of guessed tokens. */
export type Speculation = { -readonly [K in keyof EngineStats["speculation"]]: number };

/** Few texts are shorter. */
const FEW_TOKENS = 32;

export class GenerationWork implements Work {
  readonly wants = "logits";
  readonly sharesPages = true;
  readonly interventions: InterventionPlan | undefined;
  readonly #request: CheckedRequest;
  readonly #context: number;
  readonly #sink: GenerationSink;
  readonly #speculation: Speculation;
  readonly #random: RandomGenerator;
  readonly #history: TokenHistory | undefined;
  readonly routes: RouteStore | undefined;
  readonly #stopIds: ReadonlySet<number>;
  /** Prompt and text, with room for the rest. */
  readonly #known: Int32Array;
  #length: number;
  readonly #promptLogprobs: TokenLogprobs[] = [];
  #cachedTokens = 0;
  /** Where the pass checks its first guess. */
  #guessedFrom = Infinity;
  #done = false;

  /**
   * @param context tokens the model holds: text may be one longer, which is never read.
   * @param speculation is added to.
   * @param shape of the routing, where it is wanted.
   */
  constructor(
    request: CheckedRequest,
    context: number,
    sink: GenerationSink,
    speculation: Speculation,
    shape?: RouteShape,
    interventions?: InterventionPlan,
  ) {
    const { prompt, maxTokens, sampling, seed, stopIds, routing } = request;
    const wholePrompt = typeof routing === "object" && routing.prompt === true;
    const from = wholePrompt ? 0 : prompt.length - 1;
    this.routes = shape && new RouteStore(shape, from, prompt.length - from + FEW_TOKENS);
    this.#request = request;
    this.#context = context;
    this.#sink = sink;
    this.#speculation = speculation;
    this.interventions = interventions;
    this.#random = createRandom(seed, "generate");
    this.#history = needsHistory(sampling) ? new TokenHistory(prompt) : undefined;
    this.#stopIds = new Set(stopIds);
    this.#known = new Int32Array(Math.min(context + 1, prompt.length + maxTokens));
    this.#known.set(prompt);
    this.#length = prompt.length;
    if (maxTokens === 0 && this.#unscored === 0) this.#end("length");
  }

  /** Most tokens that it can come to read. */
  get mostTokens(): number {
    return Math.min(this.#context, this.#request.prompt.length + Math.max(0, this.#request.maxTokens - 1));
  }

  /** Prompt tokens whose log-probabilities are still to come. */
  get #unscored(): number {
    const { prompt, promptLogprobs } = this.#request;
    return promptLogprobs === undefined ? 0 : prompt.length - 1 - this.#promptLogprobs.length;
  }

  get ids(): Int32Array {
    // Where only the prompt is scored, nothing is read off its last token.
    return this.#known.subarray(0, this.#request.maxTokens === 0 ? this.#length - 1 : this.#length);
  }

  get firstRow(): number {
    return this.#unscored > 0 ? this.#promptLogprobs.length : this.#length - 1;
  }

  get done(): boolean {
    return this.#done;
  }

  reused(tokens: number): void {
    this.#cachedTokens += tokens;
  }

  guesses(most: number): Int32Array {
    const { speculate = 0, prompt, maxTokens } = this.#request;
    const known = this.#known.subarray(0, this.#length);
    const room = Math.min(prompt.length + maxTokens, this.#context) - this.#length - 1;
    const wanted = Math.min(speculate, most, room);
    const guesses = wanted > 0 ? guessNext(known, wanted) : NO_IDS;
    this.#guessedFrom = this.#length;
    this.#speculation.proposed += guesses.length;
    return guesses;
  }

  scored(position: number): number | undefined {
    const isPrompt = this.#request.promptLogprobs !== undefined && position < this.#request.prompt.length - 1;
    return isPrompt ? this.#known[position + 1] : undefined;
  }

  take(row: Row): void {
    const { position } = row;
    if (this.#done || position >= this.#length || this.#known[position] !== row.id) return;
    const { promptLogprobs, maxTokens } = this.#request;
    if (position < this.#length - 1) {
      const next = this.#known[position + 1] as number;
      if (promptLogprobs !== undefined && position === this.#promptLogprobs.length) {
        this.#promptLogprobs.push(logprobsOf(row, next, promptLogprobs));
      }
      if (maxTokens === 0 && this.#unscored === 0) this.#end("length");
      return;
    }
    if (position >= this.#guessedFrom) this.#speculation.accepted += 1;
    this.#extend(row);
  }

  fail(error: unknown): void {
    if (this.#done) return;
    this.#done = true;
    this.#sink.fail(error);
  }

  /** Draws the token after the last one. */
  #extend(row: Row): void {
    const { sampling, maxTokens, logprobs, prompt } = this.#request;
    const id = drawToken(row.logits, sampling, this.#random, this.#history);
    if (this.#stopIds.has(id)) {
      this.#end("stop");
      return;
    }
    const routing = this.#routingAt(row.position);
    this.#known[this.#length++] = id;
    this.#history?.add(id);
    this.#sink.token({
      id,
      ...(logprobs === undefined ? {} : { logprobs: logprobsOf(row, id, logprobs) }),
      ...routing,
    });
    if (this.#length === prompt.length + maxTokens) this.#end("length");
    else if (this.#length > this.#context) this.#end("context");
  }

  /** Of the position that a new token comes from; with the first one, of all before it. */
  #routingAt(position: number): Pick<GeneratedToken, "routing" | "promptRouting"> {
    const { routes } = this;
    if (routes === undefined) return {};
    const routing = routes.token(position);
    const first = position === this.#request.prompt.length - 1 && routes.from < position;
    return first ? { routing, promptRouting: routes.tokens(routes.from, position) } : { routing };
  }

  #end(finishReason: FinishReason): void {
    this.#done = true;
    const { prompt, promptLogprobs } = this.#request;
    this.#sink.end({
      promptTokens: prompt.length,
      cachedTokens: this.#cachedTokens,
      ids: Array.from(this.#known.subarray(prompt.length, this.#length)),
      finishReason,
      ...(promptLogprobs === undefined ? {} : { promptLogprobs: this.#promptLogprobs }),
    });
  }
}
