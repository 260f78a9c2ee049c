import { describe, expect, it } from "vitest";
import { memoryTrace, NO_EXPERT, type Trace, type TraceChunk, type TraceHeader } from "../src/formats/trace.ts";
import { readBlock } from "./blocks.ts";
import { exampleTrace, parseExample } from "./example.ts";
import { sliceTrace } from "./slice.ts";
import { compareTraces, studyExpert, summarise } from "./statistics.ts";

const header: TraceHeader = {
  model: { name: "m", digest: "d", vocabSize: 10 },
  numExperts: 3,
  topK: 2,
  slots: 2,
  layers: [0, 2],
  columns: ["ids", "experts", "weights"],
  origin: "score",
};

/** Five tokens in two sequences of two sources, in two chunks; the last token has one expert in layer 2. */
function handTrace(changes: Partial<TraceChunk> = {}): Trace {
  const chunks: TraceChunk[] = [
    {
      start: 0,
      tokens: 3,
      runs: [{ sequence: 0, source: 0, position: 0, tokens: 3 }],
      ids: Int32Array.of(7, 8, 7),
      experts: Int16Array.of(0, 1, 1, 0, 0, 2, /* layer 2 */ 2, 0, 2, 1, 1, 2),
      weights: Float32Array.of(0.5, 0.25, 0.75, 0.125, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    },
    {
      start: 3,
      tokens: 2,
      runs: [{ sequence: 1, source: 1, position: 0, tokens: 2 }],
      ids: Int32Array.of(7, 9),
      experts: Int16Array.of(2, 1, 0, 1, /* layer 2 */ 0, 1, 1, NO_EXPERT),
      weights: Float32Array.of(0.5, 0.5, 1, 0, 0.5, 0.5, 1, 0),
      ...changes,
    },
  ];
  return memoryTrace(header, chunks, { sources: ["prose", "code"] });
}

async function last<T>(results: AsyncGenerator<T, T>): Promise<T> {
  for (;;) {
    const next = await results.next();
    if (next.done) return next.value;
  }
}

describe("a summary", () => {
  it("counts slots, first experts, sources and sequences", async () => {
    const { levels: _, ...summary } = await last(summarise(handTrace()));
    expect(summary).toEqual({
      tokens: 5,
      slots: Float64Array.of(4, 4, 2, /* layer 2 */ 2, 4, 3),
      first: Float64Array.of(3, 1, 1, /* layer 2 */ 1, 2, 2),
      bySource: [Float64Array.of(3, 2, 1, 1, 2, 3), Float64Array.of(1, 2, 1, 1, 2, 0)],
      sourceTokens: Float64Array.of(3, 2),
      sequences: [
        { sequence: 0, source: 0, start: 0, tokens: 3 },
        { sequence: 1, source: 1, start: 3, tokens: 2 },
      ],
    });
  });

  it("has for each bucket the most frequent first expert and its share; ties go to the lower number", async () => {
    const { levels } = await last(summarise(handTrace()));
    expect(levels.map(({ bucket, expert, share }) => ({ bucket, expert: [...expert], share: [...share] }))).toEqual(
      [16, 128, 1024].map((bucket) => ({ bucket, expert: [0, 1], share: [153, 102] })),
    );
    const example = exampleTrace({ tokens: 5000, layers: 2, experts: 8, topK: 2, checkpoints: 1 }, 1);
    const [small] = (await last(summarise(example))).levels;
    const { experts, tokens } = (await example.chunks({ start: 16, end: 32 })[Symbol.asyncIterator]().next()).value;
    const firsts = [0, 1].map((layer) => Array.from({ length: 16 }, (_, t) => experts[(layer * tokens + t) * 2]));
    const most = firsts.map((list) => Math.max(...list.map((one) => list.filter((other) => other === one).length)));
    expect([...small!.share.subarray(2, 4)]).toEqual(most.map((times) => Math.round((255 * times) / 16)));
  });

  it("of no tokens is zero", async () => {
    const { tokens, slots } = await last(summarise(memoryTrace(header, [])));
    expect([tokens, slots]).toEqual([0, new Float64Array(6)]);
  });
});

describe("an expert's facts", () => {
  it("are those counted by hand", async () => {
    expect(await last(studyExpert(handTrace(), 0, 0))).toEqual({
      tokens: 5,
      served: 4,
      first: 3,
      weight: (0.5 + 0.125 + 0.5 + 1) / 4,
      mostServed: [
        { id: 7, served: 2, all: 3 },
        { id: 8, served: 1, all: 1 },
        { id: 9, served: 1, all: 1 },
      ],
      mostOwn: [],
      together: Float64Array.of(0, 3, 1),
      strongest: [
        { token: 4, weight: 1 },
        { token: 0, weight: 0.5 },
      ],
    });
  });

  it("of one that never serves are zero", async () => {
    const never = memoryTrace({ ...header, numExperts: 4 }, []);
    expect(await last(studyExpert(never, 1, 3))).toMatchObject({ served: 0, weight: Number.NaN, mostServed: [] });
  });
});

describe("a comparison", () => {
  it("of a trace with itself is 1", async () => {
    const alignment = { startA: 0, startB: 0, tokens: 5 };
    expect(await last(compareTraces(handTrace(), handTrace(), alignment))).toEqual({
      tokens: 5,
      sameIds: 5,
      agreement: Float64Array.of(1, 1),
      sameFirst: Float64Array.of(1, 1),
      overlap: Float64Array.of(1, 1),
    });
  });

  it("counts experts of the same tokens in common, whatever their order", async () => {
    const other = handTrace({ ids: Int32Array.of(7, 5), experts: Int16Array.of(1, 2, 0, 1, 2, 1, 1, NO_EXPERT) });
    const result = await last(compareTraces(handTrace(), other, { startA: 0, startB: 0, tokens: 5 }));
    expect(result).toMatchObject({ tokens: 5, sameIds: 4 });
    expect([...result.agreement, ...result.sameFirst]).toEqual([1, 3.5 / 4, 3 / 4, 3 / 4]);
  });

  it("aligns parts of traces with chunks of other lengths", async () => {
    const size = { tokens: 9000, layers: 1, experts: 4, topK: 1, checkpoints: 1 };
    const example = exampleTrace(size, 1);
    const moved = sliceTrace(example, 100, 8000);
    const alignment = { startA: 4000, startB: 3900, tokens: 4000 };
    expect(await last(compareTraces(example, moved, alignment))).toMatchObject({
      tokens: 4000,
      sameIds: 4000,
      agreement: Float64Array.of(1),
    });
  });
});

it("blocks hold what belongs to a token together, over chunks of any length", async () => {
  expect(await readBlock(handTrace(), 0)).toEqual({
    start: 0,
    tokens: 5,
    ids: Int32Array.of(7, 8, 7, 7, 9),
    experts: Int16Array.of(0, 1, 2, 0, 1, 0, 2, 1, 0, 2, 1, 2, 2, 1, 0, 1, 0, 1, 1, NO_EXPERT),
    sequence: Int32Array.of(0, 0, 0, 1, 1),
    begins: Uint8Array.of(1, 0, 0, 1, 0),
  });
});

it("made-up data is the same however it is cut, and every token has different experts", async () => {
  expect(parseExample("20x3x8x2")).toEqual({ tokens: 20, layers: 3, experts: 8, topK: 2, checkpoints: 1 });
  expect(["", "20x3x8", "20x3x8x9", "0x3x8x2", "20x3x8x2x2x2", "1e3x-1x8x2"].map(parseExample)).toEqual(
    new Array(6).fill(undefined),
  );
  const trace = exampleTrace({ tokens: 5000, layers: 2, experts: 8, topK: 4, checkpoints: 3 }, 2);
  const part = (await trace.chunks({ start: 4090, end: 4096 })[Symbol.asyncIterator]().next()).value as TraceChunk;
  const one = (await trace.chunks({ start: 4093, end: 4094 })[Symbol.asyncIterator]().next()).value as TraceChunk;
  expect([...one.experts!]).toEqual(
    [0, 1].flatMap((layer) => [...part.experts!.slice((layer * 6 + 3) * 4, (layer * 6 + 4) * 4)]),
  );
  for (let row = 0; row < 12; row++) expect(new Set(part.experts!.slice(row * 4, row * 4 + 4)).size).toBe(4);
});
