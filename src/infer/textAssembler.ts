/** Tokens to text, one at a time: what can be shown, which tokens begin in it, and where a stop string ends it. */
import type { StreamDecoder, Tokenizer } from "../tokenizer/tokenizer.ts";
import type { GeneratedToken, TokenLogprob, TokenLogprobs } from "./engine.ts";
import type { TokenRouting } from "./routes.ts";
import { StopStrings } from "./stopStrings.ts";

/** A token that could have been, with its text. */
export interface TokenChoice extends TokenLogprob {
  readonly text: string;
}

/** One token of a prompt or of generated text. */
export interface TextToken {
  readonly id: number;
  /** The token alone; part of a character is written as `<0xE4>`. */
  readonly text: string;
  /** Where its bytes begin among those of all tokens: in the text's UTF-8, as long as that is valid. */
  readonly byteOffset: number;
  /** Natural logarithm of its probability before temperature and filters; where it was asked for. */
  readonly logprob?: number | undefined;
  /** The most likely tokens in this place, best first; where they were asked for. */
  readonly top?: readonly TokenChoice[] | undefined;
  /** The experts of its pass; where they were asked for. */
  readonly routing?: TokenRouting | undefined;
}

/** Text that can be shown, and the tokens that begin in it. */
export interface TextPiece {
  /** "" where the tokens add no text. */
  readonly text: string;
  readonly tokens: readonly TextToken[];
}

/** A token with its text. */
export function describeToken(
  tokenizer: Tokenizer,
  id: number,
  byteOffset: number,
  logprobs?: TokenLogprobs,
  routing?: TokenRouting,
): TextToken {
  return {
    id,
    text: tokenizer.tokenText(id),
    byteOffset,
    ...(logprobs === undefined
      ? {}
      : {
          logprob: logprobs.logprob,
          top: logprobs.top.map((choice) => ({ ...choice, text: tokenizer.tokenText(choice.id) })),
        }),
    ...(routing === undefined ? {} : { routing }),
  };
}

export class TextAssembler {
  readonly #tokenizer: Tokenizer;
  readonly #stream: StreamDecoder;
  readonly #stops: StopStrings;
  /** Tokens that are not given out yet, each with the place in the text where it begins. */
  #waiting: { readonly token: TextToken; readonly start: number }[] = [];
  readonly #tokens: TextToken[] = [];
  #text = "";
  /** Characters decoded so far, those that are held back included. */
  #decoded = 0;
  #bytes = 0;
  #stop: string | null = null;
  #count = 0;

  /** @throws ConfigError for stop strings that can not be. */
  constructor(tokenizer: Tokenizer, stops: readonly string[]) {
    this.#tokenizer = tokenizer;
    this.#stream = tokenizer.streamDecoder({ skipSpecialTokens: true });
    this.#stops = new StopStrings(stops);
  }

  /** The stop string that has ended the text; null while there is none. */
  get stop(): string | null {
    return this.#stop;
  }

  /** Tokens taken. */
  get count(): number {
    return this.#count;
  }

  /** What has been given out. */
  get text(): string {
    return this.#text;
  }

  get tokens(): readonly TextToken[] {
    return this.#tokens;
  }

  /** Takes a token; gives what it releases, undefined for nothing. */
  push({ id, logprobs, routing }: GeneratedToken): TextPiece | undefined {
    const { length } = this.#tokenizer.tokenBytes(id, { skipSpecialTokens: true });
    const token = describeToken(this.#tokenizer, id, this.#bytes, logprobs, routing);
    this.#count += 1;
    this.#bytes += length;
    this.#waiting.push({ token, start: this.#decoded });
    // A token without text belongs to the text before it: it need not wait for more.
    if (length === 0 && this.#waiting.length === 1 && this.#text.length === this.#decoded) {
      return this.#release("", Number.POSITIVE_INFINITY);
    }
    return this.#take(this.#stream.push(id));
  }

  /** The end of the tokens: gives what was held back, undefined for nothing. */
  flush(): TextPiece | undefined {
    if (this.#stop !== null) return undefined;
    const piece = this.#take(this.#stream.flush());
    if (this.#stop !== null) return piece;
    const rest = this.#release(this.#stops.flush(), Number.POSITIVE_INFINITY);
    if (piece === undefined || rest === undefined) return piece ?? rest;
    return { text: piece.text + rest.text, tokens: [...piece.tokens, ...rest.tokens] };
  }

  #take(decoded: string): TextPiece | undefined {
    this.#decoded += decoded.length;
    const { text, stop } = this.#stops.push(decoded);
    if (stop !== undefined) this.#stop = stop;
    return this.#release(text, this.#text.length + text.length);
  }

  /** Gives out text, and the tokens that begin before `end`. */
  #release(text: string, end: number): TextPiece | undefined {
    const tokens = this.#waiting.filter(({ start }) => start < end).map(({ token }) => token);
    this.#waiting = this.#waiting.filter(({ start }) => start >= end);
    this.#text += text;
    this.#tokens.push(...tokens);
    return text === "" && tokens.length === 0 ? undefined : { text, tokens };
  }
}
