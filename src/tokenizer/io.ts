/** Loads and trains tokenizers with Hugging Face's `tokenizers` (native). */
import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import { byteLevelPreTokenizer, Tokenizer as NativeTokenizer, nfcNormalizer } from "tokenizers";
import { TokenizerError } from "../errors.ts";
import { bpeTokenizerJson, trainBpe } from "./bpeTrainer.ts";
import { cachedEncoder, isChunkable } from "./chunkCache.ts";
import { type EncodeBatch, EOS_TOKEN, Tokenizer } from "./tokenizer.ts";

/** A tokenizer.json beyond this is taken for damage; the largest known ones are a tenth of it. */
const MAX_JSON_BYTES = 256 * 2 ** 20;

/**
 * Makes a tokenizer from the text of a tokenizer.json.
 * @param place where the text is from, for messages.
 * @throws TokenizerError for anything but a byte-level BPE.
 */
export function tokenizerFromJson(json: string, place = "tokenizer.json"): Tokenizer {
  let native: NativeTokenizer | undefined;
  const whole: EncodeBatch = async (texts) => {
    const encodings = await native!.encodeBatch([...texts], { addSpecialTokens: false });
    return encodings.map((encoding) => encoding.getIds());
  };
  let encode = whole;
  const tokenizer = new Tokenizer(json, (texts) => encode(texts), place);
  if (isChunkable(JSON.parse(json))) encode = cachedEncoder(whole);
  try {
    native = NativeTokenizer.fromString(json);
    native.disableTruncation();
    native.disablePadding();
  } catch (cause) {
    throw new TokenizerError(`${place}: not a tokenizer.json, ${(cause as Error).message}`, { cause });
  }
  return tokenizer;
}

/**
 * Loads a tokenizer.
 * @param location a tokenizer.json, or a folder with one, such as a checkpoint.
 * @throws TokenizerError if it is missing, unreadable or not a byte-level BPE.
 */
export async function loadTokenizer(location: string): Promise<Tokenizer> {
  let file = location;
  try {
    let status = await stat(file);
    if (status.isDirectory()) {
      file = path.join(location, "tokenizer.json");
      status = await stat(file);
    }
    if (status.size > MAX_JSON_BYTES) {
      throw new TokenizerError(`${file}: ${status.size} bytes, a tokenizer.json has at most ${MAX_JSON_BYTES}`);
    }
    return tokenizerFromJson(await readFile(file, "utf8"), file);
  } catch (cause) {
    if (cause instanceof TokenizerError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw new TokenizerError(`${file}: ${code === "ENOENT" ? "file does not exist" : `can not be read (${code})`}`, {
      hint: "name a tokenizer.json or a folder that holds one",
      cause,
    });
  }
}

export interface TrainTokenizerOptions {
  /** Entries of the vocabulary, special tokens and 256 bytes included. */
  readonly vocabSize: number;
  /** Get the ids from 0 in this order; must contain `<|endoftext|>`. */
  readonly specialTokens?: readonly string[];
  readonly signal?: AbortSignal;
}

/**
 * Trains a byte-level BPE laid out like OLMoE's. The same texts give the same tokenizer.json, whatever their order.
 * @param texts whole documents; no pair is learnt across two of them.
 * @throws TokenizerError if the texts are too few for `vocabSize` entries.
 */
export function trainTokenizer(texts: Iterable<string>, options: TrainTokenizerOptions): Tokenizer {
  const specialTokens = options.specialTokens ?? [EOS_TOKEN, "<|padding|>"];
  const normalizer = nfcNormalizer();
  const preTokenizer = byteLevelPreTokenizer(false, true);
  const wordCounts = new Map<string, number>();
  for (const text of texts) {
    options.signal?.throwIfAborted();
    for (const [word] of preTokenizer.preTokenizeString(normalizer.normalizeString(text))) {
      wordCounts.set(word, (wordCounts.get(word) ?? 0) + 1);
    }
  }
  const bpe = trainBpe(wordCounts, { vocabSize: options.vocabSize, specialTokens });
  return tokenizerFromJson(bpeTokenizerJson(bpe, specialTokens), "trained tokenizer");
}
