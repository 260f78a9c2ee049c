/** A text that is being generated, as the trace that it becomes. */
import type { TraceChunk, TraceHeader } from "../src/formats/trace.ts";
import type { Served } from "./state.ts";
import { writtenText } from "./text.ts";

type ServedModel = NonNullable<Served["model"]>;

/** Tokens that came in one line of the server. */
export interface LiveTokens {
  readonly position: number;
  readonly ids: readonly number[];
  readonly texts: readonly string[];
  /** [L, T, K] */
  readonly experts: readonly number[];
  readonly weights: readonly number[];
}

/** A token of the text, with its route. */
export interface LiveToken {
  readonly id: number;
  readonly text: string;
  readonly prompt: boolean;
  /** [L * K]; empty for the last token, which the model has not read. */
  readonly experts: readonly number[];
  readonly weights: readonly number[];
}

/** Tokens one by one. */
export function splitTokens(
  { ids, texts, experts, weights }: LiveTokens,
  { layers, topK }: Pick<ServedModel, "layers" | "topK">,
  prompt: boolean,
): LiveToken[] {
  const tokens = ids.length;
  return ids.map((id, t) => {
    const own = (values: readonly number[]) =>
      layers.flatMap((_, layer) => values.slice((layer * tokens + t) * topK, (layer * tokens + t + 1) * topK));
    return { id, text: writtenText(texts[t]!), prompt, experts: own(experts), weights: own(weights) };
  });
}

/** All that came, as one chunk of a trace. */
export function joinTokens(
  parts: readonly LiveTokens[],
  { layers, topK }: Pick<ServedModel, "layers" | "topK">,
): TraceChunk {
  const tokens = parts.reduce((sum, { ids }) => sum + ids.length, 0);
  const experts = new Int16Array(layers.length * tokens * topK);
  const weights = new Float32Array(experts.length);
  let first = 0;
  for (const part of parts) {
    const width = part.ids.length * topK;
    for (let layer = 0; layer < layers.length; layer++) {
      const at = (layer * tokens + first) * topK;
      experts.set(part.experts.slice(layer * width, (layer + 1) * width), at);
      weights.set(part.weights.slice(layer * width, (layer + 1) * width), at);
    }
    first += part.ids.length;
  }
  return {
    start: 0,
    tokens,
    runs: [{ sequence: 0, source: 0, position: 0, tokens }],
    ids: Int32Array.from(parts.flatMap(({ ids }) => ids)),
    experts,
    weights,
  };
}

export function liveHeader(model: ServedModel, interventions: readonly unknown[]): TraceHeader {
  return {
    model: { name: model.name, digest: "served", vocabSize: model.vocabSize },
    numExperts: model.numExperts,
    topK: model.topK,
    slots: model.topK,
    layers: model.layers,
    columns: ["ids", "experts", "weights"],
    origin: "generate",
    ...(interventions.length === 0 ? {} : { interventions }),
  };
}
