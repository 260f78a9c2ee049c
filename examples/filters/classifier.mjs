/**
 * A filter of one's own: a classifier in the manner of fastText (Joulin et al. 2017, arXiv 1607.01759). Each word and each
 * pair of neighbouring words has a weight, found by a hash; the logistic function of their mean says how likely it is that
 * the text is of the kind the weights were trained for. In a recipe:
 *
 *   filters:
 *     - kind: module
 *       name: advertising
 *       file: classifier.mjs
 */
import { readFile } from "node:fs/promises";

/** `weights` by bucket, as an object, because most are 0; `buckets` is what hashes are taken modulo. */
const { buckets, bias, weights, threshold } = JSON.parse(
  await readFile(new URL("./classifier.json", import.meta.url), "utf8"),
);

/** FNV-1a, 32 bits. */
function bucketOf(ngram) {
  let hash = 0x811c9dc5;
  for (let index = 0; index < ngram.length; index++) hash = Math.imul(hash ^ ngram.charCodeAt(index), 0x01000193);
  return (hash >>> 0) % buckets;
}

function probability(text) {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  let sum = 0;
  let count = 0;
  words.forEach((word, index) => {
    const ngrams = index === 0 ? [word] : [word, `${words[index - 1]} ${word}`];
    for (const ngram of ngrams) {
      sum += weights[bucketOf(ngram)] ?? 0;
      count += 1;
    }
  });
  return 1 / (1 + Math.exp(-(bias + sum / Math.max(1, count))));
}

export default {
  /** Attributes of a document: a list of [start, end, score] by name, in UTF-16 units of its text. */
  tag({ text }) {
    return { probability: [[0, text.length, probability(text)]] };
  },

  /** {} to keep it, { drop: reason }, or { replace: [{ start, end, text }] }. */
  judge({ probability: [[, , score]] }) {
    return score > threshold ? { drop: `probability ${score.toFixed(3)}, at most ${threshold}` } : {};
  },
};
