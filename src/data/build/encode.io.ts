/** Turns the kept documents of a read task into token files: training shards, and what is held out with its text. */
import { loadTokenizer } from "../../tokenizer/io.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { createRandom, shuffledOrder } from "../../util/random.ts";
import { type Document, stripWhitespace, utf8Bytes } from "../document.ts";
import { type OutputFile, readValues, writingLines } from "../lines.io.ts";
import { TokenFileWriter } from "../tokenFile.io.ts";
import { type TokenDType, tokenDType } from "../tokenFile.ts";
import { choicesFile } from "./choose.io.ts";
import { Meter, type TaskContext, type TaskOutput } from "./context.ts";
import { type Plan, type PlannedRead, partName } from "./plan.ts";
import { documentsFile } from "./read.io.ts";
import type { Selection } from "./select.io.ts";
import { type Choice, chosenText } from "./verdicts.ts";

/** A token file of the manifest. */
export interface EncodedFile {
  readonly split: "training" | "heldout";
  /** Relative to the folder of the data. */
  readonly file: string;
  readonly tokens: number;
  readonly documents: number;
  /** UTF-8 bytes of the text. */
  readonly textBytes: number;
  readonly sha256: string;
}

export interface EncodeCounts {
  readonly encoded: readonly EncodedFile[];
}

/** Documents that are shuffled among each other, as many as `dolma tokens` does, and fewer where they are long. */
const SHUFFLE_DOCUMENTS = 10_000;
const SHUFFLE_BYTES = 2 ** 25;
/** Text that is encoded at once; the encoder keeps tens of bytes for each token until it is read. */
const BATCH_DOCUMENTS = 256;
const BATCH_BYTES = 2 ** 20;

interface Kept {
  readonly document: Document;
  readonly bytes: number;
}

/** Ids with one end-of-text token, which the text itself may already end in. */
function closed(ids: Int32Array, eosTokenId: number): ArrayLike<number> {
  if (ids.at(-1) === eosTokenId) return ids;
  const withEos = new Int32Array(ids.length + 1);
  withEos.set(ids);
  withEos[ids.length] = eosTokenId;
  return withEos;
}

/** Consecutive documents up to a number and a size. */
function* batches(documents: readonly Kept[], most: number, mostBytes: number): Generator<Kept[]> {
  let batch: Kept[] = [];
  let bytes = 0;
  for (const one of documents) {
    batch.push(one);
    bytes += one.bytes;
    if (batch.length < most && bytes < mostBytes) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

/** Writes documents to token files, a new one where the next document would bring it to the limit. */
class TokenShards {
  readonly files: OutputFile[] = [];
  readonly encoded: EncodedFile[] = [];
  readonly #directory: string;
  readonly #split: EncodedFile["split"];
  readonly #base: (shard: number) => string;
  readonly #tokenizer: Tokenizer;
  readonly #dtype: TokenDType;
  readonly #mostTokens: number;
  #writer: TokenFileWriter | undefined;
  #textBytes = 0;

  constructor(options: {
    readonly directory: string;
    readonly split: EncodedFile["split"];
    readonly base: (shard: number) => string;
    readonly tokenizer: Tokenizer;
    readonly mostTokens: number;
  }) {
    this.#directory = options.directory;
    this.#split = options.split;
    this.#base = options.base;
    this.#tokenizer = options.tokenizer;
    this.#dtype = tokenDType(options.tokenizer.vocabSize);
    this.#mostTokens = options.mostTokens;
  }

  async add(documents: readonly Kept[], meter: Meter): Promise<void> {
    for (const batch of batches(documents, BATCH_DOCUMENTS, BATCH_BYTES)) {
      const encoded = await this.#tokenizer.encodeBatch(batch.map(({ document }) => document.text));
      for (const [index, { document, bytes }] of batch.entries()) {
        const ids = closed(encoded[index] as Int32Array, this.#tokenizer.eosTokenId);
        if ((this.#writer?.tokens ?? 0) + ids.length >= this.#mostTokens) await this.close();
        this.#writer ??= await TokenFileWriter.open(this.#directory, this.#base(this.encoded.length), this.#dtype);
        await this.#writer.add(ids, document);
        this.#textBytes += bytes;
        meter.add(bytes);
      }
    }
  }

  /** Finishes the current file, if there is one. */
  async close(): Promise<void> {
    if (this.#writer === undefined) return;
    const { tokens, documents } = this.#writer;
    const [npy, spans] = (await this.#writer.close()) as [OutputFile, OutputFile];
    const { file, sha256 } = npy;
    this.files.push(npy, spans);
    this.encoded.push({ split: this.#split, file, tokens, documents, textBytes: this.#textBytes, sha256 });
    this.#writer = undefined;
    this.#textBytes = 0;
  }

  async abandon(): Promise<void> {
    await this.#writer?.abandon();
  }
}

/** Documents of a task as they are chosen, with their place; none without text. */
async function* keptDocuments(index: number, { plan, directory, signal }: TaskContext) {
  const part = partName(plan, index);
  const choices = readValues<Choice>(directory, choicesFile(part), signal);
  let place = 0;
  for await (const document of readValues<Document>(directory, documentsFile(part), signal)) {
    const choice = (await choices.next()).value as Choice;
    const text = choice.drop === undefined ? stripWhitespace(chosenText(document.text, choice)) : "";
    if (text !== "") yield { place, document: { ...document, text }, bytes: utf8Bytes(text) };
    place++;
  }
}

const loaded = new WeakMap<Plan, Promise<Tokenizer>>();

/** The plan's tokenizer, loaded by the first task of a process: what it knows of words serves all of them. */
function tokenizerOf({ plan, directory }: TaskContext): Promise<Tokenizer> {
  const tokenizer = loaded.get(plan) ?? loadTokenizer(directory);
  loaded.set(plan, tokenizer);
  return tokenizer;
}

/** Texts of held-out documents, which evaluations in bits per byte need. */
async function writeHeldOutText(base: string, documents: readonly Kept[], directory: string): Promise<OutputFile[]> {
  return writingLines(directory, [`${base}.jsonl.gz`], async (lines) => {
    for (const { document } of documents) {
      const { id, text, source } = document;
      await lines!.write({ id, text, source });
    }
  });
}

export async function encodeTask(
  index: number,
  selection: Selection,
  context: TaskContext,
): Promise<TaskOutput<EncodeCounts>> {
  const { plan, directory } = context;
  const { recipe } = plan;
  const part = partName(plan, index);
  const source = recipe.sources[(plan.reads[index] as PlannedRead).source]!;
  const meter = new Meter(context, "encode", source.name);
  const tokenizer = await tokenizerOf(context);
  const shared = { directory, tokenizer };
  const training = new TokenShards({
    ...shared,
    split: "training",
    base: (shard) => `training/${part}-${String(shard).padStart(5, "0")}`,
    mostTokens: recipe.shardTokens,
  });
  const heldOut = new TokenShards({ ...shared, split: "heldout", base: () => `heldout/${part}`, mostTokens: Infinity });
  const kept = new Set(selection.heldOut[index]);
  const heldOutDocuments: Kept[] = [];
  const random = createRandom(recipe.seed, `order/${part}`);
  let block: Kept[] = [];
  let blockBytes = 0;
  const flush = async () => {
    const order = shuffledOrder(block.length, random);
    const shuffled = Array.from(order, (place) => block[place] as Kept);
    block = [];
    blockBytes = 0;
    await training.add(shuffled, meter);
  };
  try {
    for await (const { place, document, bytes } of keptDocuments(index, context)) {
      if (kept.has(place)) {
        heldOutDocuments.push({ document, bytes });
        continue;
      }
      block.push({ document, bytes });
      blockBytes += bytes;
      if (block.length >= SHUFFLE_DOCUMENTS || blockBytes >= SHUFFLE_BYTES) await flush();
    }
    await flush();
    await training.close();
    await heldOut.add(heldOutDocuments, meter);
    await heldOut.close();
    meter.flush();
    const texts =
      heldOutDocuments.length === 0 ? [] : await writeHeldOutText(`heldout/${part}`, heldOutDocuments, directory);
    const encoded = [...training.encoded, ...heldOut.encoded];
    return { files: [...training.files, ...heldOut.files, ...texts], value: { encoded } };
  } catch (error) {
    await training.abandon();
    await heldOut.abandon();
    throw error;
  }
}
