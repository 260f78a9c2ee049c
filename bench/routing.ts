/**
 * `npm run bench -- routing`: statistics of a trace as long as 10^7 tokens of 16 layers, of which every token has 8 of 64
 * experts, in tokens/s, each analysis alone and all in one pass. The trace is made of a few chunks again and again, so that
 * memory and disk are not measured. The limit is a loop that only adds up the experts.
 */
import type { Trace, TraceChunk, TraceHeader, TraceSelection } from "../src/formats/trace.ts";
import { type Analysis, analyse, type ResultHead } from "../src/routing/analysis.ts";
import { coactivation } from "../src/routing/coactivation.ts";
import { crossLayerRouting } from "../src/routing/crossLayer.ts";
import { domainSpecialisation } from "../src/routing/domains.ts";
import { loadBalance } from "../src/routing/load.ts";
import { vocabularySpecialisation } from "../src/routing/vocabulary.ts";
import { createRandom, type RandomGenerator, uniform } from "../src/util/random.ts";
import { type BenchOptions, type Contender, describeMachine, interleave, type Row, toRow } from "./harness.ts";

const TOKENS = 10_000_000;
/** As trace files have them. */
const CHUNK_TOKENS = 4096;
const SEQUENCE_TOKENS = 2048;
/** Different chunks; the trace repeats them. */
const CHUNKS = 32;
const [LAYERS, SLOTS, EXPERTS, VOCABULARY] = [16, 8, 64, 50_304];
const SOURCES = ["web", "books", "code", "papers", "wiki"];

const HEADER: TraceHeader = {
  model: { name: "synthetic", digest: "synthetic", vocabSize: VOCABULARY },
  numExperts: EXPERTS,
  topK: SLOTS,
  slots: SLOTS,
  layers: Array.from({ length: LAYERS }, (_, layer) => layer),
  columns: ["ids", "experts"],
  origin: "score",
};

/** Ids as frequent as words are (Zipf's law), experts without repetition within a token. */
function makeChunk(start: number, random: RandomGenerator): TraceChunk {
  const ids = Int32Array.from({ length: CHUNK_TOKENS }, () => Math.floor(VOCABULARY ** uniform(random)) - 1);
  const experts = new Int16Array(LAYERS * CHUNK_TOKENS * SLOTS);
  for (let token = 0; token < LAYERS * CHUNK_TOKENS; token++) {
    const step = 1 + 2 * Math.floor((uniform(random) * EXPERTS) / 2);
    const first = Math.floor(uniform(random) * EXPERTS);
    for (let slot = 0; slot < SLOTS; slot++) experts[token * SLOTS + slot] = (first + slot * step) % EXPERTS;
  }
  const sequences = CHUNK_TOKENS / SEQUENCE_TOKENS;
  const runs = Array.from({ length: sequences }, (_, index) => {
    const sequence = (start / CHUNK_TOKENS) * sequences + index;
    return { sequence, source: sequence % SOURCES.length, position: 0, tokens: SEQUENCE_TOKENS };
  });
  return { start, tokens: CHUNK_TOKENS, runs, ids, experts };
}

function makeTrace(signal: AbortSignal): Trace {
  const random = createRandom(1, "bench/routing");
  const made = Array.from({ length: CHUNKS }, (_, index) => makeChunk(index * CHUNK_TOKENS, random));
  const count = Math.ceil(TOKENS / CHUNK_TOKENS);
  return {
    header: HEADER,
    tokens: count * CHUNK_TOKENS,
    sources: SOURCES,
    vocabulary: new Map(),
    async *chunks(_: TraceSelection = {}) {
      for (let index = 0; index < count; index++) {
        signal.throwIfAborted();
        const chunk = made[index % CHUNKS]!;
        const shift = Math.floor(index / CHUNKS) * CHUNKS * (CHUNK_TOKENS / SEQUENCE_TOKENS);
        const runs = chunk.runs.map((run) => ({ ...run, sequence: run.sequence + shift }));
        yield { ...chunk, runs, start: index * CHUNK_TOKENS };
      }
    },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: analyses of different counts.
type AnyAnalysis = Analysis<any, ResultHead>;

/** Intervals are left out: what they take does not grow with the trace. */
const NONE = { resamples: 0 };
const CASES: Readonly<Record<string, readonly AnyAnalysis[]>> = {
  "domains and load": [domainSpecialisation(NONE), loadBalance(NONE)],
  "co-activation, all pairs": [coactivation(NONE)],
  "cross-layer, top 1": [crossLayerRouting(NONE)],
  "vocabulary, input": [vocabularySpecialisation(NONE)],
};

/** Most resident memory in MiB while something runs, sampled, and seconds of processor time, which others on the machine change less than the clock's. */
async function resourcesOf(work: () => Promise<unknown>): Promise<{ mebibytes: number; seconds: number }> {
  let peak = 0;
  const sample = () => {
    peak = Math.max(peak, process.memoryUsage.rss());
  };
  const timer = setInterval(sample, 20);
  const start = process.cpuUsage();
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  sample();
  const { user, system } = process.cpuUsage(start);
  return { mebibytes: peak / 2 ** 20, seconds: (user + system) / 1e6 };
}

/** Rows of each analysis and of all; what they take together, and memory. */
export async function* routingBench({ repetitions, signal }: BenchOptions): AsyncGenerator<Row | string> {
  const trace = makeTrace(signal);
  const all = Object.values(CASES).flat();
  const timed = (name: string, work: () => Promise<unknown>): Contender => ({
    name,
    run: async () => {
      const start = performance.now();
      await work();
      return trace.tokens / ((performance.now() - start) / 1000);
    },
  });
  const limit = timed("adding up", async () => {
    let sum = 0;
    for await (const { experts } of trace.chunks())
      for (let place = 0; place < experts!.length; place++) sum += experts![place]!;
    if (sum === 0) throw new Error("internal: no experts");
  });
  const ours = [
    ...Object.entries(CASES).map(([name, analyses]) => timed(name, () => analyse(trace, analyses, { signal }))),
    timed("all of these", () => analyse(trace, all, { signal })),
  ];
  const measured = await interleave([limit, ...ours], { repetitions, signal });
  for (const { name } of ours) {
    const summaries = new Map([name, limit.name].map((key) => [key, measured.summaries.get(key)!]));
    const parts = {
      bench: "routing",
      case: name,
      unit: "tokens/s",
      machine: describeMachine(0),
      ours: name,
      limit: limit.name,
    };
    yield toRow(parts, { ...measured, summaries });
  }
  const { median, min, max } = measured.summaries.get("all of these")!;
  const seconds = (rate: number) => (trace.tokens / rate).toFixed(1);
  yield `all of these over ${trace.tokens} tokens x ${LAYERS} layers: ${seconds(median)} s (${seconds(max)} .. ${seconds(min)})`;
  const { mebibytes, seconds: busy } = await resourcesOf(() => analyse(trace, all, { signal }));
  yield `processor time of all of these: ${busy.toFixed(1)} s; memory of the process at most: ${mebibytes.toFixed(0)} MiB`;
}
