import { afterAll, describe, expect, it } from "vitest";
import { Graph } from "../autograd/graph.ts";
import type { Backend } from "../backend/backend.ts";
import { availableBackends } from "../backend/io.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { resolveModel } from "../config/presets.ts";
import { ConfigError, ShapeError } from "../errors.ts";
import { PagePool } from "../model/cache.ts";
import { Decoder, type ForwardOptions } from "../model/decoder.ts";
import { Parameters } from "../model/parameters.ts";
import { Arena } from "../tensor/arena.ts";
import { type GenerateOptions, generate } from "./generate.ts";
import { tokenLogProbs } from "./score.ts";

const CONTEXT = 64;
const reference = createReferenceBackend();
const backends: readonly Backend[] = [...(await availableBackends()), reference];
const named = backends.map((backend) => [`${backend.name} ${backend.isa}`, backend] as const);

/** A random model whose weights are large enough to give each token its own logits. */
function tinyModel(backend: Backend, overrides: Readonly<Record<string, unknown>> = {}): Decoder {
  const config = resolveModel({ preset: "tiny", eosTokenId: 0, initializerRange: 0.3, ...overrides });
  const parameters = new Parameters(backend, config, { trainable: false });
  parameters.initialise(5);
  return new Decoder(backend, parameters);
}

const prompt = Int32Array.from({ length: 13 }, (_, index) => (index * 37 + 11) % 512);
const greedy: GenerateOptions = { maxTokens: 8, sampling: { temperature: 0 }, stopIds: [] };

/** All ids, and why they ended. */
async function collect(generation: AsyncGenerator<number, string>): Promise<{ ids: number[]; reason: string }> {
  const ids: number[] = [];
  for (;;) {
    const next = await generation.next();
    if (next.done) return { ids, reason: next.value };
    ids.push(next.value);
  }
}

describe.each(named)("the cache on %s", (_, backend) => {
  const arena = new Arena(backend);
  afterAll(() => arena.dispose());
  const logitsOf = (decoder: Decoder, ids: ArrayLike<number>, options: ForwardOptions = {}) => {
    arena.reset();
    const graph = new Graph(backend, arena, { record: false });
    const { hidden } = decoder.forward(graph, ids, options);
    return decoder.logits(graph, hidden).value.data.slice();
  };

  it.each([
    ["tiny", {}],
    ["grouped queries", { numKeyValueHeads: 1 }],
    ["dense", { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1, intermediateSize: 32 }],
  ])(
    "gives the %s model the full forward's logits bit for bit, at every position and from every split",
    (_, change) => {
      const decoder = tinyModel(backend, change);
      const full = logitsOf(decoder, prompt);
      const { vocabSize } = decoder.config;
      const pool = new PagePool(backend, decoder.config, { pages: 1, type: "f32" });
      for (const split of [1, 5, prompt.length]) {
        const cache = pool.sequence();
        const pass = (ids: Int32Array) => logitsOf(decoder, ids, { sequences: [{ tokens: ids.length, cache }] });
        const parts = [pass(prompt.subarray(0, split))];
        for (const id of prompt.subarray(split)) parts.push(pass(Int32Array.of(id)));
        const joined = Float32Array.from(parts.flatMap((part) => [...part]));
        expect(joined.length).toBe(prompt.length * vocabSize);
        expect(joined).toEqual(full);
        cache.release();
      }
      pool.dispose();
    },
  );

  it("generates what full forwards without a cache choose", async () => {
    const decoder = tinyModel(backend);
    const { ids } = await collect(generate(backend, decoder, prompt, greedy));
    const sequence = [...prompt];
    for (let count = 0; count < 8; count++) {
      const logits = logitsOf(decoder, sequence).slice(-512);
      sequence.push(logits.indexOf(Math.max(...logits)));
    }
    expect(ids).toEqual(sequence.slice(13));
  });
});

describe("generate", () => {
  const backend = reference;
  const decoder = tinyModel(backend);
  const sampled = (seed: number): GenerateOptions => ({ ...greedy, sampling: { temperature: 1.5, topK: 50 }, seed });

  it("draws the same tokens from the same seed, and others from another", async () => {
    const draw = async (seed: number) => (await collect(generate(backend, decoder, prompt, sampled(seed)))).ids;
    const [first, again, other] = [await draw(1), await draw(1), await draw(2)];
    expect(first).toEqual(again);
    expect(first).not.toEqual(other);
  });

  it("ends after maxTokens", async () => {
    expect(await collect(generate(backend, decoder, prompt, { ...greedy, maxTokens: 0 }))).toEqual({
      ids: [],
      reason: "length",
    });
    const { ids, reason } = await collect(generate(backend, decoder, prompt, greedy));
    expect([ids.length, reason]).toEqual([8, "length"]);
  });

  it("ends at a stop id and leaves it out", async () => {
    const { ids } = await collect(generate(backend, decoder, prompt, greedy));
    const stopIds = [ids[3] as number];
    expect(await collect(generate(backend, decoder, prompt, { ...greedy, stopIds }))).toEqual({
      ids: ids.slice(0, ids.indexOf(stopIds[0] as number)),
      reason: "stop",
    });
  });

  it("ends where the model's context ends", async () => {
    const full = Int32Array.from({ length: CONTEXT }, (_, index) => index);
    const many = { ...greedy, maxTokens: 1000 };
    const { ids, reason } = await collect(generate(backend, decoder, full.subarray(0, CONTEXT - 2), many));
    expect([ids.length, reason]).toEqual([3, "context"]);
    expect((await collect(generate(backend, decoder, full, many))).ids.length).toBe(1);
  });

  it("starts an empty prompt from the end of text", async () => {
    const [empty, eos] = [[], [0]].map((ids) => collect(generate(backend, decoder, ids, greedy)));
    expect(await empty).toEqual(await eos);
    const without = tinyModel(backend, { eosTokenId: null });
    await expect(collect(generate(backend, without, [], greedy))).rejects.toThrow(
      new ConfigError("generate: an empty prompt starts from eosTokenId, which the model config leaves out", {
        hint: "give a prompt of at least one token",
      }),
    );
  });

  it("refuses a prompt that does not fit, and bad options", async () => {
    const start = (ids: ArrayLike<number>, options = greedy) => collect(generate(backend, decoder, ids, options));
    const tooLong = await start(new Int32Array(CONTEXT + 1)).catch((error) => error);
    expect(tooLong).toBeInstanceOf(ShapeError);
    expect([tooLong.message, tooLong.hint]).toEqual([
      "context: the prompt is 65 tokens, the model holds 64",
      "shorten the prompt to at most 64 tokens",
    ]);
    await expect(start([3, 512])).rejects.toThrow(new ShapeError("prompt: id 512 at position 1 is outside 0..511"));
    await expect(start(prompt, { ...greedy, maxTokens: -1, seed: 0.5 })).rejects.toThrow(
      "generate: 2 faults\n  - maxTokens: -1, expected number to be >=0\n  - seed: 0.5, expected int, received number",
    );
    await expect(start(prompt, { ...greedy, sampling: { temperature: -1 } })).rejects.toThrow(
      new ConfigError("sampling: temperature: -1, expected number to be >=0"),
    );
  });

  it("stops within one token of an abort", async () => {
    const controller = new AbortController();
    let passes = 0;
    const options = { ...greedy, signal: controller.signal, observe: { finalNorm: () => void passes++ } };
    const generation = generate(backend, decoder, prompt, options);
    await generation.next();
    await generation.next();
    setImmediate(() => controller.abort());
    await expect(collect(generation)).rejects.toThrow(controller.signal.reason);
    expect(passes).toBeLessThanOrEqual(3);
  });

  it("gives all memory back, however it ends", async () => {
    let held = 0;
    const counting: Backend = {
      ...backend,
      allocate(byteLength) {
        const block = backend.allocate(byteLength);
        held += 1;
        return { ...block, address: block.address, byteLength, buffer: block.buffer, release: () => void held-- };
      },
    };
    await collect(generate(counting, decoder, prompt, greedy));
    expect(held).toBe(0);
    for await (const _ of generate(counting, decoder, prompt, greedy)) break;
    expect(held).toBe(0);
    await collect(generate(counting, decoder, [999], greedy)).catch(() => undefined);
    expect(held).toBe(0);
  });

  it("shows each pass to an observer", async () => {
    const tokens: number[] = [];
    const observe = {
      routing: (layer: number, { expertIds }: { expertIds: { shape: readonly number[] } }) => {
        if (layer === 0) tokens.push(expertIds.shape[0] as number);
      },
    };
    await collect(generate(backend, decoder, prompt, { ...greedy, maxTokens: 3, observe }));
    expect(tokens).toEqual([13, 1, 1]);
  });
});

describe("tokenLogProbs", () => {
  it("sums to 1 over all next tokens, and is empty without one", () => {
    const decoder = tinyModel(reference, { vocabSize: 20 });
    const last = Array.from({ length: 20 }, (_, id) => tokenLogProbs(reference, decoder, [3, 7, id])[1] as number);
    expect([last.reduce((sum, value) => sum + Math.exp(value), 0)]).toBeAllClose([1], { atol: 1e-6 });
    expect([...tokenLogProbs(reference, decoder, [3])]).toEqual([]);
  });
});
