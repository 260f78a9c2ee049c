/** Interventions in an engine: each request has its own, whatever else is computed in the same passes. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { aPass, collect, GREEDY, type Outcome, request } from "../../test/engines.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { anyInterventions } from "../../test/interventions.ts";
import { createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import type { InterventionInput } from "../config/intervention.ts";
import { ConfigError } from "../errors.ts";
import { InterventionPlan } from "../nn/intervention.ts";
import type { GenerationRequest } from "./engine.ts";
import { type EngineOptions, LocalEngine } from "./localEngine.ts";

const VOCABULARY = 50;
const CONTEXT = 160;
const config = smallConfig({ vocabSize: VOCABULARY, maxPositionEmbeddings: CONTEXT, numHiddenLayers: 2 });

/** An outcome without what may differ: how much of the prompt was there already. */
function compared({ tokens, generation: { cachedTokens: _, ...generation } }: Outcome) {
  return { tokens, generation };
}

const MASK: readonly InterventionInput[] = [{ kind: "mask", experts: [0, 3] }];
const MORE: readonly InterventionInput[] = [{ kind: "top_k", k: 5, layers: [1], tokens: { from: 3, to: 40 } }];
const kinds = fc.oneof(fc.constantFrom(undefined, MASK, MORE), anyInterventions(config, 90));

/** Prompts of few beginnings, so that there is something to share. */
const requests: fc.Arbitrary<GenerationRequest> = fc
  .record({
    start: fc.nat(1),
    length: fc.integer({ min: 1, max: 90 }),
    maxTokens: fc.nat(10),
    sampling: fc.constantFrom(GREEDY, { temperature: 1.2 }),
    promptLogprobs: fc.constantFrom(undefined, 0),
    routing: fc.constantFrom(undefined, true, { prompt: true, columns: ["logits" as const] }),
    speculate: fc.constantFrom(undefined, 4),
    interventions: kinds,
  })
  .map(({ start, length, ...drawn }) => ({
    ...drawn,
    prompt: Array.from({ length }, (_, index) => (start * 13 + index * index) % VOCABULARY),
    seed: 3,
    stopIds: [],
    speculate: drawn.sampling === GREEDY ? drawn.speculate : undefined,
  }));
const engineOptions = fc.record({
  cacheTokens: fc.integer({ min: 128, max: 300 }),
  passTokens: fc.integer({ min: 1, max: 64 }),
  sequences: fc.integer({ min: 1, max: 5 }),
  prefixCache: fc.boolean(),
});

describe.each(gradientBackends)("an engine on %s", (_, backend) => {
  const decoder = createDecoder(backend, config);
  const engines: LocalEngine[] = [];
  const open = (options: EngineOptions = {}) => {
    const engine = new LocalEngine(backend, decoder, options);
    engines.push(engine);
    return engine;
  };
  afterAll(async () => {
    for (const engine of engines) await engine.close();
  });

  it("gives each of many requests what it gets alone, bit for bit, restarts and shared pages included", async () => {
    const many = fc.array(fc.record({ wanted: requests, after: fc.nat(6) }), { minLength: 2, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(many, engineOptions, async (list, options) => {
        const engine = new LocalEngine(backend, decoder, options);
        const outcomes = await Promise.all(
          list.map(async ({ wanted, after }) => {
            for (let pass = 0; pass < after; pass++) await aPass();
            return compared(await collect(engine.generate(wanted)));
          }),
        );
        await engine.close();
        for (const [index, { wanted }] of list.entries()) {
          const alone = new LocalEngine(backend, decoder, { passTokens: CONTEXT, prefixCache: false });
          const expected = compared(await collect(alone.generate({ ...wanted, speculate: undefined })));
          await alone.close();
          expect(outcomes[index]).toEqual(expected);
        }
      }),
      { seed: 21, numRuns: 12 },
    );
  });

  it("shares pages among equal interventions and never with others", async () => {
    const engine = open({ passTokens: 40, cacheTokens: 800 });
    const prompt = Array.from({ length: 100 }, (_, index) => (index * 3) % VOCABULARY);
    const cached = async (interventions?: readonly InterventionInput[]) =>
      (await collect(engine.generate(request({ prompt, maxTokens: 1, interventions })))).generation.cachedTokens;
    expect([await cached(), await cached(), await cached([])]).toEqual([0, 96, 96]);
    expect([await cached(MASK), await cached(MORE), await cached(MASK)]).toEqual([0, 0, 96]);
    // The same in other words, and a copy of a recorded route.
    expect(await cached([{ layers: "all", experts: [0, 3], kind: "mask", tokens: {} }])).toBe(96);
    const replay = (last: number): readonly InterventionInput[] => [
      { kind: "replay", trace: { layers: [0], positions: 2, slots: 1, experts: Int16Array.of(1, last) } },
    ];
    expect([await cached(replay(2)), await cached(replay(2)), await cached(replay(3))]).toEqual([0, 96, 0]);
    expect(await Promise.all([cached([{ kind: "uniform" }]), cached([{ kind: "random" }])])).toEqual([0, 0]);
  });

  it("reads sequences under interventions, several in one pass", async () => {
    const ids = Int32Array.from({ length: 60 }, (_, index) => (index * 11) % VOCABULARY);
    const engine = open({ passTokens: 33, cacheType: "f32", cacheTokens: 600 });
    const interventions = MORE;
    const expected = logitsOf(backend, decoder, ids, { interventions: [new InterventionPlan(MORE, config)] });
    const [plain, logits, logprobs, plainLogprobs, masked, embedding, plainEmbedding] = await Promise.all([
      engine.logits(ids),
      engine.logits(ids, { interventions }),
      engine.logprobs(ids, { interventions }),
      engine.logprobs(ids),
      engine.logits(ids, { interventions: MASK }),
      engine.embed(ids, { interventions }),
      engine.embed(ids),
    ]);
    expect(plain).toEqual(logitsOf(backend, decoder, ids));
    expect(logits).toEqual(expected);
    expect(masked).toEqual(logitsOf(backend, decoder, ids, { interventions: [new InterventionPlan(MASK, config)] }));
    expect([logprobs, embedding]).not.toEqual([plainLogprobs, plainEmbedding]);
    const row = expected.subarray(30 * VOCABULARY, 31 * VOCABULARY);
    const total = row.reduce((sum, logit) => sum + Math.exp(logit), 0);
    expect(logprobs[30]).toBeCloseTo((row[ids[31] as number] as number) - Math.log(total), 5);
  });

  it("traces under interventions with their number of slots, and a replay of the trace gives the same bits", async () => {
    const ids = Int32Array.from({ length: 50 }, (_, index) => (index * 11) % VOCABULARY);
    const engine = open({ passTokens: 20, cacheTokens: 600 });
    const traced = await engine.trace(ids, { interventions: MORE, columns: ["logprobs"] });
    const { experts = new Int16Array(), weights, logprobs } = traced;
    const slots = 5;
    expect([experts.length, weights?.length]).toEqual([2 * 50 * slots, 2 * 50 * slots]);
    const used = (layer: number, position: number) =>
      experts.subarray((layer * 50 + position) * slots, (layer * 50 + position + 1) * slots).filter((e) => e >= 0)
        .length;
    const { numExpertsPerTok: topK } = config;
    expect([used(0, 10), used(1, 2), used(1, 3), used(1, 39), used(1, 40)]).toEqual([topK, topK, 5, 5, topK]);
    const replay = { kind: "replay", trace: { layers: [0, 1], positions: 50, slots, experts } } as const;
    const again = await engine.trace(ids, { interventions: [replay], columns: ["logprobs"] });
    expect([again.experts, again.logprobs]).toEqual([experts, logprobs]);
  });

  it("refuses interventions that do not fit the model, and goes on with the others", async () => {
    const engine = open();
    const interventions: readonly InterventionInput[] = [{ kind: "mask", experts: [99], layers: [9] }];
    const faults =
      "2 faults\n  - interventions.0.layers.0: 9, the model has layers 0..1\n" +
      "  - interventions.0.experts.0: 99, the model has experts 0..7";
    const other = collect(engine.generate(request()));
    await expect(collect(engine.generate(request({ interventions })))).rejects.toThrow(
      new ConfigError(`generate: ${faults}`),
    );
    await expect(engine.logprobs([1, 2], { interventions })).rejects.toThrow(new ConfigError(`score: ${faults}`));
    await expect(engine.trace([1, 2], { interventions })).rejects.toThrow(new ConfigError(`trace: ${faults}`));
    expect((await other).generation.ids.length).toBe(8);
  });
});
