/**
 * Chat templates: Jinja texts that lay a conversation out as a prompt, the way a model was trained on it. They come with
 * models, from tokenizer_config.json, chat_template.jinja or GGUF's `tokenizer.chat_template`, and are rendered as
 * transformers does it (trim_blocks, lstrip_blocks). A template is a program of somebody else: its steps and its text are
 * bounded.
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { TokenizerError } from "../errors.ts";

/** One message of a conversation. */
export interface ChatMessage {
  /** "system", "user" or "assistant"; a template may know others. */
  readonly role: string;
  readonly content: string;
}

/** Tokens that a template may write, as text. */
export interface TemplateTokens {
  readonly bosToken?: string | undefined;
  readonly eosToken?: string | undefined;
}

/** A conversation of a thousand messages takes a tenth of this. */
const MAX_STEPS = 300_000;
const MAX_RANGE = 10_000;
const MAX_TEMPLATE_CHARACTERS = 2 ** 20;

/** Refuses templates that go on and on. */
class BoundedInterpreter extends Interpreter {
  #steps = 0;

  override evaluate(...step: Parameters<Interpreter["evaluate"]>): ReturnType<Interpreter["evaluate"]> {
    this.#steps += 1;
    if (this.#steps > MAX_STEPS) throw new RangeError(`more than ${MAX_STEPS} steps`);
    return super.evaluate(...step);
  }
}

/** Jinja's `range`, of bounded length. */
function range(start: number, stop?: number, step = 1): number[] {
  const [first, end] = stop === undefined ? [0, start] : [start, stop];
  const length = step === 0 ? Number.NaN : Math.max(0, Math.ceil((end - first) / step));
  if (!(length <= MAX_RANGE)) throw new RangeError(`range of ${length} numbers, at most ${MAX_RANGE} are allowed`);
  return Array.from({ length }, (_, index) => first + index * step);
}

function refuse(message: unknown): never {
  throw new Error(String(message));
}

const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range,
  raise_exception: refuse,
};

/** A parsed template; immutable. */
export class ChatTemplate {
  /** The Jinja text. */
  readonly source: string;
  readonly #place: string;
  readonly #tokens: TemplateTokens;
  readonly #program: Template["parsed"];

  /**
   * @param place where the text is from, for messages.
   * @throws TokenizerError for a text that is not a template.
   */
  constructor(source: string, tokens: TemplateTokens = {}, place = "chat template") {
    if (source.length > MAX_TEMPLATE_CHARACTERS) {
      throw new TokenizerError(
        `${place}: ${source.length} characters, a template has at most ${MAX_TEMPLATE_CHARACTERS}`,
      );
    }
    this.source = source;
    this.#place = place;
    this.#tokens = tokens;
    try {
      this.#program = new Template(source).parsed;
    } catch (cause) {
      throw new TokenizerError(`${place}: not a Jinja template, ${reason(cause)}`, { cause });
    }
  }

  /**
   * The prompt of a conversation.
   * @param options.addGenerationPrompt end with what opens the assistant's answer; default true.
   * @throws TokenizerError where the template refuses the conversation or can not be computed.
   */
  render(
    messages: readonly ChatMessage[],
    { addGenerationPrompt = true }: { readonly addGenerationPrompt?: boolean } = {},
  ): string {
    const { bosToken, eosToken } = this.#tokens;
    const environment = new Environment();
    const variables = {
      ...GLOBALS,
      messages: messages.map(({ role, content }) => ({ role, content })),
      add_generation_prompt: addGenerationPrompt,
      ...(bosToken === undefined ? {} : { bos_token: bosToken }),
      ...(eosToken === undefined ? {} : { eos_token: eosToken }),
    };
    for (const [name, value] of Object.entries(variables)) environment.set(name, value);
    try {
      return String(new BoundedInterpreter(environment).run(this.#program).value);
    } catch (cause) {
      throw new TokenizerError(`${this.#place}: ${reason(cause)}`, {
        hint: "the model's chat template does not take this conversation: change its roles or their order",
        cause,
      });
    }
  }
}

function reason(cause: unknown): string {
  return cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause);
}

/** @throws TokenizerError with what to do for a model without a template. */
export function requireChatTemplate(template: ChatTemplate | undefined, place: string): ChatTemplate {
  if (template !== undefined) return template;
  throw new TokenizerError(`${place}: the model has no chat template, a base model continues text`, {
    hint: 'use generate (olmoe run MODEL -p "TEXT"), or a model that was trained on conversations',
  });
}
