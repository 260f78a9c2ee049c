/** Held-out text as windows that score every token once, for the held-out loss and bits per byte. */
import { documentStarts, NO_LABEL, type TokenArray } from "./tokenFile.ts";

/** Held-out part of one source. */
export interface HeldOutText {
  readonly source: string;
  /** Ids of all documents, each closed by the end-of-text token. */
  readonly tokens: TokenArray;
  readonly documents: readonly { readonly id: string; readonly text: string }[];
  /** UTF-8 bytes of the documents' text: the bytes that bits per byte are counted over. */
  readonly textBytes: number;
}

/** W windows of S places. */
export interface HeldOutWindows {
  readonly windows: number;
  readonly sequenceLength: number;
  /** [W * S]. */
  readonly ids: Int32Array;
  /** [W * S]: the token that follows each place; NO_LABEL after the end of the last window. */
  readonly labels: Int32Array;
  /** [W * S]: where in the window the current document starts. */
  readonly kvStart: Int32Array;
  /** Labels that count: the number of tokens. */
  readonly targets: number;
}

/**
 * Lays tokens out in consecutive windows. The stream starts with one more end-of-text token, which is no target itself, so
 * that each token is the target of exactly one place, the first one too. Unused places hold the end-of-text token.
 */
export function heldOutWindows(
  tokens: ArrayLike<number>,
  options: { readonly sequenceLength: number; readonly eosTokenId: number },
): HeldOutWindows {
  const { sequenceLength, eosTokenId } = options;
  const targets = tokens.length;
  const windows = Math.ceil(targets / sequenceLength);
  const ids = new Int32Array(windows * sequenceLength).fill(eosTokenId);
  const labels = new Int32Array(ids.length).fill(NO_LABEL);
  for (let place = 0; place < targets; place++) {
    labels[place] = tokens[place] as number;
    if (place + 1 < targets) ids[place + 1] = tokens[place] as number;
  }
  return { windows, sequenceLength, ids, labels, kvStart: documentStarts(ids, sequenceLength, eosTokenId), targets };
}

/** The documents of a stream of tokens, each without the end-of-text token that closes it. */
export function* heldOutDocuments(tokens: ArrayLike<number>, eosTokenId: number): Generator<Int32Array> {
  const ids = Int32Array.from(tokens);
  for (let start = 0; start < ids.length; ) {
    const end = ids.indexOf(eosTokenId, start);
    yield ids.subarray(start, end < 0 ? ids.length : end);
    start = end < 0 ? ids.length : end + 1;
  }
}

/**
 * Bits per byte of text.
 * @param nats summed cross-entropy over all targets.
 */
export function bitsPerByte(nats: number, textBytes: number): number {
  return nats / Math.LN2 / textBytes;
}
