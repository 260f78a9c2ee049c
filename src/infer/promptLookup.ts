/**
 * Guesses of what comes next, taken from the text itself (prompt lookup decoding): where its last few tokens have stood
 * before, what followed them then. The model checks all guesses in one pass.
 */

/** Tokens that have to agree, the longest tried first. Shorter matches are wrong more often than they are worth. */
const LONGEST = 4;
const SHORTEST = 2;

/**
 * @param ids the text so far.
 * @param most guesses wanted.
 * @returns what followed the latest earlier occurrence of the longest ending that has one; empty where there is none.
 */
export function guessNext(ids: Int32Array, most: number): Int32Array {
  const end = ids.length;
  for (let length = Math.min(LONGEST, end - 1); length >= SHORTEST && most > 0; length--) {
    const ending = end - length;
    for (let start = ending - 1; start >= 0; start--) {
      let matched = 0;
      while (matched < length && ids[start + matched] === ids[ending + matched]) matched += 1;
      if (matched === length) return ids.slice(start + length, start + length + most);
    }
  }
  return new Int32Array(0);
}
