/**
 * `npm run bench -- data`: tokenising the same documents by the pipeline's last phase and by its tokenizer alone, beside
 * `dolma tokens` and Hugging Face's tokenizers in Python, and what the loader makes of token files on disk. One worker has
 * one thread that encodes, as a process of dolma has.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { parseDataRecipe } from "../src/config/data.ts";
import { runPlan } from "../src/data/build/run.io.ts";
import { TokenLoader } from "../src/data/loader.ts";
import { prepareData } from "../src/data/prepare.io.ts";
import { OLMOE_REPETITION } from "../src/data/repetition.ts";
import { readTokenFile, TokenFile } from "../src/data/tokenFile.io.ts";
import { tokenDType } from "../src/data/tokenFile.ts";
import { tokenizerFromJson } from "../src/tokenizer/io.ts";
import type { Tokenizer } from "../src/tokenizer/tokenizer.ts";
import { createRandom, uniform } from "../src/util/random.ts";
import { benchTokenizer, megabytes, realTexts, writeDocuments } from "./dataCorpus.ts";
import { type BenchOptions, type Contender, describeMachine, interleave, type Row, toRow } from "./harness.ts";
import { startDolma } from "./peers/dolma/setup.ts";
import { optionalPeer, type PeerProcess } from "./peers/process.ts";

const FILES = 4;
const BATCH = 256;
const LOADER_TOKENS = 2 ** 25;
const LOADER_FILES = 4;
/** Of the loader's batches. */
const BATCH_TOKENS = 2 ** 16;
const MEAN_DOCUMENT = 700;
const SEQUENCES = [256, 4096];

interface Corpus {
  readonly folder: string;
  readonly texts: readonly string[];
  readonly files: readonly string[];
  readonly tokenizer: string;
  readonly size: number;
}

interface Answer {
  readonly seconds: number;
  readonly tokens: number;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

async function measure(
  name: string,
  unit: string,
  contenders: readonly Contender[],
  options: BenchOptions,
): Promise<Row> {
  const parts = { bench: "data", case: name, unit, machine: describeMachine(0), ours: "ours", limit: "limit" };
  return toRow(parts, await interleave(contenders, options));
}

/** What reading needs: the documents' files as text. */
function limitOf({ files, size }: Corpus): Contender {
  const read = async () => {
    for (const file of files)
      for (const line of gunzipSync(await readFile(file))
        .toString()
        .split("\n"))
        line && JSON.parse(line);
  };
  return { name: "limit", run: async () => size / (await timed(read)) };
}

/** As dolma does in each of its processes. */
function setParallel(parallel: boolean): void {
  process.env.TOKENIZERS_PARALLELISM = String(parallel);
}

async function* tokenizerRows(corpus: Corpus, peer: PeerProcess | undefined, options: BenchOptions) {
  const { texts, files, tokenizer, size } = corpus;
  const json = await readFile(tokenizer, "utf8");
  const encode = async (own: Tokenizer) => {
    for (let first = 0; first < texts.length; first += BATCH) await own.encodeBatch(texts.slice(first, first + BATCH));
  };
  for (const parallel of [false, true]) {
    const ours = async () => {
      setParallel(parallel);
      // A new one each time, which has seen no word.
      const own = tokenizerFromJson(json);
      return size / (await timed(() => encode(own)));
    };
    const contenders: Contender[] = [{ name: "ours", run: ours }, limitOf(corpus)];
    if (peer !== undefined) {
      const request = { tool: "tokenizers", files, tokenizer, parallel };
      const run = async () => size / (await peer.request<Answer>(request)).seconds;
      contenders.push({ name: "tokenizers", run });
    }
    yield await measure(`tokenizer, ${parallel ? "all cores" : "one thread"}`, "MB/s", contenders, options);
  }
}

/** Prepares the documents up to their tokens. @returns the folder. */
async function preparedFolder({ folder, tokenizer }: Corpus): Promise<string> {
  const directory = join(folder, "ours");
  const recipe = parseDataRecipe({
    name: "bench",
    seed: 1,
    tokenizer: { file: tokenizer },
    heldOutBytes: 0,
    taskBytes: 1,
    deduplicate: { exact: false },
    sources: [{ name: "bench", path: folder, include: ["documents/*.gz"], format: "dolma" }],
  });
  await prepareData({ recipe, baseDirectory: folder, directory, cacheDirectory: join(folder, "cache") });
  return directory;
}

async function* encodeRows(corpus: Corpus, peer: PeerProcess | undefined, options: BenchOptions) {
  const { folder, files, tokenizer, size } = corpus;
  const directory = await preparedFolder(corpus);
  const { vocabSize, eosTokenId, padTokenId } = tokenizerFromJson(await readFile(tokenizer, "utf8"));
  for (const workers of [1, 2]) {
    const ours = async () => {
      setParallel(false);
      for (let task = 0; task < FILES; task++) await rm(join(directory, "work", "tasks", `encode-0000${task}.json`));
      return size / (await timed(() => runPlan({ directory, workers, phases: ["encode"] })));
    };
    const contenders: Contender[] = [{ name: "ours", run: ours }, limitOf(corpus)];
    if (peer !== undefined) {
      const dtype = tokenDType(vocabSize);
      const ids = { eos: eosTokenId, pad: padTokenId ?? eosTokenId };
      const request = { tool: "dolma", files, destination: join(folder, "dolma"), tokenizer, ...ids, dtype };
      const run = async () => size / (await peer.request<Answer>({ ...request, processes: workers })).seconds;
      contenders.push({ name: "dolma tokens", run });
    }
    yield await measure(`tokenise, workers: ${workers}`, "MB/s", contenders, options);
  }
}

/** Files of random ids with documents of random lengths. */
async function writeTokens(folder: string): Promise<string[]> {
  const random = createRandom(1, "bench/data/loader");
  const files = Array.from({ length: LOADER_FILES }, (_, index) => join(folder, `${index}.npy`));
  for (const file of files) {
    const ids = new Uint16Array(LOADER_TOKENS / LOADER_FILES);
    for (let place = 0; place < ids.length; place++) ids[place] = 1 + Math.floor(uniform(random) * 50_000);
    for (let place = 0; place < ids.length; place += Math.ceil(uniform(random) * 2 * MEAN_DOCUMENT)) ids[place] = 0;
    await writeFile(file, ids);
  }
  return files;
}

async function* loaderRows(folder: string, options: BenchOptions): AsyncGenerator<Row> {
  const paths = await writeTokens(folder);
  for (const sequenceLength of SEQUENCES) {
    const files = paths.map((path) => new TokenFile(path, "uint16", 50_304));
    const sources = [0, 1].map((half) => ({
      name: `${half}`,
      weight: 1 + half,
      files: files.slice(2 * half, 2 * half + 2),
    }));
    const batchSize = BATCH_TOKENS / sequenceLength;
    const shared = { sequenceLength, batchSize, seed: 1, eosTokenId: 0, instanceFilter: OLMOE_REPETITION };
    const loader = new TokenLoader({ sources, ...shared });
    const ours = async () => {
      for (let done = 0; done < LOADER_TOKENS; done += BATCH_TOKENS) loader.next();
    };
    const ids = new Int32Array(LOADER_TOKENS / LOADER_FILES);
    const limit = async () => {
      for (const path of paths) ids.set(readTokenFile(path, "uint16", 50_304));
    };
    const millions = LOADER_TOKENS / 1e6;
    const contenders = [
      { name: "ours", run: async () => millions / (await timed(ours)) },
      { name: "limit", run: async () => millions / (await timed(limit)) },
    ];
    yield await measure(`loader, sequences of ${sequenceLength}`, "M tokens/s", contenders, options);
    for (const file of files) file.close();
  }
}

/** Rows of tokenising and of the loader. */
export async function* dataBench(options: BenchOptions): AsyncGenerator<Row | string> {
  const before = process.env.TOKENIZERS_PARALLELISM;
  const folder = await mkdtemp(join(tmpdir(), "olmoe-bench-data-"));
  using peer = options.peers
    ? await optionalPeer(() => startDolma(options.notice, options.signal), options.notice)
    : undefined;
  try {
    yield* loaderRows(folder, options);
    const texts = await realTexts();
    const tokenizer = await benchTokenizer(folder, texts);
    const files = await writeDocuments(folder, texts, FILES);
    const corpus = { folder, texts, files, tokenizer, size: megabytes(texts) };
    yield* tokenizerRows(corpus, peer, options);
    yield* encodeRows(corpus, peer, options);
    yield `text: ${corpus.size.toFixed(1)} MB in ${texts.length} documents, none twice`;
  } finally {
    if (before === undefined) delete process.env.TOKENIZERS_PARALLELISM;
    else process.env.TOKENIZERS_PARALLELISM = before;
    await rm(folder, { recursive: true, force: true });
  }
}
