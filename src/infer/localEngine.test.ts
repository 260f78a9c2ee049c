/** The laws of an engine: what a request gets does not depend on anything but the request. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import type { Backend } from "../backend/backend.ts";
import type { Decoder } from "../model/decoder.ts";
import type { GeneratedToken, Generation, GenerationRequest } from "./engine.ts";
import { type EngineHooks, type EngineOptions, LocalEngine } from "./localEngine.ts";

const VOCABULARY = 50;
const CONTEXT = 160;

/** Everything that a generation gives. */
interface Outcome {
  readonly tokens: readonly GeneratedToken[];
  readonly generation: Generation;
}

async function collect(generation: AsyncGenerator<GeneratedToken, Generation>): Promise<Outcome> {
  const tokens: GeneratedToken[] = [];
  for (;;) {
    const next = await generation.next();
    if (next.done) return { tokens, generation: next.value };
    tokens.push(next.value);
  }
}

/** An outcome without what may differ: how much of the prompt was there already. */
function compared({ tokens, generation: { cachedTokens: _, ...generation } }: Outcome) {
  return { tokens, generation };
}

const GREEDY = { temperature: 0 };
const request = (changes: Partial<GenerationRequest> = {}): GenerationRequest => ({
  prompt: [1, 2, 3],
  maxTokens: 8,
  sampling: GREEDY,
  seed: 0,
  stopIds: [],
  ...changes,
});

/** Prompts of a few common beginnings, so that there is something to share. */
const prompts = fc
  .record({ start: fc.nat(2), length: fc.integer({ min: 1, max: 100 }), end: fc.nat(3) })
  .map(({ start, length, end }) =>
    Array.from({ length }, (_, index) => ((index < length - end ? start : 7 + end) * 13 + index * index) % VOCABULARY),
  );
const sampling = fc.constantFrom(
  GREEDY,
  { temperature: 1.2 },
  { temperature: 1, topK: 12, topP: 0.9, minP: 0.02 },
  { temperature: 1, typicalP: 0.8, frequencyPenalty: 0.5, repetitionPenalty: 1.2 },
);
const requests: fc.Arbitrary<GenerationRequest> = fc
  .record({
    prompt: prompts,
    maxTokens: fc.nat(14),
    sampling,
    seed: fc.nat(5),
    stopIds: fc.constantFrom([], [3, 4, 5]),
    logprobs: fc.constantFrom(undefined, 0, 3),
    promptLogprobs: fc.constantFrom(undefined, undefined, 0, 2),
    routing: fc.constantFrom(undefined, true),
    speculate: fc.constantFrom(undefined, 4),
  })
  .map((drawn) => ({ ...drawn, speculate: drawn.sampling === GREEDY ? drawn.speculate : undefined }));
const engineOptions = fc.record({
  cacheTokens: fc.integer({ min: 128, max: 400 }),
  passTokens: fc.integer({ min: 1, max: 64 }),
  sequences: fc.integer({ min: 1, max: 5 }),
  prefixCache: fc.boolean(),
});

describe.each(gradientBackends)("an engine on %s", (_, backend: Backend) => {
  const decoder: Decoder = createDecoder(
    backend,
    smallConfig({ vocabSize: VOCABULARY, maxPositionEmbeddings: CONTEXT }),
  );
  const engines: LocalEngine[] = [];
  const open = (options: EngineOptions = {}, hooks: EngineHooks = {}) => {
    const engine = new LocalEngine(backend, decoder, options, hooks);
    engines.push(engine);
    return engine;
  };
  afterAll(async () => {
    for (const engine of engines) await engine.close();
  });
  /** A request by itself: its prompt in one pass, one token in each other, nothing guessed. */
  const alone = async (wanted: GenerationRequest, options: EngineOptions = {}) => {
    const engine = new LocalEngine(backend, decoder, { ...options, passTokens: CONTEXT, prefixCache: false });
    const outcome = await collect(engine.generate({ ...wanted, speculate: undefined }));
    await engine.close();
    return compared(outcome);
  };

  it("gives each of many requests what it gets alone, bit for bit", async () => {
    const cacheType = fc.constantFrom("f32", "f16", "q8_0");
    const many = fc.array(fc.record({ wanted: requests, after: fc.nat(6) }), { minLength: 1, maxLength: 7 });
    await fc.assert(
      fc.asyncProperty(many, engineOptions, cacheType, async (list, options, type) => {
        const engine = new LocalEngine(backend, decoder, { ...options, cacheType: type });
        const outcomes = list.map(async ({ wanted, after }) => {
          for (let turn = 0; turn < after; turn++) await new Promise(setImmediate);
          return compared(await collect(engine.generate(wanted)));
        });
        const expected = [];
        for (const { wanted } of list) expected.push(await alone(wanted, { cacheType: type }));
        expect(await Promise.all(outcomes)).toEqual(expected);
        const { pages, running, waiting } = await engine.stats();
        expect([pages.used, running, waiting]).toEqual([0, 0, 0]);
        await engine.close();
      }),
      { seed: 11, numRuns: 12 },
    );
  });

  it("makes one pass of what fits, a token of each running sequence and chunks of prompts", async () => {
    const passes: number[] = [];
    const observe = { finalNorm: (hidden: { dim(axis: number): number }) => void passes.push(hidden.dim(0)) };
    const engine = open({ passTokens: 16, prefixCache: false }, { observe });
    const long = Array.from({ length: 40 }, (_, index) => index);
    const first = collect(engine.generate(request({ prompt: [1, 2, 3], maxTokens: 12 })));
    const generation = engine.generate(request({ prompt: long, maxTokens: 2 }));
    await Promise.all([first, collect(generation)]);
    // Both prompts share the first pass; from then on the long one gets a quarter of 16 tokens beside the other's one.
    expect(passes).toEqual([16, 5, 5, 5, 5, 5, 5, 4, 2, 1, 1, 1]);
  });
});
