/** What kind of character a UTF-16 unit is, as bits in a table. */
import { stripWhitespace } from "../document.ts";

/** White space as Python's str.split() has it: U+001C to U+001F and U+0085 are, U+FEFF is not. */
export const SPACE = 1;
export const LETTER = 2;
/** "0" to "9". */
export const DIGIT = 4;
export const AT = 8;
/** "#" and U+2026, the one-character ellipsis. */
export const SYMBOL = 16;
/** "." */
export const DOT = 32;
/** Half of a surrogate pair. */
export const SURROGATE = 64;

/** Bits from here on are a unit in lower case; none where it is neither letter nor number, such as punctuation. */
export const NORMAL_SHIFT = 8;

const UNITS = 65_536;

let table: Int32Array | undefined;

function kindOf(unit: number): number {
  const character = String.fromCharCode(unit);
  if (stripWhitespace(character) === "") return SPACE;
  if (character >= "0" && character <= "9") return DIGIT;
  if (unit >= 0xd800 && unit <= 0xdfff) return SURROGATE;
  if (character === "@") return AT;
  if (character === "#" || character === "\u2026") return SYMBOL;
  if (character === ".") return DOT;
  return /\p{L}/u.test(character) ? LETTER : 0;
}

function normalOf(unit: number): number {
  const character = String.fromCharCode(unit);
  if (unit >= 0xd800 && unit <= 0xdfff) return unit;
  return /[\p{L}\p{M}\p{N}]/u.test(character) ? character.toLowerCase().charCodeAt(0) : 0;
}

/** Of every UTF-16 unit: its kind, and above it what it is in lower case. Made when first asked for. */
export function characterTable(): Int32Array {
  table ??= Int32Array.from({ length: UNITS }, (_, unit) => kindOf(unit) | (normalOf(unit) << NORMAL_SHIFT));
  return table;
}

/** Characters (code points) of a text; half a surrogate pair alone counts as one. */
export function countCharacters(text: string, start = 0, end = text.length): number {
  let count = end - start;
  for (let index = start + 1; index < end; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0xdc00 || unit > 0xdfff) continue;
    const before = text.charCodeAt(index - 1);
    if (before >= 0xd800 && before <= 0xdbff) count -= 1;
  }
  return count;
}
