/**
 * Tokenizers in GGUF's metadata, where they are lists of tokens and merges and the name of a recipe; the recipe of OLMoE's
 * is "olmo". Rows of the embedding beyond the tokenizer's entries are tokens `[PADn]`, n being the id.
 * Source: llama.cpp, conversion/base.py and gguf-py/gguf/vocab.py.
 */
import { TokenizerError } from "../errors.ts";
import { addedToken, byteLevelBpeJson } from "./bpeJson.ts";

/** GGUF's numbers for kinds of tokens. */
const KIND = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

/** What GGUF says of a tokenizer. */
export interface GgufVocabulary {
  /** By id. */
  readonly tokens: readonly string[];
  /** Kind of each token; undefined where the file has none. */
  readonly kinds: ArrayLike<number> | undefined;
  /** Pairs in order of learning, their parts joined by a space. */
  readonly merges: readonly string[];
  /** Tokens that are control tokens although their kind may not say so: end of text, padding. */
  readonly controlIds: readonly number[];
}

/**
 * The text of a tokenizer.json with the layout of OLMoE's: NFC, byte-level BPE, added tokens.
 * @param place the file, for messages.
 * @throws TokenizerError for lists of different lengths, a token that occurs twice, and a merge that is not two parts.
 */
export function tokenizerJsonFromGguf(vocabulary: GgufVocabulary, place: string): string {
  const { tokens, kinds, merges, controlIds } = vocabulary;
  if (kinds !== undefined && kinds.length !== tokens.length) {
    throw new TokenizerError(`${place}: ${kinds.length} token types, expected one for each of ${tokens.length} tokens`);
  }
  const vocab = new Map<string, number>();
  const added: object[] = [];
  const control = new Set(controlIds);
  for (const [id, token] of tokens.entries()) {
    const kind = kinds?.[id] ?? KIND.normal;
    if (kind === KIND.unused) continue;
    const other = vocab.get(token);
    if (other !== undefined) {
      throw new TokenizerError(`${place}: token ${JSON.stringify(token)} has the ids ${other} and ${id}`);
    }
    vocab.set(token, id);
    const special = kind === KIND.control || control.has(id);
    if (special || kind === KIND.userDefined) added.push(addedToken(id, token, special));
  }
  const odd = merges.find((merge) => !/^[^ ]+ [^ ]+$/.test(merge));
  if (odd !== undefined) {
    throw new TokenizerError(`${place}: merge ${JSON.stringify(odd)}, expected two parts and a space between them`);
  }
  return JSON.stringify(byteLevelBpeJson(added, Object.fromEntries(vocab), merges), null, 2);
}

/** What is read of a tokenizer.json. */
interface TokenizerJson {
  readonly normalizer?: { readonly type?: unknown } | null;
  readonly pre_tokenizer?: {
    readonly type?: unknown;
    readonly add_prefix_space?: unknown;
    readonly use_regex?: unknown;
  } | null;
  readonly model?: {
    readonly type?: unknown;
    readonly vocab?: Readonly<Record<string, unknown>>;
    readonly merges?: readonly unknown[];
    readonly byte_fallback?: unknown;
    readonly continuing_subword_prefix?: unknown;
    readonly end_of_word_suffix?: unknown;
  };
  readonly added_tokens?: readonly { readonly id: number; readonly content: string; readonly special: boolean }[];
}

/** Why a tokenizer is not one of the recipe "olmo"; undefined where it is. */
function otherRecipe({ normalizer, pre_tokenizer: pre, model }: TokenizerJson): string | undefined {
  if (model?.type !== "BPE" || typeof model.vocab !== "object" || !Array.isArray(model.merges)) {
    return `model ${String(model?.type)}, expected BPE with vocab and merges`;
  }
  if (normalizer?.type !== "NFC") return `normalizer ${String(normalizer?.type)}, expected NFC`;
  if (pre?.type !== "ByteLevel" || pre.add_prefix_space !== false || pre.use_regex === false) {
    return "another pre_tokenizer than ByteLevel without prefix space and with its regular expression";
  }
  if (model.byte_fallback === true) return "byte_fallback, which byte-level tokens do not need";
  if (model.continuing_subword_prefix || model.end_of_word_suffix) return "marks at the borders of words";
  return undefined;
}

function parseTokenizerJson(json: string, place: string): TokenizerJson {
  try {
    return (JSON.parse(json) ?? {}) as TokenizerJson;
  } catch (cause) {
    throw new TokenizerError(`${place}: not JSON`, { cause });
  }
}

/**
 * A tokenizer as GGUF has it.
 * @param json text of a tokenizer.json that has been loaded, so that its tokens are known to be sound.
 * @param rows of the embedding.
 * @param place the file, for messages.
 * @throws TokenizerError for a tokenizer that is not of OLMoE's kind, or has ids beyond the rows.
 */
export function ggufFromTokenizerJson(
  json: string,
  rows: number,
  place: string,
): { tokens: string[]; kinds: Int32Array; merges: string[] } {
  const parsed = parseTokenizerJson(json, place);
  const fault = otherRecipe(parsed);
  if (fault !== undefined) {
    throw new TokenizerError(`${place}: ${fault}: GGUF's "olmo" tokenizer is of OLMoE's kind only`);
  }
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`);
  const kinds = new Int32Array(rows).fill(KIND.unused);
  const put = (token: string, id: unknown, kind: number) => {
    if (typeof id !== "number" || !(id in tokens)) {
      const message = `token ${JSON.stringify(token)} has the id ${String(id)}, the embedding has ${rows} rows`;
      throw new TokenizerError(`${place}: ${message}`);
    }
    tokens[id] = token;
    kinds[id] = kind;
  };
  for (const [token, id] of Object.entries(parsed.model?.vocab ?? {})) put(token, id, KIND.normal);
  for (const { id, content, special } of parsed.added_tokens ?? []) {
    put(content, id, special ? KIND.control : KIND.userDefined);
  }
  const merges = (parsed.model?.merges ?? []).map((merge) => (Array.isArray(merge) ? merge.join(" ") : String(merge)));
  return { tokens, kinds, merges };
}
