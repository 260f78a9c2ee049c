/** A conversation that stays inside a model's context: its history, and what is left out when that grows too long. */
import { ConfigError } from "../errors.ts";
import type { ChatMessage } from "../tokenizer/chatTemplate.ts";
import type { LanguageModel } from "./model.ts";
import type { TextGeneration, TextOptions } from "./textGeneration.ts";

/** An answer under way. */
export interface ChatAnswer {
  readonly generation: TextGeneration;
  /** Messages that were left out this time to make room, oldest first. */
  readonly dropped: readonly ChatMessage[];
}

/** At least this share of the context is kept for an answer, as far as `maxTokens` asks for it. */
const ANSWER_SHARE = 0.25;

type ChatModel = Pick<LanguageModel, "info" | "tokenizer" | "chatPrompt" | "generate">;

export class ChatSession {
  readonly #model: ChatModel;
  #system: string | undefined;
  #history: ChatMessage[] = [];

  /** @param system what the conversation begins with; it is never left out. */
  constructor(model: ChatModel, system?: string) {
    this.#model = model;
    this.#system = system;
  }

  /** The system message and all turns that are still remembered. */
  get messages(): readonly ChatMessage[] {
    const system = this.#system === undefined ? [] : [{ role: "system", content: this.#system }];
    return [...system, ...this.#history];
  }

  /** Changes the system message; undefined for none. */
  setSystem(text: string | undefined): void {
    this.#system = text;
  }

  /** Forgets all turns; the system message stays. */
  reset(): void {
    this.#history = [];
  }

  /** Tokens that the conversation takes as a prompt. */
  async tokens(): Promise<number> {
    if (this.messages.length === 0) return 0;
    return (await this.#model.tokenizer.encode(this.#model.chatPrompt(this.messages))).length;
  }

  /**
   * Asks for the answer to a message. The oldest turns are left out, for good, where the conversation would leave no room
   * for an answer. The caller iterates over the generation and then gives its text to `keep`, or calls `forget`.
   * @throws ConfigError for a message that is too long by itself; TokenizerError where the chat template refuses it. The
   *   conversation is then as it was.
   */
  async send(content: string, options: TextOptions = {}): Promise<ChatAnswer> {
    const before = this.#history;
    try {
      this.#history = [...before, { role: "user", content }];
      const { prompt, dropped } = await this.#fit(options.maxTokens ?? Number.POSITIVE_INFINITY);
      return { generation: this.#model.generate(prompt, options), dropped };
    } catch (error) {
      this.#history = before;
      throw error;
    }
  }

  /** Remembers the answer to the last message, also one that was stopped half-way. */
  keep(content: string): void {
    this.#history = [...this.#history, { role: "assistant", content }];
  }

  /** Forgets the last message, when its answer failed. */
  forget(): void {
    if (this.#history.at(-1)?.role === "user") this.#history = this.#history.slice(0, -1);
  }

  async #fit(maxTokens: number): Promise<{ prompt: Int32Array; dropped: readonly ChatMessage[] }> {
    const { context } = this.#model.info;
    const room = context - Math.min(maxTokens, Math.ceil(context * ANSWER_SHARE));
    const dropped: ChatMessage[] = [];
    for (;;) {
      const prompt = await this.#model.tokenizer.encode(this.#model.chatPrompt(this.messages));
      if (prompt.length <= room) return { prompt, dropped };
      // Whole turns go: a conversation begins with the user.
      const end = this.#history.findIndex(({ role }, index) => index > 0 && role === "user");
      if (end < 0) {
        if (prompt.length < context) return { prompt, dropped };
        throw new ConfigError(`chat: the message takes ${prompt.length} tokens, the model holds ${context}`, {
          hint: "shorten the message or the system message",
        });
      }
      dropped.push(...this.#history.slice(0, end));
      this.#history = this.#history.slice(end);
    }
  }
}
