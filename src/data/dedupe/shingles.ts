/**
 * Hashes of a text's shingles: all runs of five words next to each other. A word is a run of letters, marks and digits in
 * lower case; everything else separates words, so that white space and punctuation do not count. In scripts that put no
 * space between words each character is one. One pass over UTF-16 units, no strings made.
 */
import { mix32 } from "../../util/mix32.ts";

const SHINGLE_WORDS = 5;

/** Of a longer text the first so many shingles stand for it: about 25 MB of English, and 16 MiB of hashes. */
const MAX_SHINGLES = 2 ** 22;

const WORD_UNIT = /[\p{L}\p{M}\p{N}]/u;
const UNSPACED = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]/u;

const SEPARATOR = 0;
const WORD_BY_ITSELF = 1;

/** For each UTF-16 unit its lower case, or one of the two values above, which are no letters' units. */
function foldedUnits(): Uint16Array {
  return Uint16Array.from({ length: 65_536 }, (_, unit) => {
    if (unit >= 0xd800 && unit <= 0xdfff) return unit;
    const character = String.fromCharCode(unit);
    if (!WORD_UNIT.test(character)) return SEPARATOR;
    return UNSPACED.test(character) ? WORD_BY_ITSELF : character.toLowerCase().charCodeAt(0);
  });
}

const FNV_BASIS = 0x811c9dc5 | 0;
const FNV_PRIME = 0x01000193;
/** Base of the polynomial in the hashes of five words; odd, so that no word's bits are lost. */
const BASE = 0x9e3779b1 | 0;
const BASE_TO_WORDS = Array.from({ length: SHINGLE_WORDS }).reduce<number>((power) => Math.imul(power, BASE), 1);

/** A function that gives the hashes of a text's shingles, repeated ones too. They are valid until its next call. */
export function createShingler(): (text: string) => Uint32Array {
  const folded = foldedUnits();
  let hashes = new Uint32Array(4096);

  /** Keeps a hash where there is room or may be. */
  const keep = (index: number, hash: number) => {
    if (index >= MAX_SHINGLES) return;
    if (index === hashes.length) {
      const longer = new Uint32Array(2 * index);
      longer.set(hashes);
      hashes = longer;
    }
    hashes[index] = hash;
  };

  // One loop over local variables: with words ended by a function of their own it takes twice the time.
  return (text) => {
    const { length } = text;
    let first = 0;
    let second = 0;
    let third = 0;
    let fourth = 0;
    let fifth = 0;
    let rolling = 0;
    let count = 1 - SHINGLE_WORDS;
    for (let index = 0; index < length; ) {
      const unit = text.charCodeAt(index++);
      let letter = folded[unit] as number;
      if (letter === SEPARATOR) continue;
      let hash = Math.imul(FNV_BASIS ^ (letter === WORD_BY_ITSELF ? unit : letter), FNV_PRIME);
      while (letter > WORD_BY_ITSELF && index < length) {
        letter = folded[text.charCodeAt(index)] as number;
        if (letter <= WORD_BY_ITSELF) break;
        hash = Math.imul(hash ^ letter, FNV_PRIME);
        index++;
      }
      const word = mix32(hash) | 0;
      rolling = (Math.imul(rolling, BASE) + word - Math.imul(first, BASE_TO_WORDS)) | 0;
      first = second;
      second = third;
      third = fourth;
      fourth = fifth;
      fifth = word;
      if (count >= 0) keep(count, rolling);
      count++;
    }
    return hashes.subarray(0, Math.min(MAX_SHINGLES, Math.max(0, count)));
  };
}
