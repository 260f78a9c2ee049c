/** Laws of routing analyses, over small traces that are drawn. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NO_EXPERT, type Trace, type TraceChunk } from "../../src/formats/trace.ts";
import { type Analysis, analyse, type ResultHead } from "../../src/routing/analysis.ts";
import { coactivation, coactivationCounting } from "../../src/routing/coactivation.ts";
import { crossLayerRouting, pathCounting } from "../../src/routing/crossLayer.ts";
import { domainSpecialisation, specialisationTest } from "../../src/routing/domains.ts";
import { expertCounting } from "../../src/routing/expertCounts.ts";
import { loadBalance } from "../../src/routing/load.ts";
import { routerSaturation, routingChurn } from "../../src/routing/saturation.ts";
import { tokenIdRouting } from "../../src/routing/tokenIds.ts";
import { ID_KINDS, vocabularySpecialisation } from "../../src/routing/vocabulary.ts";
import { anyTrace, type DrawnTrace, traceOf } from "../routingTraces.ts";

const random = { seed: 1, resamples: 20 };
/** Every analysis of one trace; counts of whole numbers, so that results are equal bit for bit. */
// biome-ignore lint/suspicious/noExplicitAny: a list of analyses of different counts.
const analyses: Analysis<any, ResultHead>[] = [
  domainSpecialisation(random),
  specialisationTest(random),
  loadBalance({ ...random, k: 1 }),
  coactivation(random),
  coactivation({ ...random, pairs: "adjacent-ranks" }),
  crossLayerRouting(random),
  crossLayerRouting({ ...random, paths: "equal-ranks" }),
  tokenIdRouting({ leastOccurrences: 1, experts: [0] }),
  ...ID_KINDS.map((kind) => vocabularySpecialisation({ ...random, kind, leastOccurrences: 1 })),
];

const whole = ({ shape, runs }: DrawnTrace) => traceOf([runs], shape);

/** The same tokens with runs cut into pieces of at most so many, a chunk for each so many runs. */
function cut({ shape, runs }: DrawnTrace, pieceTokens: number, chunkRuns: number): Trace {
  const pieces = runs.flatMap((run) =>
    Array.from({ length: Math.ceil(run.tokens.length / pieceTokens) }, (_, index) => ({
      ...run,
      position: index * pieceTokens,
      tokens: run.tokens.slice(index * pieceTokens, (index + 1) * pieceTokens),
    })),
  );
  const chunks = Array.from({ length: Math.ceil(pieces.length / chunkRuns) }, (_, index) =>
    pieces.slice(index * chunkRuns, (index + 1) * chunkRuns),
  );
  return traceOf(chunks, shape);
}

async function chunksOf(trace: Trace): Promise<TraceChunk[]> {
  const chunks: TraceChunk[] = [];
  for await (const chunk of trace.chunks()) chunks.push(chunk);
  return chunks;
}

/** The trace with its experts under other names. */
function relabelled({ shape, runs }: DrawnTrace, names: readonly number[]): DrawnTrace {
  const rename = (expert: number) => (expert === NO_EXPERT ? expert : names[expert]!);
  const tokens = (run: DrawnTrace["runs"][number]) =>
    run.tokens.map((token) => ({ ...token, experts: token.experts.map((slots) => slots.map(rename)) }));
  return { shape, runs: runs.map((run) => ({ ...run, tokens: tokens(run) })) };
}

const traceAndNames = anyTrace.chain((trace) =>
  fc.record({
    trace: fc.constant(trace),
    names: fc.shuffledSubarray(
      Array.from({ length: trace.shape.numExperts }, (_, expert) => expert),
      { minLength: trace.shape.numExperts },
    ),
  }),
);

describe("routing analyses", () => {
  it("give the same however a trace is cut into chunks and runs", async () => {
    await fc.assert(
      fc.asyncProperty(
        anyTrace,
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 4 }),
        async (trace, piece, runs) => {
          expect(await analyse(cut(trace, piece, runs), analyses)).toEqual(await analyse(whole(trace), analyses));
        },
      ),
      { numRuns: 60 },
    );
  });

  it("give the same in whatever order chunks are added", async () => {
    await fc.assert(
      fc.asyncProperty(
        anyTrace,
        fc.integer({ min: 1, max: 2 }),
        fc.infiniteStream(fc.nat(100)),
        async (trace, piece, keys) => {
          const pieces = cut(trace, piece, 1);
          const chunks = await chunksOf(pieces);
          const order = chunks
            .map((chunk) => ({ chunk, key: keys.next().value as number }))
            .sort((a, b) => a.key - b.key);
          for (const analysis of analyses) {
            const [forward, shuffled] = [chunks, order.map(({ chunk }) => chunk)].map((list) => {
              const counter = analysis.counting.start(pieces);
              for (const chunk of list) counter.add(chunk);
              return analysis.statistics(counter.counts());
            });
            expect(shuffled).toEqual(forward);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it("permute with the names of experts", async () => {
    await fc.assert(
      fc.asyncProperty(traceAndNames, async ({ trace, names }) => {
        const list = [
          domainSpecialisation({ resamples: 0 }),
          specialisationTest(random),
          coactivation(random),
          crossLayerRouting(random),
        ] as const;
        const [domains, test, pairs, paths] = await analyse(whole(trace), list);
        const [domains2, test2, pairs2, paths2] = await analyse(whole(relabelled(trace, names)), list);
        const row = <T>(values: readonly T[]) => names.map((name) => values[name]!);
        const square = (values: readonly (readonly number[])[]) => row(values.map(row));
        expect(domains2.domains.map(({ layers }) => layers.map(({ shares }) => row(shares)))).toEqual(
          domains.domains.map(({ layers }) => layers.map(({ shares }) => shares)),
        );
        expect(pairs2.perLayer.map(({ shares }) => square(shares))).toEqual(pairs.perLayer.map(({ shares }) => shares));
        expect(paths2.domains.map(({ perStep }) => perStep.map(({ shares }) => square(shares)))).toEqual(
          paths.domains.map(({ perStep }) => perStep.map(({ shares }) => shares)),
        );
        // Intervals go with the pairs and paths, of which equal ones may be listed in another order.
        const pairsBy = (result: typeof pairs, rename: (expert: number) => number) =>
          result.perLayer.map(
            ({ strongest }) =>
              new Map(strongest.map(({ expert, other, ...rest }) => [`${rename(expert)} ${rename(other)}`, rest])),
          );
        const [mine, theirs] = [pairsBy(pairs, (expert) => names[expert]!), pairsBy(pairs2, (expert) => expert)];
        for (const [index, layer] of mine.entries()) {
          const common = [...layer].filter(([pair]) => theirs[index]!.has(pair));
          expect(common.map(([pair]) => theirs[index]!.get(pair))).toEqual(common.map(([, rest]) => rest));
        }
        for (const [index, { perStep }] of paths.domains.entries()) {
          for (const [step, { strongest, strongestInterval }] of perStep.entries()) {
            const other = paths2.domains[index]!.perStep[step]!;
            expect(other.strongest[2]).toBe(strongest[2]);
            if (other.strongest[0] !== names[strongest[0]] || other.strongest[1] !== names[strongest[1]]) continue;
            expect(other.strongestInterval).toEqual(strongestInterval);
          }
        }
        for (const [index, layer] of test.perLayer.entries()) {
          expect(test2.perLayer[index]!.information).toBeCloseTo(layer.information, 12);
        }
      }),
      { numRuns: 60 },
    );
  });

  it("add the counts of two traces where these are put together", async () => {
    await fc.assert(
      fc.asyncProperty(anyTrace, fc.nat(5), async (trace, at) => {
        const parts = [trace.runs.slice(0, at), trace.runs.slice(at)].map((runs) => ({ shape: trace.shape, runs }));
        const count = async <C>(
          counting: { start(trace: Trace): { add(chunk: TraceChunk): void; counts(): C } },
          one: DrawnTrace,
        ) => {
          const opened = whole(one);
          const counter = counting.start(opened);
          for (const chunk of await chunksOf(opened)) counter.add(chunk);
          return counter.counts();
        };
        const tables = async (one: DrawnTrace) => {
          const experts = await count(expertCounting(), one);
          const pairs = await count(coactivationCounting(), one);
          const paths = await count(pathCounting(), one);
          return {
            experts: new Map(experts.sources.map(({ name, counts }) => [name, counts])),
            pairs: pairs.together,
            paths: new Map(paths.sources.map(({ name, counts }) => [name, counts])),
          };
        };
        const [all, first, second] = await Promise.all([trace, ...parts].map(tables));
        const add = (a: Float64Array | undefined, b: Float64Array | undefined) =>
          Array.from({ length: (a ?? b)?.length ?? 0 }, (_, place) => (a?.[place] ?? 0) + (b?.[place] ?? 0));
        for (const [name, counts] of all!.experts) {
          expect(add(first!.experts.get(name), second!.experts.get(name))).toEqual([...counts]);
        }
        for (const [layer, counts] of all!.pairs.entries()) {
          expect(add(first!.pairs[layer], second!.pairs[layer])).toEqual([...counts]);
        }
        for (const [name, steps] of all!.paths) {
          for (const [step, counts] of steps.entries()) {
            expect(add(first!.paths.get(name)?.[step], second!.paths.get(name)?.[step])).toEqual([...counts]);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it("count pairs as two plain loops do, for any number of slots", async () => {
    const slotsOf = fc.integer({ min: 1, max: 11 }).chain((slots) =>
      fc.record({
        slots: fc.constant(slots),
        k: fc.integer({ min: 1, max: slots }),
        tokens: fc.array(
          fc.shuffledSubarray(
            Array.from({ length: 12 }, (_, e) => e),
            { maxLength: slots },
          ),
          {
            maxLength: 8,
          },
        ),
      }),
    );
    await fc.assert(
      fc.asyncProperty(slotsOf, async ({ slots, k, tokens }) => {
        const shape = { numExperts: 12, slots };
        const trace = traceOf([[{ tokens: tokens.map((experts, id) => ({ id, experts: [experts] })) }]], shape);
        const counter = coactivationCounting({ k }).start(trace);
        for (const chunk of await chunksOf(trace)) counter.add(chunk);
        const expected = Array<number>(144).fill(0);
        for (const experts of tokens) {
          const first = experts.slice(0, k);
          for (const i of first) for (const j of first) expected[12 * i + j]! += 1;
        }
        expect([...counter.counts().together[0]!]).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });

  it("find a checkpoint saturated by itself, unchanged, and symmetric in what two share", async () => {
    await fc.assert(
      fc.asyncProperty(traceAndNames, async ({ trace, names }) => {
        const named = (name: string, drawn: DrawnTrace, piece: number) => ({ name, trace: cut(drawn, piece, 2) });
        const [one, same, other] = [
          named("one", trace, 2),
          named("same", trace, 3),
          named("other", relabelled(trace, names), 1),
        ];
        const empty = trace.runs.every((run) =>
          run.tokens.every(({ experts }) => experts.every((slots) => slots.length === 0)),
        );
        const self = await routerSaturation([one, same], random);
        const used = self.checkpoints[0]!.shares.filter((share) => !Number.isNaN(share));
        expect(used).toEqual(used.map(() => 1));
        expect(used.length > 0).toBe(!empty);
        const churn = await routingChurn([one, same], random);
        expect(churn.changes[0]!.tokens.shares.every((share) => share === 0)).toBe(true);
        const [there, back] = [await routerSaturation([one, other]), await routerSaturation([other, one])];
        expect(back.checkpoints[0]!.shares).toEqual(there.checkpoints[0]!.shares);
      }),
      { numRuns: 40 },
    );
  });
});
