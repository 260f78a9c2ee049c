/** The laws of an engine: what a request gets does not depend on anything but the request. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { aPass, collect, GREEDY, idsOf, type Outcome, request } from "../../test/engines.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import type { Backend } from "../backend/backend.ts";
import type { Decoder } from "../model/decoder.ts";
import type { GenerationRequest } from "./engine.ts";
import { type EngineHooks, type EngineOptions, LocalEngine } from "./localEngine.ts";
import { tokenLogProbs } from "./score.ts";

const VOCABULARY = 50;
const CONTEXT = 160;

/** An outcome without what may differ: how much of the prompt was there already. */
function compared({ tokens, generation: { cachedTokens: _, ...generation } }: Outcome) {
  return { tokens, generation };
}

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
    routing: fc.constantFrom<GenerationRequest["routing"][]>(
      undefined,
      true,
      { prompt: true },
      { prompt: true, columns: ["probabilities", "logits"] },
    ),
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
    const aborted = fc.option(fc.nat(8), { nil: undefined, freq: 3 });
    const many = fc.array(fc.record({ wanted: requests, after: fc.nat(6), aborted }), { minLength: 1, maxLength: 7 });
    await fc.assert(
      fc.asyncProperty(many, engineOptions, cacheType, async (list, options, type) => {
        const engine = new LocalEngine(backend, decoder, { ...options, cacheType: type });
        const outcomes = list.map(async ({ wanted, after, aborted: passes }) => {
          for (let pass = 0; pass < after; pass++) await aPass();
          if (passes === undefined) return compared(await collect(engine.generate(wanted)));
          const controller = new AbortController();
          const begun = collect(engine.generate({ ...wanted, signal: controller.signal })).catch(() => undefined);
          for (let pass = 0; pass < passes; pass++) await aPass();
          controller.abort();
          await begun;
          return undefined;
        });
        const expected = [];
        for (const { wanted, aborted: passes } of list) {
          expected.push(passes === undefined ? await alone(wanted, { cacheType: type }) : undefined);
        }
        expect(await Promise.all(outcomes)).toEqual(expected);
        await aPass();
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

  it("takes the pages of an earlier request that starts alike, and of one that is just being read", async () => {
    const engine = open({ passTokens: 40 });
    const prompt = Array.from({ length: 100 }, (_, index) => (index * 3) % VOCABULARY);
    const cached = async (length: number, maxTokens = 1) =>
      (await collect(engine.generate(request({ prompt: prompt.slice(0, length), maxTokens })))).generation.cachedTokens;
    // Pages hold 32 tokens, and the last token of a prompt is always read.
    expect([await cached(70), await cached(70), await cached(65), await cached(64)]).toEqual([0, 64, 64, 32]);
    expect(await Promise.all([cached(100), cached(100), cached(98)])).toEqual([64, 96, 96]);
    const continued = [...prompt, ...(await idsOf(engine.generate(request({ prompt, maxTokens: 40 })))), 1];
    const again = await collect(engine.generate(request({ prompt: continued, maxTokens: 1 })));
    expect(again.generation.cachedTokens).toBe(128);
    const { pages, promptTokens, cachedTokens } = await engine.stats();
    expect([pages, promptTokens, cachedTokens]).toEqual([{ used: 0, kept: 4, total: 5 }, 808, 640]);
  });

  it("guesses from the text, and greedy text stays what it is", async () => {
    const engine = open();
    // What a small model repeats, it repeats for long.
    const prompt = [5, 9, 5, 9, 5, 9];
    const wanted = request({ prompt, maxTokens: 120 });
    const plain = await idsOf(engine.generate(wanted));
    expect(await idsOf(engine.generate({ ...wanted, speculate: 6 }))).toEqual(plain);
    const { proposed, accepted } = (await engine.stats()).speculation;
    expect([proposed > 0, accepted > 0, accepted <= proposed]).toEqual([true, true, true]);
  });

  it("scores as a pass over the whole sequence without a cache does, bit for bit over f32 pages", async () => {
    const ids = Int32Array.from({ length: 90 }, (_, index) => (index * 11) % VOCABULARY);
    const engine = open({ passTokens: 33, cacheType: "f32", cacheTokens: 200 });
    const [logits, logprobs, embedding] = await Promise.all([
      engine.logits(ids),
      engine.logprobs(ids),
      engine.embed(ids),
    ]);
    expect(logits).toEqual(logitsOf(backend, decoder, ids));
    expect(logprobs).toEqual(tokenLogProbs(backend, decoder, ids));
    const hidden: Float32Array[] = [];
    logitsOf(backend, decoder, ids, { observe: { finalNorm: (rows) => void hidden.push(rows.data.slice()) } });
    const mean = Float32Array.from({ length: decoder.config.hiddenSize }, (_, channel) => {
      let sum = 0;
      for (let row = 0; row < 90; row++) sum += hidden[0]?.[row * decoder.config.hiddenSize + channel] as number;
      return sum / 90;
    });
    expect(embedding).toEqual(mean);
    expect([(await engine.logprobs([4])).length, (await engine.logits([])).length]).toEqual([0, 0]);
    expect((await engine.stats()).pages).toEqual({ used: 0, kept: 0, total: 7 });
  });

  it("gives the routing of the pass that each token came from", async () => {
    const prompt = [4, 8, 15];
    const seen: (readonly number[])[] = [];
    const observe = {
      routing: (_layer: number, { expertIds }: { expertIds: { data: Int32Array } }) =>
        void seen.push([...expertIds.data]),
    };
    const engine = open({}, { observe });
    const { tokens } = await collect(engine.generate(request({ prompt, maxTokens: 2, routing: true })));
    const { numHiddenLayers: layers, numExpertsPerTok: slots } = decoder.config;
    const last = (pass: number) =>
      seen.slice(pass * layers, (pass + 1) * layers).flatMap((experts) => experts.slice(-slots));
    expect(tokens.map(({ routing }) => [...(routing?.experts ?? [])])).toEqual([last(0), last(1)]);
    expect(tokens[0]?.routing?.weights.length).toBe(layers * slots);
    expect(tokens.map(({ promptRouting }) => promptRouting)).toEqual([undefined, undefined]);
  });

  it("gives the same routing in a trace as while a text is generated, from the prefix cache, and in one pass", async () => {
    const columns = ["probabilities", "logits"] as const;
    const prompt = Array.from({ length: 70 }, (_, index) => (index * 7) % VOCABULARY);
    const engine = open({ passTokens: 48, cacheType: "f32" });
    const wanted = request({ prompt, maxTokens: 3, routing: { prompt: true, columns } });
    // The pages that this one leaves have no routing: they are computed anew for the next.
    await collect(engine.generate({ ...wanted, routing: true }));
    const [first, second] = [await collect(engine.generate(wanted)), await collect(engine.generate(wanted))];
    expect([first.generation.cachedTokens, second.generation.cachedTokens]).toEqual([0, 64]);
    expect(second.tokens).toEqual(first.tokens);

    const ids = [...prompt, ...first.generation.ids.slice(0, -1)];
    const traced = await engine.trace(ids, { columns: ["logprobs", "predicted", ...columns] });
    const logits = logitsOf(backend, decoder, ids, { batch: 1 });
    const rowOf = (token: number) => [...logits.subarray(token * VOCABULARY, (token + 1) * VOCABULARY)];
    const seen: { experts: number[]; weights: number[]; probabilities: number[]; logits: number[] }[] = [];
    logitsOf(backend, decoder, ids, {
      batch: 1,
      observe: {
        routing: (_layer, { expertIds, expertWeights, probs, logits }) =>
          void seen.push({
            experts: [...expertIds.data],
            weights: [...expertWeights.value.data],
            probabilities: [...probs.data],
            logits: [...logits.data],
          }),
      },
    });
    const all = <Key extends keyof (typeof seen)[0]>(key: Key) => seen.flatMap((layer) => layer[key]);
    expect(traced).toEqual({
      ids: Int32Array.from(ids),
      tokens: ids.length,
      experts: Int16Array.from(all("experts")),
      weights: Float32Array.from(all("weights")),
      probabilities: Float32Array.from(all("probabilities")),
      logits: Float32Array.from(all("logits")),
      predicted: Int32Array.from(ids, (_, token) => rowOf(token).indexOf(Math.max(...rowOf(token)))),
      logprobs: Float32Array.from([...(await engine.logprobs(ids)), Number.NaN]),
    });
    const { promptRouting } = first.tokens[0] ?? {};
    const { numHiddenLayers: layers, numExpertsPerTok: slots } = decoder.config;
    const part = (from: number, to: number) =>
      Array.from({ length: layers }, (_, layer) => [
        ...traced.experts!.subarray((layer * ids.length + from) * slots, (layer * ids.length + to) * slots),
      ]).flat();
    expect([promptRouting?.position, promptRouting?.tokens]).toEqual([0, prompt.length - 1]);
    expect([...(promptRouting?.experts ?? [])]).toEqual(part(0, prompt.length - 1));
    expect(first.tokens.map(({ routing }) => [...routing!.experts])).toEqual(
      [0, 1, 2].map((token) => part(prompt.length - 1 + token, prompt.length + token)),
    );
  });

  it("refuses to trace nothing, or a column that there is not", async () => {
    const engine = open();
    await expect(engine.trace([])).rejects.toThrow("trace: the sequence is 0 tokens, expected at least 1");
    await expect(engine.trace([1], { columns: ["gates" as never] })).rejects.toThrow(
      'trace: columns: 0: "gates", expected one of "ids"|"experts"|"weights"|"predicted"|"logprobs"|"probabilities"|"logits"',
    );
  });
});
