/**
 * What it costs to keep the routing of all tokens: reading and writing text with it and without it, and the file. The
 * models have random weights; the smaller one is the quickstart's, where a token takes so little time that all else shows.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { openBackend } from "../src/backend/io.ts";
import { moeLayers } from "../src/config/architecture.ts";
import { resolveModel } from "../src/config/presets.ts";
import { TraceWriter } from "../src/formats/trace.io.ts";
import type { TraceHeader } from "../src/formats/trace.ts";
import { LocalEngine } from "../src/infer/localEngine.ts";
import { Decoder } from "../src/model/decoder.ts";
import { Parameters } from "../src/model/parameters.ts";
import { recordTrace } from "../src/routing/recordTrace.ts";
import { createRandom, uniform } from "../src/util/random.ts";
import { type BenchOptions, type Contender, describeMachine, interleave, type Row, toRow } from "./harness.ts";

/** Sequences that are read: enough that making a file is no part of it. */
const CASES = [
  { preset: "nano", sequences: 128 },
  { preset: "small", sequences: 16 },
] as const;
const NEW_TOKENS = 64;
const PROMPT_TOKENS = 32;
/** Generations that run at once. */
const AT_ONCE = 8;

/** Tokens for each second of some work. */
async function rate(tokens: number, work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (1000 * tokens) / (performance.now() - start);
}

async function drain(generation: AsyncGenerator<unknown, unknown>): Promise<void> {
  while (!(await generation.next()).done);
}

export async function* traceBench({ repetitions, threads, signal }: BenchOptions): AsyncGenerator<Row | string> {
  const backend = await openBackend(threads === undefined ? {} : { threads });
  const machine = describeMachine(backend.kernels.cpuFeatures());
  const folder = await mkdtemp(path.join(tmpdir(), "trace-"));
  try {
    for (const { preset, sequences: count } of CASES) {
      const config = resolveModel({ preset, ...(preset === "nano" ? { vocabSize: 4096, eosTokenId: 0 } : {}) });
      const parameters = new Parameters(backend, config, { trainable: false });
      parameters.initialise(1);
      const decoder = new Decoder(backend, parameters);
      const length = Math.min(256, config.maxPositionEmbeddings) - 1;
      const engine = new LocalEngine(backend, decoder, { cacheTokens: 8192, passTokens: 512 });
      const random = createRandom(1, `bench/trace/${preset}`);
      const sequence = (tokens: number) =>
        Int32Array.from({ length: tokens }, () => Math.floor(uniform(random) * config.vocabSize));
      const sequences = Array.from({ length: count }, () => sequence(length));
      const readTokens = count * length;
      const longer = sequences.map((ids) => Int32Array.of(...ids, 1));
      const prompts = Array.from({ length: AT_ONCE }, () => sequence(PROMPT_TOKENS));
      const header: TraceHeader = {
        model: { name: preset, digest: "none", vocabSize: config.vocabSize },
        numExperts: config.numExperts,
        topK: config.numExpertsPerTok,
        slots: config.numExpertsPerTok,
        layers: moeLayers(config),
        columns: ["ids", "experts", "weights", "logprobs"],
        origin: "score",
      };
      let file = 0;
      const toFile = async () => {
        const writer = await TraceWriter.create(path.join(folder, `${preset}${file++}.trace`), header);
        await recordTrace(
          engine,
          sequences.map((ids) => ({ source: "bench", ids })),
          writer,
        );
        await writer.close();
        return writer.bytes / writer.tokens;
      };
      const generate = (routing: boolean) => () => {
        const request = { maxTokens: NEW_TOKENS, sampling: { temperature: 0 }, seed: 0, stopIds: [] };
        const one = (prompt: Int32Array) =>
          drain(engine.generate({ ...request, prompt, routing: routing ? { prompt: true } : undefined }));
        return rate(AT_ONCE * NEW_TOKENS, () => Promise.all(prompts.map(one)));
      };
      const columns = ["logprobs"] as const;
      // The last of its ids is not read.
      const plain = () => rate(readTokens, () => Promise.all(longer.map((ids) => engine.logprobs(ids))));
      const cases: [name: string, off: Contender["run"], on: Contender["run"]][] = [
        [
          "reading",
          plain,
          () => rate(readTokens, () => Promise.all(sequences.map((ids) => engine.trace(ids, { columns })))),
        ],
        ["reading into a file", plain, () => rate(readTokens, toFile)],
        [`generating ${AT_ONCE} texts`, generate(false), generate(true)],
      ];
      for (const [name, off, on] of cases) {
        const contenders = [
          { name: "with routing", run: on },
          { name: "without routing", run: off },
          // Again, the other way round: who comes after whom makes more of a difference than the routing.
          { name: "without routing, again", run: off },
          { name: "with routing, again", run: on },
        ];
        const measured = await interleave(contenders, { repetitions, warmUp: 2, signal });
        const rateOf = (contender: string) => measured.summaries.get(contender)!.median;
        const both = (which: string) => (rateOf(which) + rateOf(`${which}, again`)) / 2;
        const parts = { bench: "trace", case: `${preset}: ${name}`, unit: "tokens/s", machine };
        yield toRow({ ...parts, ours: "with routing", limit: "without routing" }, measured);
        const cost = 100 * (1 - both("with routing") / both("without routing"));
        yield `${preset}: ${name}: routing costs ${cost.toFixed(1)} % (both orders together)`;
      }
      const layers = header.layers.length;
      yield `${preset}: ${(await toFile()).toFixed(1)} bytes a token of ${layers} layers with ${header.topK} of ${header.numExperts} experts`;
      await engine.close();
      decoder.dispose();
      parameters.dispose();
    }
  } finally {
    backend.close();
    await rm(folder, { recursive: true });
  }
}
