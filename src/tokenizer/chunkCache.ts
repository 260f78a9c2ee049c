/**
 * Encodes a text in chunks, which are words with the white space before them, and keeps what short ones came to: words come
 * again and again, and looking one up takes a tenth of the time of encoding it. The ids are those of the whole text.
 */
import type { EncodeBatch } from "./tokenizer.ts";

/** Longer chunks seldom come again. */
const MAX_KEPT_LENGTH = 24;
/** About 150 bytes each. When there are as many, the older half goes. */
const MAX_KEPT = 2 ** 17;

// 0 is every other unit.
const SPACE = 1;
const BREAK = 2;
const LETTER = 3;
const MARK = 4;

/** By UTF-16 unit. SPACE is whatever some version of Unicode takes for white space, so that a run of it is never divided. */
const KINDS = new Uint8Array(2 ** 16);
const SPACES =
  "\t\r\x1c\x20\x85\x85\xa0\xa0\u1680\u1680\u180e\u180e\u2000\u200f\u2028\u202f\u205f\u2064\u3000\u3000\ufeff\ufeff";
const fill = (kind: number, first: string, last: string) =>
  KINDS.fill(kind, first.charCodeAt(0), last.charCodeAt(0) + 1);
for (let range = 0; range < SPACES.length; range += 2) fill(SPACE, SPACES[range]!, SPACES[range + 1]!);
for (const character of "\t\n\r ") fill(BREAK, character, character);
for (const [first, last] of ["09", "AZ", "az"]) fill(LETTER, first!, last!);
for (const character of '.,;:!?)"') fill(MARK, character, character);

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An added token that is found in a chunk alone just as in the whole text. */
function staysInChunk(token: unknown): boolean {
  if (!isRecord(token) || typeof token.content !== "string") return false;
  const { content, rstrip, single_word: singleWord } = token;
  return rstrip !== true && singleWord !== true && !/\S\s|[A-Za-z0-9][.,;:!?)"]/.test(content);
}

/**
 * Whether chunks alone have the ids that they have in their text. So it is with GPT-2's pre-tokenizer, no word of which has
 * white space after something else or a mark after a letter, and with NFC, which composes neither with what is before them.
 * @param json a tokenizer.json, parsed.
 */
export function isChunkable(json: unknown): boolean {
  if (!isRecord(json) || !isRecord(json.pre_tokenizer) || !isRecord(json.model)) return false;
  const { normalizer, pre_tokenizer: words, model, added_tokens: added = [] } = json;
  const isNormal = normalizer == null || (isRecord(normalizer) && normalizer.type === "NFC");
  const isGpt2 = words.type === "ByteLevel" && words.add_prefix_space === false && words.use_regex !== false;
  const isCertain = model.type === "BPE" && model.dropout == null;
  return isNormal && isGpt2 && isCertain && Array.isArray(added) && added.every(staysInChunk);
}

/** What a chunk comes to; ids are there once it has been encoded. */
interface Chunk {
  ids: ArrayLike<number>;
}

const UNKNOWN: ArrayLike<number> = [];

/** Where the chunk that begins at `start` ends: before white space, and between a letter and a mark. */
function chunkEnd(text: string, start: number): number {
  let before = SPACE;
  for (let index = start; index < text.length; index++) {
    const kind = KINDS[text.charCodeAt(index)]!;
    if (kind === BREAK ? before !== SPACE && before !== BREAK : kind === MARK && before === LETTER) return index;
    before = kind;
  }
  return text.length;
}

/** A string of its own: a part of another one keeps the whole of it in memory. */
function copyOf(text: string): string {
  return Buffer.from(text, "utf16le").toString("utf16le");
}

function concat(chunks: readonly Chunk[]): Int32Array {
  const ids = new Int32Array(chunks.reduce((sum, chunk) => sum + chunk.ids.length, 0));
  let place = 0;
  for (const chunk of chunks) {
    for (let index = 0; index < chunk.ids.length; index++) ids[place++] = chunk.ids[index] as number;
  }
  return ids;
}

/** @param encode encodes whole texts; see isChunkable. */
export function cachedEncoder(encode: EncodeBatch): (texts: readonly string[]) => Promise<Int32Array[]> {
  let kept = new Map<string, Chunk>();
  let older = new Map<string, Chunk>();
  const keep = (text: string, chunk: Chunk) => {
    if (kept.size >= MAX_KEPT / 2) {
      older = kept;
      kept = new Map();
    }
    kept.set(text, chunk);
  };

  return async (texts) => {
    const missing: { readonly text: string; readonly chunk: Chunk }[] = [];
    const found = new Map<string, Chunk>();
    const short = (text: string): Chunk => {
      const known = kept.get(text);
      if (known !== undefined) return known;
      const old = older.get(text);
      if (old !== undefined) {
        keep(copyOf(text), old);
        return old;
      }
      let chunk = found.get(text);
      if (chunk === undefined) {
        chunk = { ids: UNKNOWN };
        found.set(text, chunk);
        missing.push({ text, chunk });
      }
      return chunk;
    };
    const parts = texts.map((text) => {
      const chunks: Chunk[] = [];
      for (let start = 0; start < text.length; ) {
        let end = chunkEnd(text, start);
        if (end - start <= MAX_KEPT_LENGTH) {
          chunks.push(short(text.slice(start, end)));
        } else {
          // Long ones that follow each other are encoded together.
          for (let next = end; next < text.length && next - end > MAX_KEPT_LENGTH; ) {
            end = next;
            next = chunkEnd(text, end);
          }
          const chunk = { ids: UNKNOWN };
          chunks.push(chunk);
          missing.push({ text: text.slice(start, end), chunk });
        }
        start = end;
      }
      return chunks;
    });
    if (missing.length > 0) {
      const encoded = await encode(missing.map(({ text }) => text));
      for (const [index, { chunk }] of missing.entries()) chunk.ids = encoded[index]!;
      for (const [text, chunk] of found) keep(copyOf(text), chunk);
    }
    return parts.map(concat);
  };
}
