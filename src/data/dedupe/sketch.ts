/** What a read task leaves of a document for deduplication: digest, MinHash signature with its bands, paragraph hashes. */
import { createXXHash3, createXXHash128, type IHasher } from "hash-wasm";
import type { DedupeOptions } from "../../config/dataDedupe.ts";
import { bandKeys, bandsFor } from "./bands.ts";
import { minhash, SIGNATURE_BYTES, signatureOf } from "./minhash.ts";
import { eachParagraph } from "./paragraphs.ts";
import { Rows } from "./places.ts";
import { KEY_WORDS } from "./records.ts";
import { createShingler } from "./shingles.ts";

/** Documents with fewer shingles are compared only as a whole: one changed word would change most of a short text's. */
const MIN_SHINGLES = 20;

/** Parts of a text that are encoded together. */
const ENCODE_BYTES = 65_536;

/** Valid until the sketcher's next call. */
export interface Sketch {
  /** XXH3 of the text in UTF-8, 128 bits as four words; empty where it is not asked for. */
  readonly digest: Uint32Array;
  /** MinHash signature; empty where it is not asked for and for short documents. */
  readonly signature: Uint8Array;
  /** Two words for each band of the signature. */
  readonly bandKeys: Uint32Array;
  /** Three words for each paragraph that is long enough: XXH3 of 64 bits and which paragraph it is. */
  readonly paragraphs: Uint32Array;
}

export type Sketcher = (text: string) => Sketch;

const NO_WORDS = new Uint32Array(0);
const NO_BYTES = new Uint8Array(0);

/** A function that hashes texts, which are encoded part by part. */
function textHasher(hasher: IHasher): (text: string) => DataView {
  const encoder = new TextEncoder();
  const bytes = new Uint8Array(ENCODE_BYTES);
  return (text) => {
    hasher.init();
    let rest = text;
    for (;;) {
      const { read, written } = encoder.encodeInto(rest, bytes);
      hasher.update(bytes.subarray(0, written));
      if (read >= rest.length) break;
      rest = rest.slice(read);
    }
    const { buffer, byteOffset, byteLength } = hasher.digest("binary");
    return new DataView(buffer, byteOffset, byteLength);
  };
}

function digester(hasher: IHasher): (text: string) => Uint32Array {
  const hash = textHasher(hasher);
  return (text) => {
    const digest = hash(text);
    return Uint32Array.from({ length: KEY_WORDS.exact }, (_, word) => digest.getUint32(4 * word));
  };
}

function paragraphHasher(hasher: IHasher, minLength: number): (text: string) => Uint32Array {
  const hash = textHasher(hasher);
  return (text) => {
    const rows = new Rows();
    eachParagraph(text, (paragraph, start, end) => {
      if (end - start < minLength) return;
      const digest = hash(text.slice(start, end));
      rows.push(digest.getUint32(0), digest.getUint32(4), paragraph);
    });
    return rows.words;
  };
}

function signer(threshold: number): (text: string) => Pick<Sketch, "signature" | "bandKeys"> {
  const shingle = createShingler();
  const bands = bandsFor(threshold);
  const values = new Uint32Array(SIGNATURE_BYTES);
  const signature = new Uint8Array(SIGNATURE_BYTES);
  const keys = new Uint32Array(2 * bands.bands);
  return (text) => {
    const shingles = shingle(text);
    if (shingles.length < MIN_SHINGLES) return { signature: NO_BYTES, bandKeys: NO_WORDS };
    minhash(shingles, values);
    signatureOf(values, signature);
    bandKeys(values, bands, keys);
    return { signature, bandKeys: keys };
  };
}

/** A function that makes sketches of texts, with what the options ask for. */
export async function createSketcher({ exact, near, paragraphs }: DedupeOptions): Promise<Sketcher> {
  const digest = exact ? digester(await createXXHash128()) : () => NO_WORDS;
  const sign = near === null ? () => ({ signature: NO_BYTES, bandKeys: NO_WORDS }) : signer(near.threshold);
  const pieces = paragraphs === null ? () => NO_WORDS : paragraphHasher(await createXXHash3(), paragraphs.minLength);
  return (text) => ({ digest: digest(text), ...sign(text), paragraphs: pieces(text) });
}
