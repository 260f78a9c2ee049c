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
  try {
    return strict.decode(bytes);
  } catch {
    return Array.from(bytes, (byte) =>
      byte >= 0x20 && byte < 0x7f
        ? String.fromCharCode(byte)
        : `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
    ).join("");
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
