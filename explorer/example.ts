/**
 * Made-up routing to try the page with, of any length: what is asked for is computed then. Passages are of five kinds of
 * text, each with experts that it prefers, and at later checkpoints more of the choices are settled.
 */
import { checkSelection, type Trace, type TraceChunk, type TraceHeader, type TraceRun } from "../src/formats/trace.ts";
import { byteCharacters } from "../src/tokenizer/byteLevel.ts";
import { mix32 } from "../src/util/mix32.ts";

export interface ExampleSize {
  readonly tokens: number;
  readonly layers: number;
  readonly experts: number;
  readonly topK: number;
  readonly checkpoints: number;
}

const TEXTS: Readonly<Record<string, string>> = {
  prose:
    "It was a grey morning , and the old harbour lay quiet under the fog . She had walked along the wall every day of that winter , counting the boats , and never once had she seen the lamp lit .",
  code: "export function clamp ( value : number , low : number , high : number ) : number { return Math . min ( high , Math . max ( low , value ) ) ; } // TODO",
  papers:
    "We show that the router settles early in training : after one percent of the tokens , two thirds of the experts that are chosen at the end are already chosen ( Figure 2 ) .",
  mathematics:
    "Let f be continuous on [ 0 , 1 ] with f ( 0 ) = 0 . Then for all x > 0 there is δ > 0 with | f ( y ) | < ε whenever y < δ . ∎",
  wiki: "The river rises in the north , at 1 240 m , flows through three lakes and reaches the sea after 86 km . Its basin ( 4 310 km ² ) had 212 000 inhabitants in 2011 .",
};
const SOURCES = Object.keys(TEXTS);
const WORDS = Object.values(TEXTS).map((text) => text.split(" "));
const VOCABULARY = [...new Set(WORDS.flat())];
const IDS = WORDS.map((words) => words.map((word) => VOCABULARY.indexOf(word)));

/** Tokens of a passage, which is a sequence of its own. */
const PASSAGE = 160;
const CHUNK = 4096;

const written = (text: string) => Array.from(new TextEncoder().encode(text), (byte) => byteCharacters[byte]).join("");

/** Reads "1000000x16x64x8", with a fifth number for several checkpoints. @returns undefined for anything else. */
export function parseExample(text: string): ExampleSize | undefined {
  const numbers = text.split("x").map(Number);
  const [tokens = 0, layers = 0, experts = 0, topK = 0, checkpoints = 1] = numbers;
  const fits = tokens <= 1e8 && layers <= 256 && experts <= 1024 && topK <= Math.min(16, experts) && checkpoints <= 20;
  const whole = [tokens, layers, experts, topK, checkpoints].every((size) => Number.isSafeInteger(size) && size > 0);
  return fits && whole && numbers.length <= 5 ? { tokens, layers, experts, topK, checkpoints } : undefined;
}

const kindOf = (token: number) => mix32(Math.floor(token / PASSAGE) + 17) % SOURCES.length;
const idOf = (token: number) => {
  const ids = IDS[kindOf(token)]!;
  return ids[(token % PASSAGE) % ids.length]!;
};

/** Writes the experts of a token in a layer: those its kind of text and its word prefer, and some by chance. */
function chooseExperts(
  target: Int16Array,
  at: number,
  { token, layer, step }: { readonly token: number; readonly layer: number; readonly step: number },
  { experts, topK, checkpoints }: ExampleSize,
): void {
  const place = mix32(Math.imul(token, 257) + layer);
  const kind = kindOf(token);
  const id = idOf(token);
  for (let slot = 0; slot < topK; slot++) {
    const dice = mix32(place + slot * 7919);
    const settled = (mix32(dice) & 1023) / 1024 < 1 - 0.55 ** step || step === checkpoints;
    const way = dice & 15;
    let choice = mix32(dice + 1);
    if (!settled) choice = mix32(dice + step);
    else if (way < 6) choice = mix32(kind * 64 + layer * 1021 + (slot >> 1));
    else if (way < 13) choice = mix32(id * 977 + layer * 131 + slot);
    let expert = choice % experts;
    for (let before = 0; before < slot; before++) {
      if (target[at + before] !== expert) continue;
      expert = (expert + 1) % experts;
      before = -1;
    }
    target[at + slot] = expert;
  }
}

function fillWeights(target: Float32Array, at: number, topK: number, seed: number): void {
  let sum = 0;
  for (let slot = 0; slot < topK; slot++) {
    const weight = Math.exp(-0.55 * slot * (0.4 + (mix32(seed) & 255) / 255));
    target[at + slot] = weight;
    sum += weight;
  }
  for (let slot = 0; slot < topK; slot++) target[at + slot]! /= sum * 1.25;
}

function fillProbabilities(chunk: Required<Pick<TraceChunk, "experts" | "weights" | "tokens">>, size: ExampleSize) {
  const { experts, topK, layers } = size;
  const values = new Float32Array(layers * chunk.tokens * experts);
  for (let row = 0; row < layers * chunk.tokens; row++) {
    let rest = 1;
    for (let slot = 0; slot < topK; slot++) rest -= chunk.weights[row * topK + slot]!;
    values.fill(Math.max(0, rest) / Math.max(1, experts - topK), row * experts, (row + 1) * experts);
    for (let slot = 0; slot < topK; slot++) {
      values[row * experts + chunk.experts[row * topK + slot]!] = chunk.weights[row * topK + slot]!;
    }
  }
  return values;
}

function runsOf(start: number, end: number): TraceRun[] {
  const runs: TraceRun[] = [];
  for (let at = start; at < end; ) {
    const passage = Math.floor(at / PASSAGE);
    const next = Math.min(end, (passage + 1) * PASSAGE);
    runs.push({ sequence: passage, source: kindOf(at), position: at % PASSAGE, tokens: next - at });
    at = next;
  }
  return runs;
}

function chunkOf(start: number, end: number, columns: readonly string[], size: ExampleSize, step: number): TraceChunk {
  const { layers, topK } = size;
  const tokens = end - start;
  const experts = new Int16Array(layers * tokens * topK);
  const weights = new Float32Array(columns.some((name) => /weights|prob/.test(name)) ? experts.length : 0);
  for (let layer = 0; layer < layers; layer++) {
    for (let t = 0; t < tokens; t++) {
      const at = (layer * tokens + t) * topK;
      chooseExperts(experts, at, { token: start + t, layer, step }, size);
      if (weights.length > 0) fillWeights(weights, at, topK, (start + t) * 64 + layer);
    }
  }
  return {
    start,
    tokens,
    runs: runsOf(start, end),
    experts,
    weights,
    ids: Int32Array.from({ length: tokens }, (_, t) => idOf(start + t)),
    ...(columns.includes("probabilities")
      ? { probabilities: fillProbabilities({ tokens, experts, weights }, size) }
      : {}),
  };
}

/** @param step number of the checkpoint, from 1 on. */
export function exampleTrace(size: ExampleSize, step: number): Trace {
  const header: TraceHeader = {
    model: { name: `made-up data, checkpoint ${step}`, digest: `example-${step}`, vocabSize: VOCABULARY.length },
    numExperts: size.experts,
    topK: size.topK,
    slots: size.topK,
    layers: Array.from({ length: size.layers }, (_, layer) => layer),
    columns: ["ids", "experts", "weights", "probabilities"],
    origin: "evaluation",
    step: 1000 * 4 ** (step - 1),
  };
  return {
    header,
    tokens: size.tokens,
    sources: SOURCES,
    vocabulary: new Map(VOCABULARY.map((word, id) => [id, written(` ${word}`)])),
    async *chunks({ signal, ...selection } = {}) {
      const { columns, start, end } = checkSelection({ header, tokens: size.tokens }, selection);
      for (let at = start; at < end; ) {
        signal?.throwIfAborted();
        const next = Math.min(end, (Math.floor(at / CHUNK) + 1) * CHUNK);
        yield chunkOf(at, next, columns, size, step);
        at = next;
      }
    },
  };
}
