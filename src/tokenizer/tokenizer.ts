/**
 * Byte-level BPE over a Hugging Face tokenizer.json. This file holds the vocabulary and decoding, which need no native
 * code; encoding is passed in (tokenizer/io.ts binds it to the `tokenizers` package).
 */
import { TokenizerError } from "../errors.ts";
import { tokenBytes } from "./byteLevel.ts";

/** Token that closes every document. */
export const EOS_TOKEN = "<|endoftext|>";
/** Tokens that fill unused places, by preference. */
const PAD_TOKENS = ["<|padding|>", "<|pad|>"];
/** Ids at or above this are taken for damage. */
const MAX_TOKENS = 2 ** 24;

/** Encodes each text to ids, without adding special tokens. */
export type EncodeBatch = (texts: readonly string[]) => Promise<ArrayLike<number>[]>;

export interface DecodeOptions {
  /** Leave out tokens marked special, such as the end of a document. */
  readonly skipSpecialTokens?: boolean;
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

interface Vocabulary {
  readonly tokens: ReadonlyMap<number, string>;
  readonly special: ReadonlySet<number>;
}

/** A loaded tokenizer; immutable. */
export class Tokenizer {
  /** One more than the highest id: the least number of embedding rows. */
  readonly vocabSize: number;
  /** Id of `<|endoftext|>`. */
  readonly eosTokenId: number;
  /** Id of `<|padding|>`, or null where the tokenizer has none. */
  readonly padTokenId: number | null;
  readonly #json: string;
  readonly #encodeBatch: EncodeBatch;
  readonly #vocabulary: Vocabulary;
  readonly #bytes = new Map<number, Uint8Array>();

  /**
   * @param json text of a tokenizer.json.
   * @param place where the text is from, for messages.
   * @throws TokenizerError for anything but a byte-level BPE with an `<|endoftext|>`.
   */
  constructor(json: string, encodeBatch: EncodeBatch, place = "tokenizer.json") {
    this.#json = json;
    this.#encodeBatch = encodeBatch;
    this.#vocabulary = parseVocabulary(json, place);
    const ids = new Map([...this.#vocabulary.tokens].map(([id, token]) => [token, id]));
    const eosTokenId = ids.get(EOS_TOKEN);
    if (eosTokenId === undefined) throw new TokenizerError(`${place}: no token ${EOS_TOKEN}, needed to end documents`);
    this.eosTokenId = eosTokenId;
    this.padTokenId = PAD_TOKENS.map((token) => ids.get(token)).find((id) => id !== undefined) ?? null;
    let highest = 0;
    for (const id of this.#vocabulary.tokens.keys()) highest = Math.max(highest, id);
    this.vocabSize = highest + 1;
  }

  /** Ids of a text; tokens written out in the text, such as `<|endoftext|>`, become their ids. */
  async encode(text: string): Promise<Int32Array> {
    const [ids] = await this.encodeBatch([text]);
    return ids as Int32Array;
  }

  /** Ids of several texts, encoded in parallel. */
  async encodeBatch(texts: readonly string[]): Promise<Int32Array[]> {
    return (await this.#encodeBatch(texts)).map((ids) => (ids instanceof Int32Array ? ids : Int32Array.from(ids)));
  }

  /**
   * Text of ids. Bytes that are not valid UTF-8 become U+FFFD; ids without a token, which a model with more rows than the
   * vocabulary can produce, become nothing.
   * @throws TokenizerError for an id that is negative or not whole.
   */
  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    const stream = this.streamDecoder(options);
    let text = "";
    for (let index = 0; index < ids.length; index++) text += stream.push(ids[index] as number);
    return text + stream.flush();
  }

  /** Decodes ids one at a time, for output while it is generated. */
  streamDecoder(options: DecodeOptions = {}): StreamDecoder {
    return new StreamDecoder((id) => this.tokenBytes(id, options));
  }

  /**
   * One token alone, for display: part of a character is written as `<0xE4>`, an id without a token as "".
   * @throws TokenizerError for an id that is negative or not whole.
   */
  tokenText(id: number): string {
    const bytes = this.#bytesOf(id);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      const show = (byte: number) =>
        byte < 0x80 ? String.fromCharCode(byte) : `<0x${byte.toString(16).toUpperCase()}>`;
      return Array.from(bytes, show).join("");
    }
  }

  /**
   * The bytes that a token adds to the text; none for an id without a token.
   * @throws TokenizerError for an id that is negative or not whole.
   */
  tokenBytes(id: number, { skipSpecialTokens = false }: DecodeOptions = {}): Uint8Array {
    return skipSpecialTokens && this.#vocabulary.special.has(id) ? NO_BYTES : this.#bytesOf(id);
  }

  /** How a token is written in the vocabulary, each byte a printable letter (GPT-2's `bytes_to_unicode`); undefined for an id without a token. */
  entry(id: number): string | undefined {
    return this.#vocabulary.tokens.get(id);
  }

  /** The tokenizer.json it was made from. */
  toJson(): string {
    return this.#json;
  }

  #bytesOf(id: number): Uint8Array {
    const known = this.#bytes.get(id);
    if (known !== undefined) return known;
    if (!Number.isInteger(id) || id < 0 || id >= 2 ** 31) {
      throw new TokenizerError(`decode: id ${id}, expected a whole number from 0 to ${this.vocabSize - 1}`);
    }
    const token = this.#vocabulary.tokens.get(id);
    if (token === undefined) return NO_BYTES;
    const bytes = tokenBytes(token);
    this.#bytes.set(id, bytes);
    return bytes;
  }
}

const NO_BYTES = new Uint8Array(0);

/**
 * Turns ids into text piece by piece. A character whose bytes are spread over tokens is held back until it is complete,
 * and the pieces joined equal `decode` of all ids.
 */
export class StreamDecoder {
  readonly #bytesOf: (id: number) => Uint8Array;
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(bytesOf: (id: number) => Uint8Array) {
    this.#bytesOf = bytesOf;
  }

  /** Text that `id` completes, often one word, or "" while a character is incomplete. */
  push(id: number): string {
    return this.#utf8.decode(this.#bytesOf(id), { stream: true });
  }

  /** What is left at the end: U+FFFD for a character that stays incomplete. The decoder can be used again. */
  flush(): string {
    return this.#utf8.decode();
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTokenId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < MAX_TOKENS;
}

/** Object.entries rather than a schema: "__proto__" is an ordinary token of a tokenizer for code. */
function parseVocabulary(json: string, place: string): Vocabulary {
  let root: unknown;
  try {
    root = JSON.parse(json);
  } catch (cause) {
    throw new TokenizerError(`${place}: not JSON`, { cause });
  }
  const model = isRecord(root) ? root.model : undefined;
  if (!isRecord(root) || !isRecord(model) || !isRecord(model.vocab)) {
    throw new TokenizerError(`${place}: not a tokenizer.json, model.vocab is missing`);
  }
  const decoder = isRecord(root.decoder) ? root.decoder.type : undefined;
  if (model.type !== "BPE" || decoder !== "ByteLevel") {
    throw new TokenizerError(
      `${place}: model ${String(model.type)} with decoder ${String(decoder)}, expected BPE with ByteLevel`,
    );
  }
  const tokens = new Map<number, string>();
  for (const [token, id] of Object.entries(model.vocab)) {
    if (!isTokenId(id)) throw new TokenizerError(`${place}: token ${JSON.stringify(token)} has id ${String(id)}`);
    tokens.set(id, token);
  }
  const special = new Set<number>();
  for (const added of Array.isArray(root.added_tokens) ? root.added_tokens : []) {
    if (!isAddedToken(added)) throw new TokenizerError(`${place}: added_tokens has an entry without id and content`);
    tokens.set(added.id, added.content);
    if (added.special) special.add(added.id);
  }
  return { tokens, special };
}

function isAddedToken(value: unknown): value is AddedToken {
  return isRecord(value) && isTokenId(value.id) && typeof value.content === "string";
}
