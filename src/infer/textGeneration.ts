/**
 * Text from an engine of ids: the prompt is encoded, tokens are decoded as they come, stop strings end the text across
 * token borders. Pieces never split a character, and nothing from a stop string on is ever given out.
 */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import type { InterventionInput } from "../config/intervention.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Engine, FinishReason, GeneratedToken, Generation, RoutingOptions } from "./engine.ts";
import { runOfOne, type TokensRouting } from "./routes.ts";
import { checkSampling, type SamplingOptions } from "./sampling.ts";
import { describeToken, TextAssembler, type TextPiece, type TextToken } from "./textAssembler.ts";

/** What a text generation is asked for; every option of the sampler is one of these, too. */
export interface TextOptions extends Partial<SamplingOptions> {
  /** Most new tokens; default 256. */
  readonly maxTokens?: number | undefined;
  /** Texts that end the generation and are not part of it. */
  readonly stop?: string | readonly string[] | undefined;
  /** Ids that end the generation and are not part of it; default: the end of text of tokenizer and model. */
  readonly stopIds?: readonly number[] | undefined;
  /** Of the random draws: the same seed gives the same text. Default 0. */
  readonly seed?: number | undefined;
  /** Give each token's log-probability, and those of this many of the best tokens in its place. */
  readonly logprobs?: number | undefined;
  /** The same for each token of the prompt after the first. */
  readonly promptLogprobs?: number | undefined;
  /** Give the experts of the pass that each new token came from, and their weights. */
  readonly routing?: boolean | RoutingOptions | undefined;
  /** Guess this many tokens at a time from the text so far; only at temperature 0. */
  readonly speculate?: number | undefined;
  /** Changes of the routing. */
  readonly interventions?: readonly InterventionInput[] | undefined;
  /** Ends the generation within a token; iteration and `result` then throw the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Why a text ended: a stop id or stop string, `maxTokens`, the model's context, or because the caller left the iteration. */
export type TextFinishReason = FinishReason | "cancelled";

/** A finished text. */
export interface TextResult {
  readonly text: string;
  /** Ids of `tokens`. */
  readonly ids: readonly number[];
  /** The tokens that begin in the text; of a stop string there is none. */
  readonly tokens: readonly TextToken[];
  readonly finishReason: TextFinishReason;
  /** The stop string that ended it, or null. */
  readonly stop: string | null;
  readonly promptTokens: number;
  /** Prompt tokens that the engine still held from before; null where the text ended before the engine did. */
  readonly cachedTokens: number | null;
  /** Tokens that the model has generated, those of a stop string included. */
  readonly newTokens: number;
  readonly seed: number;
  /** With `promptLogprobs`: the tokens of the prompt, the first without a log-probability. */
  readonly prompt?: readonly TextToken[] | undefined;
  /** Milliseconds from the start to the first token; null where there was none. */
  readonly firstTokenMs: number | null;
  /** Tokens after the first over their time; null where there was none. */
  readonly tokensPerSec: number | null;
}

/** Tokens and where they were sent. */
export interface RoutedTokens extends TokensRouting {
  readonly ids: Int32Array;
}

/** An engine and what goes with it. */
export interface TextSource {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
}

const DEFAULT_TEMPERATURE = 0.8;

const optionsSchema = z.strictObject({
  maxTokens: z.int().min(0).default(256),
  seed: z.int().default(0),
  stopIds: z.array(z.int().min(0)).readonly().optional(),
  logprobs: z.int().min(0).optional(),
  promptLogprobs: z.int().min(0).optional(),
  // Checked by the engine.
  routing: z.custom<TextOptions["routing"]>().optional(),
  speculate: z.int().min(0).optional(),
});

type CheckedOptions = z.output<typeof optionsSchema> & {
  readonly sampling: SamplingOptions;
  readonly stops: readonly string[];
  readonly interventions: TextOptions["interventions"];
  readonly signal: AbortSignal | undefined;
};

/** Interventions are the engine's to check. @throws ConfigError listing every fault of the sampler's options, or of the others. */
function checkOptions(options: TextOptions): CheckedOptions {
  const { maxTokens, seed, stopIds, logprobs, promptLogprobs, routing, speculate, ...others } = options;
  const { stop = [], interventions, signal, ...sampling } = others;
  const own = { maxTokens, seed, stopIds, logprobs, promptLogprobs, routing, speculate };
  return {
    ...parseConfig(optionsSchema, own, "generate"),
    sampling: checkSampling({ ...sampling, temperature: sampling.temperature ?? DEFAULT_TEMPERATURE }),
    stops: typeof stop === "string" ? [stop] : stop,
    interventions,
    signal,
  };
}

/** What a generator is left with; nobody reads it. */
const NOTHING: Generation = { promptTokens: 0, cachedTokens: 0, ids: [], finishReason: "stop" };

/** Ids that end a text where nothing else is asked for. */
function endIds({ engine, tokenizer }: TextSource): number[] {
  const { eosTokenId } = engine.config;
  return [...new Set([tokenizer.eosTokenId, ...(eosTokenId === null ? [] : [eosTokenId])])];
}

/**
 * A text that is being generated. Nothing is computed before somebody asks: iterate over it for pieces of text as they
 * come, or await `result`, before, after or instead. Leaving an iteration early cancels the generation.
 */
export class TextGeneration implements AsyncIterable<string> {
  readonly #source: TextSource;
  readonly #prompt: string | ArrayLike<number>;
  readonly #options: CheckedOptions;
  readonly #assembler: TextAssembler;
  readonly #cancelling = new AbortController();
  readonly #pieces: TextPiece[] = [];
  readonly #routed: RoutedTokens[] = [];
  /** The token that the next one comes from. */
  #last = 0;
  #promptIds: ArrayLike<number> = [];
  #generation: AsyncGenerator<GeneratedToken, Generation> | undefined;
  #prompted: readonly TextToken[] | undefined;
  #step: Promise<void> | undefined;
  #result: TextResult | undefined;
  #failure: { readonly error: unknown } | undefined;
  #started = 0;
  #firstToken: number | undefined;

  /** @throws ConfigError listing every fault of the options. */
  constructor(source: TextSource, prompt: string | ArrayLike<number>, options: TextOptions = {}) {
    this.#source = source;
    this.#prompt = prompt;
    this.#options = checkOptions(options);
    this.#assembler = new TextAssembler(source.tokenizer, this.#options.stops);
  }

  /** Pieces of text, none of them empty. @throws as the engine's `generate` does. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void> {
    for await (const { text } of this.pieces()) if (text !== "") yield text;
  }

  /** Pieces with their tokens: ids, log-probabilities and routing, where those were asked for. */
  pieces(): AsyncGenerator<TextPiece, void> {
    return this.#follow(this.#pieces);
  }

  /**
   * The routing of every token that the model reads, beside the text and as it comes; only with `routing`. First that of the
   * prompt (of its last token alone without `routing.prompt`), then new tokens one by one. The last new token is never read.
   */
  routes(): AsyncGenerator<RoutedTokens, void> {
    return this.#follow(this.#routed);
  }

  /** What there is of a list and what is added to it until the end. */
  async *#follow<Item>(items: readonly Item[]): AsyncGenerator<Item, void> {
    try {
      for (let index = 0; ; ) {
        const item = items[index];
        if (item !== undefined) {
          index += 1;
          yield item;
        } else {
          if (this.#ended()) return;
          await this.#advance();
        }
      }
    } finally {
      await this.cancel();
    }
  }

  /** The finished text; runs the generation to its end. @throws as the iteration does. */
  get result(): Promise<TextResult> {
    return this.#finish();
  }

  /** Ends the generation within a token: `result` is what there is so far. Does nothing after the end. */
  async cancel(): Promise<void> {
    this.#cancelling.abort();
    await this.#step;
    while (this.#result === undefined && this.#failure === undefined) await this.#advance();
  }

  async #finish(): Promise<TextResult> {
    while (!this.#ended()) await this.#advance();
    return this.#result as TextResult;
  }

  #ended(): boolean {
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#result !== undefined;
  }

  /** One token further; whoever else waits for one waits for the same. */
  #advance(): Promise<void> {
    this.#step ??= this.#next()
      .catch((error: unknown) => {
        // The caller's own signal is a failure to all who wait; leaving is not.
        const left = this.#cancelling.signal.aborted && this.#options.signal?.aborted !== true;
        if (left) this.#result = this.#resultOf("cancelled", null);
        else this.#failure = { error };
      })
      .finally(() => {
        this.#step = undefined;
      });
    return this.#step;
  }

  async #next(): Promise<void> {
    this.#cancelling.signal.throwIfAborted();
    this.#generation ??= await this.#start();
    const next = await this.#generation.next();
    if (next.done) {
      const { finishReason, cachedTokens } = next.value;
      this.#keep(this.#assembler.flush());
      this.#result = this.#resultOf(this.#assembler.stop === null ? finishReason : "stop", cachedTokens);
      return;
    }
    this.#firstToken ??= performance.now();
    this.#keepRoute(next.value);
    this.#keep(this.#assembler.push(next.value));
    if (this.#assembler.stop === null) return;
    this.#result = this.#resultOf("stop", null);
    this.#cancelling.abort();
    await this.#generation.return(NOTHING);
  }

  async #start(): Promise<AsyncGenerator<GeneratedToken, Generation>> {
    const { engine, tokenizer } = this.#source;
    const { signal: outer, stops: _, promptLogprobs, ...request } = this.#options;
    const { signal: left } = this.#cancelling;
    outer?.throwIfAborted();
    const signal = outer === undefined ? left : AbortSignal.any([outer, left]);
    this.#started = performance.now();
    const ids = typeof this.#prompt === "string" ? await tokenizer.encode(this.#prompt) : this.#prompt;
    const prompt = ids.length > 0 ? ids : [tokenizer.eosTokenId];
    this.#promptIds = prompt;
    this.#last = prompt[prompt.length - 1] as number;
    const common = { ...request, prompt, stopIds: request.stopIds ?? endIds(this.#source), signal };
    // Asked for on its own, because a stop string ends the generation before the engine says what it was.
    if (promptLogprobs !== undefined) {
      const { promptLogprobs: found } = await lastOf(engine.generate({ ...common, maxTokens: 0, promptLogprobs }));
      this.#prompted = describePrompt(tokenizer, prompt, found ?? []);
    }
    return engine.generate(common);
  }

  #keepRoute({ id, routing, promptRouting }: GeneratedToken): void {
    const { length } = this.#promptIds;
    if (promptRouting !== undefined) {
      const ids = Int32Array.from(this.#promptIds).subarray(0, promptRouting.tokens);
      this.#routed.push({ ids, ...promptRouting });
    }
    if (routing !== undefined) {
      this.#routed.push({ ids: Int32Array.of(this.#last), ...runOfOne(length - 1 + this.#assembler.count, routing) });
    }
    this.#last = id;
  }

  #keep(piece: TextPiece | undefined): void {
    if (piece !== undefined) this.#pieces.push(piece);
  }

  #resultOf(finishReason: TextFinishReason, cachedTokens: number | null): TextResult {
    const { text, tokens, stop, count } = this.#assembler;
    const [first, now] = [this.#firstToken, performance.now()];
    return {
      text,
      ids: tokens.map(({ id }) => id),
      tokens,
      finishReason,
      stop,
      promptTokens: this.#promptIds.length,
      cachedTokens,
      newTokens: count,
      seed: this.#options.seed,
      ...(this.#prompted === undefined ? {} : { prompt: this.#prompted }),
      firstTokenMs: first === undefined ? null : first - this.#started,
      tokensPerSec: first === undefined || count < 2 ? null : ((count - 1) * 1000) / (now - first),
    };
  }
}

/** Runs to the end. */
async function lastOf(generation: AsyncGenerator<unknown, Generation>): Promise<Generation> {
  for (;;) {
    const next = await generation.next();
    if (next.done) return next.value;
  }
}

function describePrompt(
  tokenizer: Tokenizer,
  ids: ArrayLike<number>,
  logprobs: NonNullable<Generation["promptLogprobs"]>,
): TextToken[] {
  let byteOffset = 0;
  return Array.from(ids, (id, index) => {
    const token = describeToken(tokenizer, id, byteOffset, logprobs[index - 1]);
    byteOffset += tokenizer.tokenBytes(id).length;
    return token;
  });
}

/**
 * Several texts from one prompt, number i with seed + i. The engine reads the prompt for the first of them only.
 * @throws ConfigError listing every fault of the options, or for a count that is not a whole number from 1 on.
 */
export function generateTexts(
  source: TextSource,
  prompt: string | ArrayLike<number>,
  { n, ...options }: TextOptions & { readonly n: number },
): TextGeneration[] {
  const { n: count } = parseConfig(z.strictObject({ n: z.int().min(1) }), { n }, "generate");
  const seed = options.seed ?? 0;
  return Array.from(
    { length: count },
    (_, index) => new TextGeneration(source, prompt, { ...options, seed: seed + index }),
  );
}
