/**
 * Tokens as text that can be drawn anywhere: what has no picture of its own, or would move or turn the text around it, is
 * shown as a symbol or by its name.
 */
import { tokenBytes } from "../src/tokenizer/byteLevel.ts";

const NAMED: Readonly<Record<number, string>> = {
  9: "⇥",
  10: "↵",
  13: "⟨CR⟩",
  173: "⟨SHY⟩",
  1564: "⟨ALM⟩",
  8203: "⟨ZWSP⟩",
  8204: "⟨ZWNJ⟩",
  8205: "⟨ZWJ⟩",
  8206: "⟨LRM⟩",
  8207: "⟨RLM⟩",
  8232: "⟨LS⟩",
  8233: "⟨PS⟩",
  8234: "⟨LRE⟩",
  8235: "⟨RLE⟩",
  8236: "⟨PDF⟩",
  8237: "⟨LRO⟩",
  8238: "⟨RLO⟩",
  8288: "⟨WJ⟩",
  8294: "⟨LRI⟩",
  8295: "⟨RLI⟩",
  8296: "⟨FSI⟩",
  8297: "⟨PDI⟩",
  65279: "⟨BOM⟩",
};

/** Control and format characters, lone surrogates, private and unassigned code points, line and paragraph separators. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029]/gu;
/** More marks than this on one letter would be drawn over the lines around it. */
const MARK_HEAP = /(\p{M}{4})\p{M}+/gu;

function symbolOf(character: string): string {
  const code = character.codePointAt(0)!;
  if (NAMED[code] !== undefined) return NAMED[code];
  // There are pictures of control characters in Unicode, but few fonts have them.
  return `⟨${code
    .toString(16)
    .toUpperCase()
    .padStart(code < 256 ? 2 : 4, "0")}⟩`;
}

/** The text with everything invisible made visible. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, symbolOf).replace(MARK_HEAP, "$1…");
}

/** As `visible`, in one line of at most `most` characters, with spaces at its ends shown. */
export function label(text: string, most = 32): string {
  // A token of a million characters must not be gone through for a label.
  const cut = text.length > 4 * most ? text.slice(0, 4 * most) : text;
  const shown = visible(cut).replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length));
  const characters = Array.from(shown);
  return cut === text && characters.length <= most
    ? shown
    : `${characters
        .slice(0, most - 1)
        .join("")
        .replace(/…$/, "")}…`;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of a vocabulary entry; bytes that are no characters are written as <0xE4>, as tokenizers do. */
export function writtenText(entry: string): string {
  const bytes = tokenBytes(entry);
  const written = (byte: number) =>
    byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
  return decoded(bytes) ?? Array.from(bytes, written).join("");
}

/** What a token shows that only goes on with a character which the one before it began. */
export const CONTINUED = "‥";

/** Bytes that the first byte of a character says it has; 1 for what begins none. */
function characterBytes(first: number): number {
  if (first >= 0xf0 && first < 0xf8) return 4;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xc0 && first < 0xe0 ? 2 : 1;
}

/** Bytes that are missing to the character that the bytes end within; 0 where they end with a whole one. */
function missingBytes(bytes: readonly number[]): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return Math.max(0, characterBytes(byte) - back);
  }
  return 0;
}

/** Tokens that may hang together by characters that they share; more of them are no text. */
const MOST_TOGETHER = 64;

/**
 * Texts of neighbouring tokens as one reads them: a character whose bytes are in several tokens is shown in the one where it
 * begins, and a token in which none begins is `CONTINUED`. Bytes that make no character are written as `writtenText` does.
 */
export function flowTexts(entries: readonly string[]): string[] {
  const texts: string[] = [];
  while (texts.length < entries.length) {
    const [first, ...more] = entries.slice(texts.length, texts.length + MOST_TOGETHER) as [string, ...string[]];
    const group = [tokenBytes(first)];
    const bytes = [...group[0]!];
    for (const entry of more) {
      if (missingBytes(bytes) === 0) break;
      const next = tokenBytes(entry);
      group.push(next);
      bytes.push(...next);
    }
    const whole = group.length === 1 ? undefined : decoded(Uint8Array.from(bytes));
    if (whole === undefined) texts.push(writtenText(first));
    else texts.push(...shareOut(whole, group));
  }
  return texts;
}

/** Gives each character to the token with its first byte. */
function shareOut(text: string, group: readonly Uint8Array[]): string[] {
  const texts = group.map(() => "");
  let [token, end, place] = [0, group[0]!.length, 0];
  for (const character of text) {
    while (place >= end) end += group[++token]!.length;
    texts[token] += character;
    place += new TextEncoder().encode(character).length;
  }
  return texts.map((own) => own || CONTINUED);
}

function decoded(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** 1,234,567 in the reader's own style. */
export const count = (value: number) => value.toLocaleString();

/** 12.3 %, with fewer digits where they would say nothing. */
export function percent(share: number): string {
  if (!Number.isFinite(share)) return "–";
  const value = 100 * share;
  return `${value.toFixed(value >= 99.95 || value === 0 ? 0 : value < 0.1 ? 3 : 1)} %`;
}
