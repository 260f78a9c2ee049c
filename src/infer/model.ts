/**
 * A language model opened for use: text in, text and numbers out. How it is opened differs between Node (model.io.ts) and a
 * page (browser.ts); everything else is the same.
 */
import type { BackendName, InstructionSet } from "../backend/backend.ts";
import type { ModelConfig } from "../config/model.ts";
import { type OlmoeError, ResourceError, TokenizerError } from "../errors.ts";
import type { TraceRows } from "../formats/trace.ts";
import type { ParameterCounts } from "../model/counts.ts";
import type { StorageType } from "../tensor/stored.ts";
import { type ChatMessage, type ChatTemplate, requireChatTemplate } from "../tokenizer/chatTemplate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Engine, EngineStats, ScoreOptions, TraceOptions } from "./engine.ts";
import { type Perplexity, textPerplexity, type WindowOptions, windowedLogprobs } from "./perplexity.ts";
import { generateTexts, TextGeneration, type TextOptions } from "./textGeneration.ts";

/** What an opened model is. */
export interface ModelInfo {
  /** The file or folder it was opened from. */
  readonly path: string;
  readonly config: ModelConfig;
  readonly parameters: ParameterCounts;
  /** Most tokens of a prompt and its continuation. */
  readonly context: number;
  /** Entries of the tokenizer. */
  readonly vocabSize: number;
  /** Whether it has a chat template. */
  readonly chat: boolean;
  /** How many tensors are stored as each type, counted by Hugging Face's names of one tensor per expert. */
  readonly types: Readonly<Partial<Record<StorageType, number>>>;
  readonly backend: { readonly name: BackendName; readonly isa: InstructionSet; readonly threads: number };
}

/** What opening a model is busy with. */
export type OpenProgress =
  | { readonly stage: "backend" | "weights" | "tokenizer" }
  | { readonly stage: "download"; readonly file: string; readonly bytes: number; readonly of: number };

/** What a model is made of. */
export interface ModelParts {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate?: ChatTemplate | undefined;
  readonly path: string;
  readonly parameters: ParameterCounts;
  readonly types: ModelInfo["types"];
  readonly backend: ModelInfo["backend"];
}

/** How likely a model finds a text. */
export interface TextScore {
  /** Ids of the text. */
  readonly ids: Int32Array;
  /** [ids.length]: natural logarithm of each token's probability given the text before it; of the first as the start of a document. */
  readonly logprobs: Float32Array;
  /** Their sum. */
  readonly logprob: number;
  /** Of the text in UTF-8. */
  readonly bytes: number;
  /** -logprob in bits, over the bytes; 0 for an empty text. */
  readonly bitsPerByte: number;
}

/** Texts that are in the engine at once, so that it computes them together. */
const TEXTS_AT_ONCE = 8;

export class LanguageModel implements AsyncDisposable {
  readonly info: ModelInfo;
  readonly tokenizer: Tokenizer;
  readonly #parts: ModelParts;
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;

  /** @throws TokenizerError for a tokenizer with more entries than the model has rows. */
  constructor(parts: ModelParts) {
    const { tokenizer, engine, path, parameters, types, backend, chatTemplate } = parts;
    const { config } = engine;
    if (tokenizer.vocabSize > config.vocabSize) {
      throw new TokenizerError(
        `tokenizer: it has ${tokenizer.vocabSize} entries, the model's vocabulary is ${config.vocabSize}`,
        { hint: "use the tokenizer.json that the model was trained with" },
      );
    }
    this.tokenizer = tokenizer;
    this.#parts = parts;
    this.info = {
      path,
      config,
      parameters,
      context: config.maxPositionEmbeddings,
      vocabSize: tokenizer.vocabSize,
      chat: chatTemplate !== undefined,
      types,
      backend,
    };
  }

  /**
   * Continues a text. Nothing is computed before the generation is iterated over or its `result` is awaited.
   *
   * @param prompt text, or ids; an empty one is the start of a document.
   * @returns pieces of text as they come, and `result`. Both throw ShapeError for a prompt longer than the context and the
   *   signal's reason when it is aborted.
   * @throws ConfigError listing every fault of the options; ResourceError when the model is closed.
   * @example
   * const generation = model.generate("Call me", { maxTokens: 40, stop: "\n\n", seed: 7 });
   * for await (const piece of generation) process.stdout.write(piece);
   * const { finishReason, newTokens, tokensPerSec } = await generation.result;
   */
  generate(prompt: string | ArrayLike<number>, options: TextOptions = {}): TextGeneration {
    return new TextGeneration(this.#parts, prompt, this.#withClosing(options));
  }

  /**
   * Several continuations of one text, number i with seed + i; the prompt is computed once.
   * @throws as `generate`.
   * @example
   * const texts = await Promise.all(model.generateTexts("Call me", { n: 3 }).map(({ result }) => result));
   */
  generateTexts(prompt: string | ArrayLike<number>, options: TextOptions & { readonly n: number }): TextGeneration[] {
    return generateTexts(this.#parts, prompt, this.#withClosing(options));
  }

  /**
   * Answers a conversation, laid out by the model's chat template. What the engine has read of earlier turns it does not
   * read again.
   *
   * @throws TokenizerError for a model without a chat template, or a conversation that the template refuses; else as
   *   `generate`.
   * @example
   * const answer = model.chat([{ role: "user", content: "Name three rivers." }], { maxTokens: 200 });
   * for await (const piece of answer) process.stdout.write(piece);
   */
  chat(messages: readonly ChatMessage[], options: TextOptions = {}): TextGeneration {
    return this.generate(this.chatPrompt(messages), options);
  }

  /**
   * The prompt of a conversation, up to where the answer begins.
   * @throws TokenizerError as `chat` does.
   */
  chatPrompt(messages: readonly ChatMessage[]): string {
    return requireChatTemplate(this.#parts.chatTemplate, this.info.path).render(messages);
  }

  /**
   * How likely the model finds each text. One that is longer than the context is read in windows that overlap by half.
   * @throws ResourceError when the model is closed; the signal's reason when it is aborted.
   * @example
   * const [likely, unlikely] = await model.score(["The cat sat down.", "The cat sat cloud."]);
   * console.log(likely.bitsPerByte < unlikely.bitsPerByte);
   */
  async score(texts: readonly string[], options: ScoreOptions = {}): Promise<TextScore[]> {
    const bound = this.#withClosing(options);
    const { engine, tokenizer } = this.#parts;
    return atOnce(texts, TEXTS_AT_ONCE, async (text) => {
      const ids = await tokenizer.encode(text);
      const logprobs = await windowedLogprobs(engine, [tokenizer.eosTokenId, ...ids], bound);
      const logprob = logprobs.reduce((sum, value) => sum + value, 0);
      const bytes = new TextEncoder().encode(text).length;
      return { ids, logprobs, logprob, bytes, bitsPerByte: bytes === 0 ? 0 : -logprob / Math.LN2 / bytes };
    });
  }

  /**
   * How well the model predicts a text of any length, in windows (see `WindowOptions`).
   * @throws DataError for an empty text; ConfigError for windows that can not be; else as `score`.
   * @example
   * const { perToken, bitsPerByte } = await model.perplexity(text, { context: 1024, stride: 512 });
   */
  async perplexity(text: string, options: WindowOptions = {}): Promise<Perplexity> {
    return textPerplexity(this.#parts, text, this.#withClosing(options));
  }

  /**
   * Logits after each of some ids.
   * @returns [N, V], row after row: row t is about the token after ids[0..t].
   * @throws ShapeError for more ids than the context or one outside the vocabulary; else as `score`.
   * @example
   * const ids = await model.tokenize("The capital of France is");
   * const logits = await model.logits(ids);
   * const next = logits.subarray((ids.length - 1) * model.info.config.vocabSize);
   */
  async logits(ids: ArrayLike<number>, options: ScoreOptions = {}): Promise<Float32Array> {
    return this.#parts.engine.logits(ids, this.#withClosing(options));
  }

  /**
   * How likely the model finds each of some ids after the first, given those before it.
   * @returns [N - 1]: natural logarithms of their probabilities.
   * @throws as `logits`.
   * @example
   * const logprobs = await model.logprobs(ids, { interventions: [{ kind: "mask", layers: [3], experts: [17] }] });
   */
  async logprobs(ids: ArrayLike<number>, options: ScoreOptions = {}): Promise<Float32Array> {
    return this.#parts.engine.logprobs(ids, this.#withClosing(options));
  }

  /**
   * Which experts each token is sent to, in every layer, with which weights.
   * @param ids at most as many as the context; a text that is to be read as a document begins with the end-of-text token.
   * @returns arrays as a trace has them: `TraceWriter.add` takes them as they are.
   * @throws ConfigError for a column that there is not; ShapeError for no ids; else as `logits`.
   * @example
   * const { experts, weights } = await model.trace(await model.tokenize("Call me Ishmael."));
   */
  async trace(ids: ArrayLike<number>, options: TraceOptions = {}): Promise<TraceRows> {
    return this.#parts.engine.trace(ids, this.#withClosing(options));
  }

  /**
   * A vector [D] for each text: the mean over its tokens of the hidden state after the last norm.
   * @throws as `logits`.
   * @example
   * const [a, b] = await model.embed(["a river", "a stream"]);
   */
  async embed(texts: readonly string[], options: ScoreOptions = {}): Promise<Float32Array[]> {
    const bound = this.#withClosing(options);
    const { engine, tokenizer } = this.#parts;
    return atOnce(texts, TEXTS_AT_ONCE, async (text) => {
      const ids = await tokenizer.encode(text);
      return engine.embed(ids.length > 0 ? ids : [tokenizer.eosTokenId], bound);
    });
  }

  /**
   * Ids of a text; tokens written out in it, such as `<|endoftext|>`, become their ids.
   * @example
   * const ids = await model.tokenize("Call me"); // Int32Array
   */
  tokenize(text: string): Promise<Int32Array> {
    return this.tokenizer.encode(text);
  }

  /**
   * Text of ids, special tokens included. @throws TokenizerError for an id that is negative or not whole.
   * @example
   * model.detokenize(await model.tokenize("Call me")) === "Call me";
   */
  detokenize(ids: ArrayLike<number>): string {
    return this.tokenizer.decode(ids);
  }

  /** What the engine holds and has done, for all who share it. */
  stats(): Promise<EngineStats> {
    return this.#parts.engine.stats();
  }

  /** Ends what is running and gives back what opening took. Does nothing the second time. */
  close(): Promise<void> {
    this.#closing.abort(closedError());
    this.#closed ??= this.#parts.engine.close();
    return this.#closed;
  }

  /** `await using model = await OlmoeModel.open(...)` closes it at the end of the block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Ends with the caller's signal or with the model. */
  #withClosing<Options extends ScoreOptions>(options: Options): Options & { readonly signal: AbortSignal } {
    const closing = this.#closing.signal;
    if (closing.aborted) throw closedError();
    return { ...options, signal: options.signal === undefined ? closing : AbortSignal.any([options.signal, closing]) };
  }
}

function closedError(): OlmoeError {
  return new ResourceError("model: it is closed", { hint: "open it again: OlmoeModel.open(path)" });
}

/** Results in the items' order, of at most `width` pieces of work at a time; the first failure ends it. */
async function atOnce<Item, Result>(
  items: readonly Item[],
  width: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = new Array(items.length);
  let next = 0;
  let failed = false;
  const lane = async () => {
    while (next < items.length && !failed) {
      const index = next++;
      try {
        results[index] = await work(items[index] as Item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return results;
}
