/**
 * What is counted over whole traces, in one pass each, chunk by chunk, so that a page can show how far it is. Letters as in
 * src/formats/trace.ts: L layers, S slots, E experts.
 */
import { NO_EXPERT, type Trace, type TraceChunk } from "../src/formats/trace.ts";

/** For each bucket of so many tokens, the most frequent first expert of each layer: what a pixel of the zoomed-out map shows. */
export interface Level {
  readonly bucket: number;
  /** [buckets, L] the expert. */
  readonly expert: Int16Array;
  /** [buckets, L] its share of the bucket's tokens, of 255. */
  readonly share: Uint8Array;
}

export interface Summary {
  /** Tokens that were counted. */
  readonly tokens: number;
  /** [L, E] slots of each expert. */
  readonly slots: Float64Array;
  /** [L, E] tokens whose first expert it is. */
  readonly first: Float64Array;
  /** For each source [L, E] slots. */
  readonly bySource: readonly Float64Array[];
  readonly sourceTokens: Float64Array;
  readonly levels: readonly Level[];
  /** First token and tokens of each sequence's runs, for lists of sequences; at most `MOST_SEQUENCES`. */
  readonly sequences: readonly SequenceFacts[];
}

export interface SequenceFacts {
  readonly sequence: number;
  readonly source: number;
  readonly start: number;
  readonly tokens: number;
}

const BUCKETS = [16, 128, 1024] as const;
const MOST_SOURCES = 64;
const MOST_SEQUENCES = 500;

class LevelCounter {
  readonly bucket: number;
  readonly #layers: number;
  readonly #experts: number;
  readonly #counts: Uint16Array;
  readonly expert: Int16Array;
  readonly share: Uint8Array;
  #place = 0;
  #filled = 0;

  constructor(bucket: number, tokens: number, layers: number, experts: number) {
    this.bucket = bucket;
    this.#layers = layers;
    this.#experts = experts;
    this.#counts = new Uint16Array(layers * experts);
    const cells = Math.ceil(tokens / bucket) * layers;
    this.expert = new Int16Array(cells).fill(NO_EXPERT);
    this.share = new Uint8Array(cells);
  }

  /** Adds the first experts of a token, one of each layer `stride` apart. */
  add(firsts: Int16Array, at: number, stride: number): void {
    for (let layer = 0; layer < this.#layers; layer++) {
      const expert = firsts[at + layer * stride]!;
      if (expert !== NO_EXPERT) this.#counts[layer * this.#experts + expert]! += 1;
    }
    this.#filled += 1;
    if (this.#filled === this.bucket) this.flush();
  }

  flush(): void {
    if (this.#filled === 0) return;
    for (let layer = 0; layer < this.#layers; layer++) {
      let [best, most] = [NO_EXPERT, 0];
      for (let expert = 0; expert < this.#experts; expert++) {
        const times = this.#counts[layer * this.#experts + expert]!;
        if (times > most) [best, most] = [expert, times];
      }
      this.expert[this.#place * this.#layers + layer] = best;
      this.share[this.#place * this.#layers + layer] = Math.round((255 * most) / this.#filled);
    }
    this.#counts.fill(0);
    this.#filled = 0;
    this.#place += 1;
  }
}

/** Counts a trace; gives what is there after each chunk, the same arrays each time. */
export async function* summarise(trace: Trace, signal?: AbortSignal): AsyncGenerator<Summary, Summary> {
  const { numExperts, slots: width, layers: numbers } = trace.header;
  const layers = numbers.length;
  const sources = Math.min(MOST_SOURCES, Math.max(1, trace.sources.length));
  const cells = layers * numExperts;
  const levels = BUCKETS.map((bucket) => new LevelCounter(bucket, trace.tokens, layers, numExperts));
  const sequences: SequenceFacts[] = [];
  const summary = {
    tokens: 0,
    slots: new Float64Array(cells),
    first: new Float64Array(cells),
    bySource: Array.from({ length: sources }, () => new Float64Array(cells)),
    sourceTokens: new Float64Array(sources),
    levels,
    sequences,
  };
  for await (const { start, tokens, runs, experts } of trace.chunks({ columns: ["experts"], signal })) {
    let first = 0;
    for (const run of runs) {
      const source = Math.min(sources - 1, run.source);
      const counts = summary.bySource[source]!;
      summary.sourceTokens[source]! += run.tokens;
      noteSequence(sequences, { ...run, start: start + first });
      for (let layer = 0; layer < layers; layer++) {
        const row = layer * numExperts;
        for (let t = first; t < first + run.tokens; t++) {
          const at = (layer * tokens + t) * width;
          if (experts![at] !== NO_EXPERT) summary.first[row + experts![at]!]! += 1;
          for (let slot = at; slot < at + width; slot++) {
            const expert = experts![slot]!;
            if (expert === NO_EXPERT) continue;
            counts[row + expert]! += 1;
            summary.slots[row + expert]! += 1;
          }
        }
      }
      first += run.tokens;
    }
    for (let t = 0; t < tokens; t++) for (const level of levels) level.add(experts!, t * width, tokens * width);
    summary.tokens = start + tokens;
    yield summary;
  }
  for (const level of levels) level.flush();
  return summary;
}

function noteSequence(
  list: SequenceFacts[],
  { sequence, source, start, tokens }: SequenceFacts & { readonly position: number },
): void {
  const last = list.at(-1);
  if (last !== undefined && last.sequence === sequence && last.start + last.tokens === start) {
    list[list.length - 1] = { ...last, tokens: last.tokens + tokens };
  } else if (list.length < MOST_SEQUENCES) list.push({ sequence, source, start, tokens });
}

/** A token that an expert serves more often than others. */
export interface TokenShare {
  readonly id: number;
  /** Times the expert served it, and times it is in the trace. */
  readonly served: number;
  readonly all: number;
}

export interface ExpertFacts {
  readonly tokens: number;
  /** Tokens that it serves, and those whose first expert it is. */
  readonly served: number;
  readonly first: number;
  /** Mean of its weight where it serves. */
  readonly weight: number;
  /** The tokens it serves most often. */
  readonly mostServed: readonly TokenShare[];
  /** Of tokens that are in the trace at least `LEAST_TIMES` times, those of which it serves the largest share. */
  readonly mostOwn: readonly TokenShare[];
  /** [E] tokens that it serves together with each other expert of the layer. */
  readonly together: Float64Array;
  /** Tokens of the trace where its weight is largest, spread over the sequences: the largest of each. */
  readonly strongest: readonly { readonly token: number; readonly weight: number }[];
}

/** More than any vocabulary has; what a file says of its model is not to be trusted with memory. */
const MOST_IDS = 2 ** 22;
const LEAST_TIMES = 5;
const LISTED = 24;
const MOST_CONTEXTS = 24;

/** All about one expert of a layer. @param layer index among the trace's layers. */
export async function* studyExpert(
  trace: Trace,
  layer: number,
  expert: number,
  signal?: AbortSignal,
): AsyncGenerator<ExpertFacts, ExpertFacts> {
  const { numExperts, slots: width, model } = trace.header;
  const ids = Math.min(model.vocabSize, MOST_IDS);
  const all = new Uint32Array(ids);
  const served = new Uint32Array(ids);
  const together = new Float64Array(numExperts);
  const strongest = new StrongestTokens();
  const sums = { tokens: 0, served: 0, first: 0, weight: 0 };
  const facts = (): ExpertFacts => ({
    ...sums,
    weight: sums.served === 0 ? Number.NaN : sums.weight / sums.served,
    mostServed: bestOf(served, (id) => served[id]!, all, 1),
    mostOwn: bestOf(served, (id) => served[id]! / all[id]!, all, LEAST_TIMES),
    together,
    strongest: strongest.list(),
  });
  let told = 0;
  for await (const chunk of trace.chunks({ columns: ["ids", "experts", "weights"], signal })) {
    const { experts, weights, tokens } = chunk as Required<typeof chunk>;
    const sequence = sequenceOf(chunk.runs, tokens);
    for (let t = 0; t < tokens; t++) {
      const id = chunk.ids![t]!;
      const known = id >= 0 && id < all.length;
      if (known) all[id]! += 1;
      const at = (layer * tokens + t) * width;
      for (let slot = 0; slot < width; slot++) {
        if (experts[at + slot] !== expert) continue;
        sums.served += 1;
        if (slot === 0) sums.first += 1;
        sums.weight += weights[at + slot]!;
        if (known) served[id]! += 1;
        strongest.add(chunk.start + t, sequence[t]!, weights[at + slot]!);
        for (let other = 0; other < width; other++) {
          const partner = experts[at + other]!;
          if (other !== slot && partner !== NO_EXPERT) together[partner]! += 1;
        }
      }
    }
    sums.tokens += tokens;
    if (sums.tokens - told >= 2 ** 17) {
      told = sums.tokens;
      yield facts();
    }
  }
  return facts();
}

function sequenceOf(runs: readonly { readonly sequence: number; readonly tokens: number }[], tokens: number) {
  const result = new Int32Array(tokens);
  let first = 0;
  for (const run of runs) {
    result.fill(run.sequence, first, first + run.tokens);
    first += run.tokens;
  }
  return result;
}

/** Ids with the largest scores, of those that are there often enough; ties by the smaller id. */
function bestOf(served: Uint32Array, score: (id: number) => number, all: Uint32Array, least: number): TokenShare[] {
  const ids: number[] = [];
  for (let id = 0; id < served.length; id++) if (served[id]! > 0 && all[id]! >= least) ids.push(id);
  ids.sort((a, b) => score(b) - score(a) || served[b]! - served[a]! || a - b);
  return ids.slice(0, LISTED).map((id) => ({ id, served: served[id]!, all: all[id]! }));
}

/** The strongest token of each sequence, of the sequences that have the strongest. */
class StrongestTokens {
  readonly #bySequence = new Map<number, { token: number; weight: number }>();

  add(token: number, sequence: number, weight: number): void {
    const known = this.#bySequence.get(sequence);
    if (known !== undefined && known.weight >= weight) return;
    this.#bySequence.set(sequence, { token, weight });
    if (this.#bySequence.size > 4 * MOST_CONTEXTS) this.#prune();
  }

  #prune(): void {
    const sorted = [...this.#bySequence].sort(([, a], [, b]) => b.weight - a.weight || a.token - b.token);
    for (const [sequence] of sorted.slice(MOST_CONTEXTS)) this.#bySequence.delete(sequence);
  }

  list(): { token: number; weight: number }[] {
    return [...this.#bySequence.values()]
      .sort((a, b) => b.weight - a.weight || a.token - b.token)
      .slice(0, MOST_CONTEXTS);
  }
}

/** How two traces route the same places: token t of one beside token t of the other. */
export interface Comparison {
  /** Tokens that were compared. */
  readonly tokens: number;
  /** Of them, those with the same id in both. */
  readonly sameIds: number;
  /** [L] mean share of the experts of `b` that are also chosen in `a` (equation 5 of the paper), over tokens with the same id. */
  readonly agreement: Float64Array;
  /** [L] share of those tokens whose first expert is the same. */
  readonly sameFirst: Float64Array;
  /** [L] what the distributions over experts have in common, the sum of min(p, q), over all tokens. */
  readonly overlap: Float64Array;
}

/** Part of a chunk whose tokens are gone through. */
interface Side {
  readonly trace: Trace;
  readonly chunk: TraceChunk;
  /** The first token, within the chunk. */
  readonly from: number;
}

class ComparisonSums {
  readonly #layers: number;
  readonly #experts: number;
  readonly #shared: Float64Array;
  readonly #same: Float64Array;
  readonly #used: readonly [Float64Array, Float64Array];
  #tokens = 0;
  #sameIds = 0;

  constructor(layers: number, experts: number) {
    this.#layers = layers;
    this.#experts = experts;
    this.#shared = new Float64Array(layers);
    this.#same = new Float64Array(layers);
    this.#used = [new Float64Array(layers * experts), new Float64Array(layers * experts)];
  }

  add(a: Side, b: Side, tokens: number): void {
    for (let t = 0; t < tokens; t++) {
      const sameId = a.chunk.ids![a.from + t] === b.chunk.ids![b.from + t];
      if (sameId) this.#sameIds += 1;
      for (let layer = 0; layer < this.#layers; layer++) this.#addLayer(a, b, layer, t, sameId);
    }
    this.#tokens += tokens;
  }

  #addLayer(a: Side, b: Side, layer: number, t: number, sameId: boolean): void {
    const [widthA, widthB] = [a.trace.header.slots, b.trace.header.slots];
    const atA = (layer * a.chunk.tokens + a.from + t) * widthA;
    const atB = (layer * b.chunk.tokens + b.from + t) * widthB;
    const [inA, inB] = [a.chunk.experts!, b.chunk.experts!];
    const row = layer * this.#experts;
    let [shared, chosen] = [0, 0];
    for (let slot = atA; slot < atA + widthA; slot++) {
      if (inA[slot] !== NO_EXPERT) this.#used[0][row + inA[slot]!]! += 1;
    }
    for (let slot = atB; slot < atB + widthB; slot++) {
      const expert = inB[slot]!;
      if (expert === NO_EXPERT) continue;
      this.#used[1][row + expert]! += 1;
      chosen += 1;
      for (let other = atA; other < atA + widthA; other++) if (inA[other] === expert) shared += 1;
    }
    if (!sameId || chosen === 0) return;
    this.#shared[layer]! += shared / chosen;
    if (inA[atA] === inB[atB]) this.#same[layer]! += 1;
  }

  result(): Comparison {
    const mean = (sums: Float64Array) => sums.map((sum) => sum / this.#sameIds);
    return {
      tokens: this.#tokens,
      sameIds: this.#sameIds,
      agreement: mean(this.#shared),
      sameFirst: mean(this.#same),
      overlap: new Float64Array(this.#layers).map((_, layer) => this.#overlap(layer)),
    };
  }

  #overlap(layer: number): number {
    const [p, q] = this.#used.map((counts) => counts.subarray(layer * this.#experts, (layer + 1) * this.#experts));
    const [sumP, sumQ] = [p, q].map((counts) => counts!.reduce((sum, value) => sum + value, 0));
    return p!.reduce((sum, value, expert) => sum + Math.min(value / sumP!, q![expert]! / sumQ!), 0);
  }
}

/** Places side by side: the parts of two traces, from a token of each on. */
export interface Alignment {
  readonly startA: number;
  readonly startB: number;
  readonly tokens: number;
}

export async function* compareTraces(
  a: Trace,
  b: Trace,
  { startA, startB, tokens }: Alignment,
  signal?: AbortSignal,
): AsyncGenerator<Comparison, Comparison> {
  const layers = Math.min(a.header.layers.length, b.header.layers.length);
  const sums = new ComparisonSums(layers, Math.max(a.header.numExperts, b.header.numExperts));
  const columns = ["ids", "experts"] as const;
  const others = b.chunks({ columns, start: startB, end: startB + tokens, signal })[Symbol.asyncIterator]();
  let other = await others.next();
  for await (const chunk of a.chunks({ columns, start: startA, end: startA + tokens, signal })) {
    // Chunks of the two need not end at the same places.
    for (let t = 0; t < chunk.tokens && !other.done; ) {
      const partner = other.value;
      const from = chunk.start + t - startA + startB - partner.start;
      const length = Math.min(chunk.tokens - t, partner.tokens - from);
      sums.add({ trace: a, chunk, from: t }, { trace: b, chunk: partner, from }, length);
      t += length;
      if (from + length === partner.tokens) other = await others.next();
    }
    yield sums.result();
  }
  return sums.result();
}
