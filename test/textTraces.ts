/** Routing traces for tests, as files' bytes: small, made of a seed, with texts that the test chooses. */
import { uniformInt } from "pure-rand/distribution/uniformInt";
import type { TraceColumn, TraceHeader } from "../src/formats/trace.ts";
import { TraceEncoder } from "../src/formats/traceEncoder.ts";
import { byteCharacters } from "../src/tokenizer/byteLevel.ts";
import { createRandom } from "../src/util/random.ts";

export interface TestTrace {
  /** Texts of all tokens, in order; sequences are parted by null. */
  readonly texts: readonly (string | null)[];
  readonly layers?: number;
  readonly experts?: number;
  readonly topK?: number;
  readonly seed?: number;
  readonly step?: number;
  readonly columns?: readonly TraceColumn[];
  /** Name of each sequence's source. */
  readonly sources?: readonly string[];
}

/** As a tokenizer's vocabulary writes a text. Lone surrogates become what UTF-8 can not hold: three bytes that are no character. */
export function vocabularyText(text: string): string {
  const bytes = Array.from(text).flatMap((character) => {
    const code = character.codePointAt(0)!;
    if (code < 0xd800 || code > 0xdfff) return [...new TextEncoder().encode(character)];
    return [0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63)];
  });
  return bytes.map((byte) => byteCharacters[byte]).join("");
}

/** The routing that `traceBytes` writes: [L, T, K] experts and weights of a run of tokens. */
function randomRouting(tokens: number, { layers, numExperts, topK }: TraceHeader, seed: number) {
  const random = createRandom(seed, "trace");
  const experts = new Int16Array(layers.length * tokens * topK);
  const weights = new Float32Array(experts.length);
  const probabilities = new Float32Array(layers.length * tokens * numExperts);
  for (let row = 0; row < layers.length * tokens; row++) {
    const chances = Float32Array.from({ length: numExperts }, () => 1 + uniformInt(random, 0, 1000));
    const sum = chances.reduce((a, b) => a + b, 0);
    const order = [...chances.keys()].sort((a, b) => chances[b]! - chances[a]! || a - b);
    for (let slot = 0; slot < topK; slot++) {
      experts[row * topK + slot] = order[slot]!;
      weights[row * topK + slot] = chances[order[slot]!]! / sum;
    }
    probabilities.set(
      chances.map((chance) => chance / sum),
      row * numExperts,
    );
  }
  return { experts, weights, probabilities };
}

export function traceBytes(options: TestTrace): Uint8Array<ArrayBuffer> {
  const { texts, layers = 3, experts = 8, topK = 2, seed = 1, step, sources = [] } = options;
  const { columns = ["ids", "experts", "weights", "probabilities"] } = options;
  const vocabulary = [...new Set(texts.filter((text) => text !== null))];
  const header: TraceHeader = {
    model: { name: "test model", digest: "0".repeat(16), vocabSize: vocabulary.length },
    numExperts: experts,
    topK,
    slots: topK,
    layers: Array.from({ length: layers }, (_, layer) => layer),
    columns,
    origin: "score",
    ...(step === undefined ? {} : { step }),
  };
  const encoder = new TraceEncoder(header, { tokenText: (id) => vocabularyText(vocabulary[id]!) });
  const parts = [...encoder.begin()];
  let [sequence, first] = [0, 0];
  for (let end = 0; end <= texts.length; end++) {
    if (end < texts.length && texts[end] !== null) continue;
    const ids = Int32Array.from(texts.slice(first, end), (text) => vocabulary.indexOf(text!));
    if (ids.length > 0) {
      const routing = randomRouting(ids.length, header, seed + sequence);
      const rows = Object.fromEntries(
        Object.entries({ ids, ...routing }).filter(([name]) => columns.includes(name as TraceColumn)),
      );
      const of = { sequence, source: sources[sequence] ?? "text", position: 0 };
      parts.push(...encoder.add(of, { tokens: ids.length, ...rows }));
      sequence += 1;
    }
    first = end + 1;
  }
  parts.push(...encoder.end());
  return Uint8Array.from(Buffer.concat(parts));
}
