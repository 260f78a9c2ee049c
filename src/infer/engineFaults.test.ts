/** Aborts, refusals, broken models, and what is left behind: nothing. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { aPass, collect, GREEDY, idsOf, request } from "../../test/engines.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { CheckpointError, ConfigError, OlmoeError, ResourceError, ShapeError } from "../errors.ts";
import { type EngineHooks, type EngineOptions, LocalEngine } from "./localEngine.ts";
import { notNumbers } from "./work.ts";

const [, backend] = gradientBackends[1]!;
const decoder = createDecoder(backend, smallConfig());
const engines: LocalEngine[] = [];
const open = (options: EngineOptions = {}, hooks: EngineHooks = {}) => {
  const engine = new LocalEngine(backend, decoder, options, hooks);
  engines.push(engine);
  return engine;
};
afterAll(async () => {
  for (const engine of engines) await engine.close();
});
const faultOf = (promise: Promise<unknown>) => promise.then(() => undefined).catch((error) => error);

describe("ending early", () => {
  it("stops within a token of an abort and throws the signal's reason", async () => {
    let passes = 0;
    const engine = open({}, { observe: { finalNorm: () => void passes++ } });
    const controller = new AbortController();
    const generation = engine.generate(request({ maxTokens: 100, signal: controller.signal }));
    await generation.next();
    const before = passes;
    controller.abort(new Error("enough"));
    expect(await faultOf(generation.next())).toBe(controller.signal.reason);
    await aPass();
    await aPass();
    expect(passes - before).toBeLessThanOrEqual(1);
    expect((await engine.stats()).running).toBe(0);
    const late = engine.generate(request({ signal: controller.signal }));
    expect(await faultOf(late.next())).toBe(controller.signal.reason);
    expect(await faultOf(engine.embed([1], { signal: controller.signal }))).toBe(controller.signal.reason);
  });

  it("leaves a new start of the request as if the first had never been", async () => {
    const prompt = Array.from({ length: 70 }, (_, index) => index % 50);
    const wanted = request({ prompt, maxTokens: 30, sampling: { temperature: 1 }, logprobs: 1, seed: 4 });
    const never = await collect(open().generate(wanted));
    await fc.assert(
      fc.asyncProperty(fc.nat(12), fc.boolean(), async (passes, prefixCache) => {
        const engine = new LocalEngine(backend, decoder, { passTokens: 24, prefixCache });
        const controller = new AbortController();
        const first = faultOf(collect(engine.generate({ ...wanted, signal: controller.signal })));
        for (let pass = 0; pass < passes; pass++) await aPass();
        controller.abort();
        await first;
        expect((await collect(engine.generate(wanted))).tokens).toEqual(never.tokens);
        await engine.close();
      }),
      { seed: 1, numRuns: 15 },
    );
  });

  it("keeps pages and memory flat through 2,000 short generations with aborts", async () => {
    const engine = open({ cacheTokens: 320, passTokens: 64, sequences: 6 });
    const random = fc.sample(
      fc.record({ start: fc.nat(3), length: fc.integer({ min: 1, max: 60 }), passes: fc.nat(6), aborts: fc.boolean() }),
      { seed: 9, numRuns: 2000 },
    );
    const memory: number[] = [];
    const listeners = new AbortController();
    const run = async ({ start, length, passes, aborts }: (typeof random)[number]) => {
      const prompt = Array.from({ length }, (_, index) => (start * 7 + index * index) % 50);
      const generation = engine.generate(request({ prompt, maxTokens: 5, signal: listeners.signal }));
      if (!aborts) return collect(generation);
      const first = generation.next();
      for (let pass = 0; pass < passes; pass++) await aPass();
      await generation.return(undefined as never);
      return first;
    };
    for (let start = 0; start < random.length; start += 10) {
      await Promise.all(random.slice(start, start + 10).map(run));
      memory.push(engine.memory.passBytes);
    }
    await aPass();
    const { pages, running, waiting } = await engine.stats();
    expect([pages.used, running, waiting, pages.total]).toEqual([0, 0, 0, 10]);
    expect(new Set(memory.slice(20)).size).toBe(1);
  });

  it("ends every request with one error when it is closed, and gives everything back", async () => {
    let held = 0;
    const counting = {
      ...backend,
      allocate(byteLength: number) {
        const block = backend.allocate(byteLength);
        held += 1;
        const release = () => {
          held -= 1;
          block.release();
        };
        const { address, byteOffset } = block;
        return {
          address,
          byteLength,
          byteOffset,
          release,
          get buffer() {
            return block.buffer;
          },
        };
      },
    };
    let disposed = 0;
    const engine = new LocalEngine(counting, decoder, { sequences: 1 }, { dispose: () => void disposed++ });
    const running = faultOf(collect(engine.generate(request({ maxTokens: 100 }))));
    const waiting = faultOf(collect(engine.generate(request({ maxTokens: 100 }))));
    const reading = faultOf(engine.logits([1, 2, 3]));
    await aPass();
    await aPass();
    await engine.close();
    await engine.close();
    const closed = new OlmoeError("E_CLOSED", "engine: it is closed, expected an open one", {
      hint: "open the model again",
    });
    expect([await running, await waiting, await reading]).toEqual([closed, closed, closed]);
    expect(await faultOf(collect(engine.generate(request())))).toEqual(closed);
    expect([held, disposed]).toEqual([0, 1]);
  });
});

describe("bounds", () => {
  it("refuses at once what can never fit, and more requests than may wait", async () => {
    const engine = open({ cacheTokens: 64, sequences: 1, queue: 2 });
    expect(await faultOf(collect(engine.generate(request({ maxTokens: 63 }))))).toEqual(
      new ResourceError("engine: the request may need 65 tokens of cache, it holds 64", {
        hint: "open the model with more cacheTokens, or ask for fewer tokens",
      }),
    );
    const outcomes = Array.from({ length: 4 }, () => faultOf(collect(engine.generate(request()))));
    expect(await Promise.all(outcomes)).toEqual([
      undefined,
      undefined,
      ...Array.from(
        { length: 2 },
        () =>
          new ResourceError("engine: 2 requests wait already, the most there may be", {
            hint: "try again later, or open the model with a longer queue",
          }),
      ),
    ]);
  });

  it("lets the youngest wait again when pages run out, which changes nothing", async () => {
    const wanted = [1, 2, 3].map((start) => request({ prompt: [start, 4, 9], maxTokens: 90, seed: start }));
    const large = open({ cacheTokens: 600, prefixCache: false });
    const expected = await Promise.all(wanted.map((each) => collect(large.generate(each))));
    // 92 tokens take 3 of the 4 pages.
    const small = open({ cacheTokens: 128 });
    const outcomes = await Promise.all(wanted.map((each) => collect(small.generate(each))));
    expect(outcomes).toEqual(expected);
  });

  it("lists every fault of its options and of a request", async () => {
    expect(() => open({ cacheTokens: 0, passTokens: 1.5 })).toThrow(
      new ConfigError(
        "engine: 2 faults\n  - cacheTokens: 0, expected number to be >=1\n  - passTokens: 1.5, expected int, received number",
      ),
    );
    const engine = open();
    const fault = (changes: object) => faultOf(collect(engine.generate(request(changes))));
    expect(await fault({ maxTokens: -1, stopIds: [0.5], speculate: -2 })).toEqual(
      new ConfigError(
        "generate: 3 faults\n  - maxTokens: -1, expected number to be >=0\n  - stopIds.0: 0.5, expected int, received number\n" +
          "  - speculate: -2, expected number to be >=0",
      ),
    );
    expect(await fault({ prompt: [] })).toEqual(
      new ShapeError("generate: the prompt is 0 tokens, expected at least 1", {
        hint: "start a document with the model's end of text",
      }),
    );
    expect(await fault({ prompt: new Int32Array(161) })).toEqual(
      new ShapeError("context: the prompt is 161 tokens, the model holds 160", {
        hint: "shorten the prompt to at most 160 tokens",
      }),
    );
    expect(await fault({ speculate: 3, sampling: { temperature: 1 } })).toEqual(
      new ConfigError("generate: speculate: 3, expected temperature 0, not 1", {
        hint: "leave speculate out, or set temperature to 0",
      }),
    );
    expect(await fault({ sampling: { temperature: 1, logitBias: { 50: 1 } } })).toEqual(
      new ConfigError("sampling: logitBias: there is no id 50, expected 0..49"),
    );
    expect(await faultOf(engine.embed([]))).toEqual(
      new ShapeError("embed: the sequence is 0 tokens, expected at least 1"),
    );
    expect(await faultOf(engine.logprobs([1, 0.5]))).toEqual(
      new ShapeError("sequence: id 0.5 at position 1 is outside 0..49"),
    );
  });
});

describe("a broken model", () => {
  it.each(["f32", "f16", "q8_0"] as const)(
    "ends the sequences that it gives no numbers for, by name, and leaves the others as they are (%s pages)",
    async (cacheType) => {
      const broken = createDecoder(backend, smallConfig());
      broken.parameters.get("model.embed_tokens.weight").value.data[7 * broken.config.hiddenSize] = NaN;
      // So few pages that those of the broken sequences are used again.
      const options = { cacheType, cacheTokens: 192, passTokens: 50 };
      const [engine, whole] = [new LocalEngine(backend, broken, options), open({ cacheType, cacheTokens: 192 })];
      const start = Array.from({ length: 60 }, (_, index) => 10 + (index % 30));
      const good = request({ prompt: start, sampling: { temperature: 0, logitBias: { 7: -100 } } });
      const expected = await idsOf(whole.generate(good));
      const found = await Promise.all([
        faultOf(collect(engine.generate(request({ prompt: [...start, 7, 1] })))),
        idsOf(engine.generate(good)),
        faultOf(engine.logprobs([1, 7, 2])),
        faultOf(engine.embed([7])),
      ]);
      const place = (request: number, positions: string) =>
        notNumbers(`request ${request}, positions ${positions}: the hidden state is NaN, expected numbers`);
      expect(found).toEqual([place(1, "47..61"), expected, place(3, "0..1"), place(4, "0..0")]);
      for (let count = 0; count < 3; count++) {
        await faultOf(engine.logits(Int32Array.from({ length: 150 }, (_, index) => 7 - (index % 2))));
        expect(await idsOf(engine.generate(good))).toEqual(expected);
      }
      await engine.close();
    },
  );

  it("names the position whose logits are not numbers", async () => {
    const broken = createDecoder(backend, smallConfig());
    broken.parameters.get("lm_head.weight").value.data[7 * broken.config.hiddenSize] = NaN;
    const engine = new LocalEngine(backend, broken);
    expect(await faultOf(collect(engine.generate(request())))).toEqual(
      notNumbers("request 1, position 2: logit 7 of 50 is NaN, expected a number"),
    );
    expect(await faultOf(engine.logprobs([1, 2, 3]))).toEqual(
      notNumbers("request 2, position 0: the log-probability is NaN, expected a number"),
    );
    expect(await faultOf(engine.logits([1, 2]))).toEqual(
      notNumbers("request 3, position 0: a logit is NaN, expected a number"),
    );
    await engine.close();
  });

  it("makes nothing of a pass whose check fails, and goes on when it passes again", async () => {
    let damaged = false;
    const fault = new CheckpointError("model.gguf: 10 bytes, expected 20: it was cut short");
    const check = () => {
      if (damaged) throw fault;
    };
    const engine = open({}, { check });
    const generation = engine.generate(request({ maxTokens: 100, sampling: GREEDY }));
    await generation.next();
    damaged = true;
    expect(await faultOf(collect(generation))).toBe(fault);
    damaged = false;
    expect((await idsOf(engine.generate(request()))).length).toBe(8);
  });
});
