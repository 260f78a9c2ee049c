import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { smallConfig } from "../../test/models.ts";
import { output, ROOT } from "../../test/policy/repository.ts";
import { availableBackends } from "../backend/io.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { CheckpointError, ConfigError, OlmoeError, ShapeError } from "../errors.ts";
import { saveModel } from "../formats/model.io.ts";
import { Parameters } from "../model/parameters.ts";
import type { Engine, GeneratedToken, Generation, GenerationRequest } from "./engine.ts";
import type { LocalEngine } from "./localEngine.ts";
import { type EngineOpening, type OpenedFacts, openEngine } from "./opener.io.ts";
import { openWorkerEngine } from "./worker.io.ts";

const OPENER = new URL("./opener.io.ts", import.meta.url);
const config = smallConfig();
const backend = createReferenceBackend();
const parameters = new Parameters(backend, config, { trainable: false });
parameters.initialise(1);
let folder: string;
/** The same on this thread. */
let local: LocalEngine;

beforeAll(async () => {
  // A worker runs the compiled code.
  output(process.execPath, ["scripts/setup.mjs"]);
  folder = await mkdtemp(join(tmpdir(), "olmoe-worker-"));
  await saveModel(folder, parameters);
  local = (await openEngine(options(), { notice: () => {}, progress: () => {} })).engine;
});
afterAll(async () => {
  await local.close();
  await rm(folder, { recursive: true });
});

const options = (): EngineOpening => ({ path: folder, backend: "reference" });
const open = () => openWorkerEngine<OpenedFacts>(OPENER, options());

const request = (changes: Partial<GenerationRequest> = {}): GenerationRequest => ({
  prompt: Array.from({ length: 40 }, (_, index) => (index * 7) % 50),
  maxTokens: 6,
  sampling: { temperature: 1, topK: 20, logitBias: { 7: 0.5 } },
  seed: 3,
  stopIds: [],
  ...changes,
});
const ENDLESS = request({ prompt: [1], maxTokens: 150, sampling: { temperature: 0 } });

async function collect(generation: AsyncGenerator<GeneratedToken, Generation>) {
  const tokens: GeneratedToken[] = [];
  for (;;) {
    const next = await generation.next();
    if (next.done) return { tokens, generation: next.value };
    tokens.push(next.value);
  }
}

/** The first token of a generation, which then goes on. */
async function started(engine: Engine, signal?: AbortSignal) {
  const generation = engine.generate({ ...ENDLESS, signal });
  expect((await generation.next()).done).toBe(false);
  return generation;
}

describe("an engine in a worker", () => {
  it("gives what an engine on the caller's thread gives", async () => {
    const { engine, info } = await open();
    expect(info.backend).toEqual({ name: "reference", isa: "typescript", threads: 1 });
    expect(engine.config).toEqual(local.config);
    const wanted = request({ logprobs: 2, promptLogprobs: 3, routing: { prompt: true, columns: ["logits"] } });
    const [theirs, ours] = [await collect(engine.generate(wanted)), await collect(local.generate(wanted))];
    expect(theirs).toEqual(ours);
    expect(theirs.generation.promptLogprobs?.length).toBe(39);
    const ids = [...(wanted.prompt as number[])];
    expect(await engine.logprobs(ids)).toEqual(await local.logprobs(ids));
    expect(await engine.logits(ids)).toEqual(await local.logits(ids));
    expect(await engine.embed(ids)).toEqual(await local.embed(ids));
    const columns = ["predicted", "logprobs", "probabilities"] as const;
    expect(await engine.trace(ids, { columns })).toEqual(await local.trace(ids, { columns }));
    expect(await engine.stats()).toEqual(await local.stats());
    await engine.close();
  });

  it("computes under interventions, recorded routes included", async () => {
    const { engine } = await open();
    const prompt = [1, 2, 3, 4, 5, 6];
    const own = await local.trace(prompt);
    const trace = { layers: [0], positions: 3, slots: 2, experts: (own.experts as Int16Array).slice(0, 6).reverse() };
    const interventions = [{ kind: "replay", trace } as const, { kind: "top_k", k: 3, tokens: { from: 4 } } as const];
    const wanted = request({ prompt, interventions, routing: true });
    const ours = await collect(local.generate(wanted));
    expect(await collect(engine.generate(wanted))).toEqual(ours);
    expect(ours).not.toEqual(await collect(local.generate(request({ prompt, routing: true }))));
    for (const read of ["logprobs", "logits", "embed", "trace"] as const) {
      const theirs = await engine[read](prompt, { interventions });
      expect(theirs).toEqual(await local[read](prompt, { interventions }));
      expect(theirs).not.toEqual(await local[read](prompt));
    }
    await expect(engine.embed(prompt, { interventions: [{ kind: "top_k", k: 99 }] })).rejects.toThrow(
      new ConfigError("score: interventions.0.k: 99, the model has 8 experts in a layer"),
    );
    await engine.close();
  });

  it("is one for two handles to one model; closing one ends its own requests only", async () => {
    const [one, two] = [await open(), await open()];
    const [ofOne, ofTwo] = [await started(one.engine), await started(two.engine)];
    expect((await one.engine.stats()).running).toBe(2);
    const ended = collect(ofOne).catch((error) => error);
    await one.engine.close();
    expect(await ended).toEqual(
      new OlmoeError("E_CLOSED", "engine: it is closed, expected an open one", { hint: "open the model again" }),
    );
    await expect(one.engine.stats()).rejects.toThrow("engine: it is closed");
    expect((await collect(ofTwo)).generation.ids.length).toBe(150);
    expect((await two.engine.stats()).running).toBe(0);
    await two.engine.close();
    // A new one starts from nothing.
    const three = await open();
    expect((await three.engine.stats()).generatedTokens).toBe(0);
    await three.engine.close();
  });

  it("runs native kernels in several workers at once", async ({ skip }) => {
    if (!(await availableBackends()).some(({ name }) => name === "native")) skip("no native backend on this machine");
    const engines = await Promise.all(
      [160, 320, 480].map((cacheTokens) =>
        openWorkerEngine(OPENER, { path: folder, backend: "native", threads: 2, engine: { cacheTokens } }),
      ),
    );
    const texts = await Promise.all(engines.map(({ engine }) => collect(engine.generate({ ...ENDLESS, logprobs: 1 }))));
    expect(texts.map(({ generation }) => generation.ids.length)).toEqual([150, 150, 150]);
    expect([texts[1], texts[2]]).toEqual([texts[0], texts[0]]);
    // The library and its threads outlive a worker.
    await engines[0]?.engine.close();
    expect((await collect(engines[1]!.engine.generate({ ...ENDLESS, logprobs: 1 }))).tokens).toEqual(texts[0]?.tokens);
    for (const { engine } of engines) await engine.close();
  });

  it("does not keep a process alive that has all it asked for", async () => {
    const script = join(folder, "forgetful.mjs");
    const module = (name: string) => JSON.stringify(pathToFileURL(join(ROOT, "dist/infer", name)).href);
    await writeFile(
      script,
      `import { openWorkerEngine } from ${module("worker.io.js")};
      const { engine } = await openWorkerEngine(${module("opener.io.js")}, ${JSON.stringify(options())});
      console.log((await engine.logprobs([1, 2, 3])).length);`,
    );
    expect(output(process.execPath, [script])).toBe("2\n");
  });

  it("ends a request that is aborted or left, and no other", async () => {
    const { engine } = await open();
    const controller = new AbortController();
    const [aborted, left, whole] = [
      await started(engine, controller.signal),
      await started(engine),
      collect(engine.generate(request())),
    ];
    const fault = collect(aborted).catch((error) => error);
    controller.abort(new Error("enough"));
    await left.return({} as Generation);
    expect(await fault).toBe(controller.signal.reason);
    expect((await whole).tokens).toEqual((await collect(local.generate(request()))).tokens);
    const { running, waiting, pages } = await engine.stats();
    expect([running, waiting, pages.used]).toEqual([0, 0, 0]);
    await expect(engine.logprobs([1, 2], { signal: controller.signal })).rejects.toThrow("enough");
    await engine.close();
  });

  it("refuses bad requests with the errors of an engine on the caller's thread", async () => {
    const { engine } = await open();
    await expect(collect(engine.generate(request({ prompt: [50] })))).rejects.toThrow(
      new ShapeError("prompt: id 50 at position 0 is outside 0..49"),
    );
    await expect(collect(engine.generate(request({ maxTokens: -1 })))).rejects.toThrow(ConfigError);
    await expect(engine.logits(new Int32Array(161))).rejects.toThrow(
      new ShapeError("context: the sequence is 161 tokens, the model holds 160", {
        hint: "shorten the sequence to at most 160 tokens",
      }),
    );
    await engine.close();
  });
});

describe("opening an engine in a worker", () => {
  it("fails as the opener fails, with the same class and hint", async () => {
    const absent = join(folder, "absent");
    const fault = await openWorkerEngine(OPENER, { ...options(), path: absent }).catch((error) => error);
    expect(fault).toBeInstanceOf(CheckpointError);
    expect(fault.message).toBe(`${absent}: no such folder, looked for config.json in it`);
    await expect(openWorkerEngine(OPENER, { ...options(), engine: { queue: 0 } })).rejects.toThrow(
      new ConfigError("engine: queue: 0, expected number to be >=1"),
    );
  });

  it("can be given up", async () => {
    const controller = new AbortController();
    const opening = openWorkerEngine(OPENER, options(), { signal: controller.signal });
    controller.abort(new Error("changed my mind"));
    await expect(opening).rejects.toThrow("changed my mind");
    await expect(openWorkerEngine(OPENER, options(), { signal: controller.signal })).rejects.toThrow("changed my mind");
  });

  it("gives one typed error to every open request when the worker breaks, and a new worker to the next opening", async () => {
    const opener = join(folder, "breaking.mjs");
    const inner = pathToFileURL(join(ROOT, "dist/infer/opener.io.js")).href;
    await writeFile(
      opener,
      `import { openEngine as inner } from ${JSON.stringify(inner)};
      export async function openEngine(options, context) {
        const opened = await inner(options, context);
        context.notice("opened");
        context.progress({ share: 1 });
        const { submit } = opened.engine;
        opened.engine.submit = (request, sink) => {
          if (request.seed === 13) setTimeout(() => { throw new Error("out of luck"); });
          return submit.call(opened.engine, request, sink);
        };
        return opened;
      }`,
    );
    const told: unknown[] = [];
    const hooks = {
      onNotice: (message: string) => told.push(message),
      onProgress: (share: unknown) => told.push(share),
    };
    const { engine } = await openWorkerEngine(pathToFileURL(opener), options(), hooks);
    expect(told).toEqual([{ stage: "backend" }, { stage: "weights" }, "opened", { share: 1 }]);
    const running = collect(await started(engine)).catch((error) => error);
    const breaking = collect(engine.generate({ ...ENDLESS, seed: 13 })).catch((error) => error);
    const fault = await running;
    expect(fault).toEqual(
      new OlmoeError("E_WORKER", 'worker: it failed with "out of luck", expected it to run', {
        hint: "open the model again; if it happens again, please report it",
      }),
    );
    expect(await breaking).toBe(fault);
    await expect(engine.embed([1])).rejects.toBe(fault);
    const again = await openWorkerEngine(pathToFileURL(opener), options());
    expect((await collect(again.engine.generate(request()))).tokens.length).toBe(6);
    await engine.close();
    await again.engine.close();
  });
});
