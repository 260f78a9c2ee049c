/**
 * `npm run bench -- infer`: prompts and tokens per second on a random model of the released one's size, beside llama.cpp's
 * own benchmarks in the same run; the limit of decoding is the bytes that a token needs at the rate of reading memory.
 */
import { execFile } from "node:child_process";
import { createReadStream } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Backend } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/io.ts";
import { UnsupportedError, UsageError } from "../src/errors.ts";
import { flopsPerToken } from "../src/model/counts.ts";
import {
  type BenchOptions,
  type Contender,
  describeMachine,
  interleave,
  type Row,
  type Summary,
  toRow,
} from "./harness.ts";
import { cacheBytes, weightBytes } from "./inferBytes.ts";
import { InferCases, randomWords } from "./inferCases.ts";
import { fmaPeak, readPeak } from "./limit.ts";
import { CACHE_VALUE_BYTES, openOurEngine } from "./ourEngine.ts";
import { ensureLlamaCpp, type LlamaCpp } from "./peers/llamacpp/setup.ts";
import { llamaBatchedBench, llamaBench, llamaGreedy } from "./peers/llamacpp/tools.ts";
import {
  randomModelConfig as config,
  ensureRandomModel,
  type RandomModelType,
  randomTensors,
  vocabulary,
} from "./randomModel.ts";
import { textToWords, wordsToText } from "./randomVocabulary.ts";

const PROMPT = 512;
const DECODE = 128;
const SEQUENCES = 8;
const SEQUENCE_PROMPT = 128;
const CONTEXT = 4000;
const CONTEXT_DECODE = 32;
/** A prompt of thousands of tokens takes llama.cpp a minute, in each repetition. */
const CONTEXT_REPETITIONS = 3;
const GREEDY_PROMPT = 16;
const GREEDY_TOKENS = 32;
const PEER = "llama.cpp";
const CLI = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

/** What all cases need. */
interface Setting {
  readonly options: BenchOptions;
  readonly type: RandomModelType;
  readonly path: string;
  readonly backend: Backend;
  readonly ours: InferCases;
  readonly llama: LlamaCpp | undefined;
  readonly threads: number;
}

/** The rows of one mix of types, and what they come to in words. */
export async function* inferBench(options: BenchOptions, type: RandomModelType): AsyncGenerator<Row | string> {
  const { notice, signal, isa } = options;
  if (options.backend === "wasm") throw new UsageError("--backend: got wasm, infer measures native kernels");
  const threads = options.threads ?? availableParallelism();
  const path = await ensureRandomModel(type, options);
  const llama = options.peers ? await optionalLlamaCpp(options) : undefined;
  if (llama) notice(`peer llama.cpp: ${llama.version}, its own benchmarks on ${threads} threads`);
  await readThrough(path, signal);
  const backend = await openBackend({ backend: "native", threads, ...(isa === undefined ? {} : { isa }) });
  const engine = await openOurEngine(path, { threads, isa, cacheTokens: CONTEXT + 2 * SEQUENCES * PROMPT });
  try {
    const ours = new InferCases(engine);
    const { chosen, busiest } = await ours.expertLoad(DECODE);
    yield `${type}, experts: ${DECODE} tokens chose ${chosen.toFixed(1)} of ${config.numExperts} in each layer, the busiest ${busiest.toFixed(1)} times the mean`;
    const setting = { options, type, path, backend, ours, llama, threads };
    yield* speedRows(setting);
    yield* firstToken(setting);
    if (llama) yield await greedyAgreement(setting, llama);
  } finally {
    await engine.close();
    backend.close();
  }
}

/** One row: ours, what limits it, and what llama.cpp reaches at the same. */
interface Case {
  readonly name: string;
  readonly ours: () => Promise<number>;
  readonly limit: Contender;
  readonly theirs: (llama: LlamaCpp) => Promise<number>;
  readonly repetitions: number;
}

async function* speedRows(setting: Setting): AsyncGenerator<Row | string> {
  const { options, type, path, backend, ours, threads } = setting;
  const { repetitions } = options;
  const run = { threads, signal: options.signal };
  const tensors = randomTensors(type, config, vocabulary);
  const bytesOf = (tokens: number, context: number) =>
    weightBytes(tensors, config, tokens) + tokens * cacheBytes(config, context, CACHE_VALUE_BYTES);

  yield await measure(setting, {
    name: `prompt of ${PROMPT}`,
    ours: () => ours.prompt(PROMPT),
    limit: fmaPeak(backend, flopsPerToken(config, PROMPT).forward),
    theirs: (llama) => llamaBench(llama, path, { prompt: PROMPT }, run),
    repetitions,
  });

  const near = bytesOf(1, DECODE / 2);
  const decode = await measure(setting, {
    name: `decode of ${DECODE}`,
    ours: () => ours.decode(DECODE),
    limit: readPeak(backend, near),
    theirs: (llama) => llamaBench(llama, path, { generate: DECODE }, run),
    repetitions,
  });
  yield decode;
  const [reached, read] = [decode.value, decode.limit].map((rate) => gigabytes(rate * near));
  yield `${type}, decode: ${gigabytes(near)} GB a token, ${reached} GB/s, of ${read} GB/s read in the same run`;

  const together = { sequences: SEQUENCES, prompt: SEQUENCE_PROMPT, generate: DECODE };
  yield await measure(setting, {
    name: `${SEQUENCES} sequences together, decode of ${DECODE}`,
    ours: () => ours.together(SEQUENCES, SEQUENCE_PROMPT, DECODE),
    limit: readPeak(backend, bytesOf(SEQUENCES, SEQUENCE_PROMPT + DECODE / 2) / SEQUENCES),
    theirs: (llama) => llamaBatchedBench(llama, path, together, run),
    repetitions,
  });

  const far = bytesOf(1, CONTEXT + CONTEXT_DECODE / 2);
  const after = await measure(setting, {
    name: `decode of ${CONTEXT_DECODE} after ${CONTEXT}`,
    ours: () => ours.decodeAfter(CONTEXT, CONTEXT_DECODE),
    limit: readPeak(backend, far),
    theirs: (llama) => llamaBench(llama, path, { generate: CONTEXT_DECODE, depth: CONTEXT }, run),
    repetitions: Math.min(repetitions, CONTEXT_REPETITIONS),
  });
  yield after;
  const [taken, implied] = [1000 / after.value, (1000 / decode.value) * (far / near)];
  yield `${type}, after ${CONTEXT} tokens: ${taken.toFixed(1)} ms a token, ${(taken / implied).toFixed(2)} times what its ${gigabytes(far)} GB imply at the rate of the short context`;
}

async function measure({ options, type, backend, llama }: Setting, one: Case): Promise<Row> {
  const contenders: Contender[] = [{ name: "ours", run: one.ours }, one.limit];
  if (llama) contenders.push({ name: PEER, run: () => one.theirs(llama) });
  // Every process of the peer warms itself up, and the engine has run.
  const rounds = { repetitions: one.repetitions, warmUp: 0, signal: options.signal };
  const names = { bench: "infer", case: `${type}, ${one.name}`, unit: "tokens/s", ours: "ours", limit: "limit" };
  return toRow(
    { ...names, machine: describeMachine(backend.kernels.cpuFeatures()) },
    await interleave(contenders, rounds),
  );
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toPrecision(3);
}

/** Whole processes, from their start to the first token on their output, with the file in the page cache. */
async function* firstToken({ options, type, path, llama, threads }: Setting): AsyncGenerator<Row | string> {
  const { signal } = options;
  const prompt = wordsToText(vocabulary, randomWords(GREEDY_PROMPT, "first token"));
  const cli = [
    "run",
    path,
    "--prompt",
    prompt,
    "--max-tokens",
    "1",
    "--temperature",
    "0",
    "--threads",
    String(threads),
  ];
  const seconds = async (work: () => Promise<unknown>) => {
    const start = performance.now();
    await work();
    return (performance.now() - start) / 1000;
  };
  const contenders: Contender[] = [
    {
      name: "ours",
      run: async () => 1 / (await seconds(() => promisify(execFile)(process.execPath, [CLI, ...cli], { signal }))),
    },
  ];
  if (llama) {
    const work = () => llamaGreedy(llama, path, { prompt, maxTokens: 1 }, { threads, signal });
    contenders.push({ name: PEER, run: async () => 1 / (await seconds(work)) });
  }
  const measurement = await interleave(contenders, { repetitions: options.repetitions, warmUp: 1, signal });
  yield `${type}, process start to first token: ${[...measurement.summaries].map(secondsText).join(", ")}`;
}

/** A summary of rates as times. */
function secondsText([name, { median, min, max }]: [string, Summary]): string {
  return `${name} ${(1 / median).toFixed(2)} s (${(1 / max).toFixed(2)} .. ${(1 / min).toFixed(2)})`;
}

/** Reads llama.cpp's own greedy continuation and says how often our choice is the same. */
async function greedyAgreement({ options, path, ours, threads, type }: Setting, llama: LlamaCpp): Promise<string> {
  const prompt = randomWords(GREEDY_PROMPT, "greedy");
  const wanted = { prompt: wordsToText(vocabulary, prompt), maxTokens: GREEDY_TOKENS };
  const text = await llamaGreedy(llama, path, wanted, { threads, signal: options.signal });
  const theirs = textToWords(vocabulary, text);
  const known = theirs.filter((id) => id !== undefined);
  if (known.length !== theirs.length || known.length !== GREEDY_TOKENS) {
    return `${type}, greedy: not compared, llama.cpp printed ${JSON.stringify(text.slice(0, 200))}`;
  }
  const { same, of, margin, deviation } = await ours.agreement(prompt, known);
  return `${type}, greedy: ${same} of ${of} tokens of llama.cpp are our choice too; the largest margin of another is ${margin.toFixed(3)} (logits have a deviation of ${deviation.toFixed(3)})`;
}

async function optionalLlamaCpp({ notice, signal, isa }: BenchOptions): Promise<LlamaCpp | undefined> {
  try {
    return await ensureLlamaCpp({ notice, signal, isa });
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    notice(`${error.message}\nHint: ${error.hint}`);
    return undefined;
  }
}

/** Brings a file into the page cache. */
async function readThrough(path: string, signal: AbortSignal): Promise<void> {
  for await (const _ of createReadStream(path, { highWaterMark: 2 ** 23, signal }));
}
