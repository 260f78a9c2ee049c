/** A text that is being generated, as the trace that it becomes. */
import { NO_EXPERT, type TraceChunk, type TraceHeader } from "../src/formats/trace.ts";
import { tokenBytes } from "../src/tokenizer/byteLevel.ts";
import type { Served } from "./state.ts";
import { writtenText } from "./text.ts";

type ServedModel = NonNullable<Served["model"]>;

/** Tokens that came in one line of the server. */
export interface LiveTokens {
  readonly position: number;
  /** Whether they are the prompt's. */
  readonly prompt: boolean;
  readonly ids: readonly number[];
  readonly texts: readonly string[];
  /** [L, T, S]: S is K, or more where interventions give a token more. */
  readonly experts: readonly number[];
  readonly weights: readonly number[];
}

/** A token of the text, with its route. */
export interface LiveToken {
  readonly id: number;
  readonly text: string;
  /** As the vocabulary writes it. */
  readonly entry: string;
  readonly prompt: boolean;
  /** [L * S]; empty for the last token, which the model has not read. */
  readonly experts: readonly number[];
  readonly weights: readonly number[];
}

/** S. */
const slotsOf = ({ ids, experts }: LiveTokens, layers: readonly number[]) =>
  experts.length / Math.max(1, layers.length * ids.length);

/** Tokens one by one. */
export function splitTokens(part: LiveTokens, layers: readonly number[]): LiveToken[] {
  const { ids, texts, prompt, experts, weights } = part;
  const tokens = ids.length;
  const slots = slotsOf(part, layers);
  return ids.map((id, t) => {
    const own = (values: readonly number[]) =>
      layers.flatMap((_, layer) => values.slice((layer * tokens + t) * slots, (layer * tokens + t + 1) * slots));
    return { id, text: writtenText(texts[t]!), entry: texts[t]!, prompt, experts: own(experts), weights: own(weights) };
  });
}

/** The text that goes on from the prompt; what it was cut off within a character is U+FFFD. */
export function answerOf(tokens: readonly Pick<LiveToken, "entry" | "prompt">[]): string {
  const written = tokens.filter(({ prompt }) => !prompt).flatMap(({ entry }) => [...tokenBytes(entry)]);
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(written));
}

/** All that came, as one chunk of a trace. */
export function joinTokens(parts: readonly LiveTokens[], layers: readonly number[]): TraceChunk & { slots: number } {
  const tokens = parts.reduce((sum, { ids }) => sum + ids.length, 0);
  const slots = Math.max(1, ...parts.map((part) => slotsOf(part, layers)));
  const experts = new Int16Array(layers.length * tokens * slots).fill(NO_EXPERT);
  const weights = new Float32Array(experts.length);
  let first = 0;
  for (const part of parts) {
    const own = slotsOf(part, layers);
    for (let layer = 0; layer < layers.length; layer++) {
      for (let t = 0; t < part.ids.length; t++) {
        const from = (layer * part.ids.length + t) * own;
        const to = (layer * tokens + first + t) * slots;
        experts.set(part.experts.slice(from, from + own), to);
        weights.set(part.weights.slice(from, from + own), to);
      }
    }
    first += part.ids.length;
  }
  return {
    start: 0,
    tokens,
    slots,
    runs: [{ sequence: 0, source: 0, position: 0, tokens }],
    ids: Int32Array.from(parts.flatMap(({ ids }) => ids)),
    experts,
    weights,
  };
}

export function liveHeader(model: ServedModel, slots: number, interventions: readonly unknown[]): TraceHeader {
  return {
    model: { name: model.name, digest: "served", vocabSize: model.vocabSize },
    numExperts: model.numExperts,
    topK: model.topK,
    slots,
    layers: model.layers,
    columns: ["ids", "experts", "weights"],
    origin: "generate",
    ...(interventions.length === 0 ? {} : { interventions }),
  };
}
