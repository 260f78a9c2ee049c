/** Small traces for tests of routing analyses: written by hand, or drawn. */
import fc from "fast-check";
import {
  memoryTrace,
  NO_EXPERT,
  type Trace,
  type TraceChunk,
  type TraceHeader,
  type TraceRun,
} from "../src/formats/trace.ts";

/** Tokens of one sequence in a row. */
export interface RunOfTokens {
  readonly sequence?: number;
  readonly source?: number;
  readonly position?: number;
  readonly tokens: readonly {
    readonly id: number;
    readonly predicted?: number;
    /** [L][up to S] */
    readonly experts: readonly (readonly number[])[];
    readonly weights?: readonly (readonly number[])[];
    /** [L][E] */
    readonly probabilities?: readonly (readonly number[])[];
  }[];
}

export interface TraceShape {
  readonly numExperts: number;
  readonly slots: number;
  readonly layers?: readonly number[];
  readonly sources?: readonly string[];
  readonly vocabSize?: number;
  readonly step?: number;
}

export function headerOf({ numExperts, slots, layers = [0], vocabSize = 100, step }: TraceShape): TraceHeader {
  return {
    model: { name: "test", digest: "test", vocabSize },
    numExperts,
    topK: slots,
    slots,
    layers,
    columns: ["ids", "experts", "weights", "predicted", "probabilities"],
    origin: "score",
    ...(step === undefined ? {} : { step }),
  };
}

/** A chunk of whole runs. Slots that are not given hold no expert. */
export function chunkOf(start: number, runs: readonly RunOfTokens[], shape: TraceShape): TraceChunk {
  const { numExperts, slots, layers = [0] } = shape;
  const tokens = runs.flatMap((run) => run.tokens);
  const each = (width: number, of: (token: (typeof tokens)[number], layer: number, place: number) => number) =>
    layers.flatMap((_, layer) =>
      tokens.flatMap((token) => Array.from({ length: width }, (_, place) => of(token, layer, place))),
    );
  return {
    start,
    tokens: tokens.length,
    runs: runs.map(
      ({ sequence = 0, source = 0, position = 0, tokens: { length } }): TraceRun => ({
        sequence,
        source,
        position,
        tokens: length,
      }),
    ),
    ids: Int32Array.from(tokens, ({ id }) => id),
    predicted: Int32Array.from(tokens, ({ id, predicted }) => predicted ?? id),
    experts: Int16Array.from(each(slots, ({ experts }, layer, slot) => experts[layer]![slot] ?? NO_EXPERT)),
    weights: Float32Array.from(each(slots, ({ weights }, layer, slot) => weights?.[layer]?.[slot] ?? 0)),
    probabilities: Float32Array.from(
      each(numExperts, ({ probabilities }, layer, expert) => probabilities?.[layer]?.[expert] ?? 1 / numExperts),
    ),
  };
}

/** A trace with one chunk for each list of runs. */
export function traceOf(chunks: readonly (readonly RunOfTokens[])[], shape: TraceShape): Trace {
  let start = 0;
  const made = chunks.map((runs) => {
    const chunk = chunkOf(start, runs, shape);
    start += chunk.tokens;
    return chunk;
  });
  return memoryTrace(headerOf(shape), made, { sources: shape.sources ?? ["text"] });
}

/** One sequence of one source with the experts of one layer: `[[0, 1], [2, 0]]` is two tokens with ids 0 and 1. */
export function tokensOf(experts: readonly (readonly number[])[], ids?: readonly number[]): RunOfTokens["tokens"] {
  return experts.map((slots, index) => ({ id: ids?.[index] ?? index, experts: [slots] }));
}

export interface DrawnTrace {
  readonly shape: Required<Pick<TraceShape, "numExperts" | "slots" | "layers" | "sources">>;
  /** Sequences, each of one source. */
  readonly runs: readonly RunOfTokens[];
}

/** A few sequences of up to three sources, two layers, up to six experts, some slots empty. */
export const anyTrace: fc.Arbitrary<DrawnTrace> = fc
  .record({ numExperts: fc.integer({ min: 1, max: 6 }), layers: fc.constantFrom([0], [1, 4]) })
  .chain(({ numExperts, layers }) => {
    const slots = Math.min(3, numExperts);
    const experts = Array.from({ length: numExperts }, (_, expert) => expert);
    const slotsOf = fc.shuffledSubarray(experts, { minLength: 0, maxLength: slots });
    const token = fc.record({
      id: fc.nat(5),
      predicted: fc.nat(5),
      experts: fc.array(slotsOf, { minLength: layers.length, maxLength: layers.length }),
    });
    const run = fc.record({ source: fc.nat(2), tokens: fc.array(token, { minLength: 1, maxLength: 6 }) });
    return fc.array(run, { minLength: 1, maxLength: 5 }).map((drawn) => ({
      shape: { numExperts, slots, layers, sources: ["a", "b", "c"] },
      runs: drawn.map((one, sequence) => ({ ...one, sequence })),
    }));
  });
