/** The layout of a tokenizer.json such as OLMoE's: NFC, byte-level BPE without a prefix space, added tokens. */

/** An entry of `added_tokens`; special ones are found before the text is normalised, and left out of decoded text. */
export function addedToken(id: number, content: string, special: boolean): object {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: !special, special };
}

/** @param merges pairs in order of learning, their parts joined by a space. */
export function byteLevelBpeJson(
  addedTokens: readonly object[],
  vocab: Readonly<Record<string, number>>,
  merges: readonly string[],
): object {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens,
    normalizer: { type: "NFC" },
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges,
    },
  };
}
