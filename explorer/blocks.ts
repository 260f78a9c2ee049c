/** Parts of a trace that were looked at last, so that the map is drawn without waiting and memory stays bounded. */
import { NO_EXPERT, type Trace, type TraceChunk } from "../src/formats/trace.ts";

/** Tokens of a block: those of a chunk of most files, so that none is read twice. */
const BLOCK = 4096;
/** Blocks that are kept: at 16 layers and 8 experts, 80 MB. */
const MOST_BLOCKS = 64;

export interface Block {
  readonly start: number;
  readonly tokens: number;
  readonly ids: Int32Array;
  /** [T, L, S]: what belongs to a token lies together. */
  readonly experts: Int16Array;
  /** [T] its sequence, and whether the token is the first that the trace has of a run of it. */
  readonly sequence: Int32Array;
  readonly begins: Uint8Array;
}

function fill(block: Block, chunk: TraceChunk, layers: number, slots: number): void {
  const offset = chunk.start - block.start;
  block.ids.set(chunk.ids!, offset);
  const experts = chunk.experts!;
  for (let layer = 0; layer < layers; layer++) {
    for (let t = 0; t < chunk.tokens; t++) {
      const from = (layer * chunk.tokens + t) * slots;
      const to = ((offset + t) * layers + layer) * slots;
      for (let slot = 0; slot < slots; slot++) block.experts[to + slot] = experts[from + slot]!;
    }
  }
  let first = offset;
  for (const { sequence, position, tokens } of chunk.runs) {
    block.sequence.fill(sequence, first, first + tokens);
    const continued = first > 0 && block.sequence[first - 1] === sequence;
    block.begins[first] = position === 0 || (first > 0 && !continued) ? 1 : 0;
    first += tokens;
  }
}

export async function readBlock(trace: Trace, number: number): Promise<Block> {
  const { layers, slots } = trace.header;
  const start = number * BLOCK;
  const tokens = Math.min(BLOCK, trace.tokens - start);
  const block: Block = {
    start,
    tokens,
    ids: new Int32Array(tokens),
    experts: new Int16Array(tokens * layers.length * slots).fill(NO_EXPERT),
    sequence: new Int32Array(tokens),
    begins: new Uint8Array(tokens),
  };
  for await (const chunk of trace.chunks({ columns: ["ids", "experts"], start, end: start + tokens })) {
    fill(block, chunk, layers.length, slots);
  }
  return block;
}

export class BlockCache {
  readonly #readBlock: (number: number) => Promise<Block>;
  readonly #blocks = new Map<number, Block>();
  readonly #asked = new Map<number, Promise<void>>();
  readonly #listeners = new Set<() => void>();
  #fault: Error | undefined;

  constructor(read: (number: number) => Promise<Block>) {
    this.#readBlock = read;
  }

  /** What went wrong when a block was read last. */
  get fault(): Error | undefined {
    return this.#fault;
  }

  /** Called whenever a block has come. @returns what ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The block with a token; undefined while it is being read. */
  at(token: number): Block | undefined {
    const number = Math.floor(token / BLOCK);
    const block = this.#blocks.get(number);
    if (block === undefined) {
      void this.#read(number);
      return undefined;
    }
    // The order of the map is that of use.
    this.#blocks.delete(number);
    this.#blocks.set(number, block);
    return block;
  }

  /** @throws what reading throws. */
  async load(token: number): Promise<Block> {
    await this.#read(Math.floor(token / BLOCK));
    const block = this.at(token);
    if (block === undefined) throw this.#fault ?? new Error("internal: a block that was read is not there");
    return block;
  }

  #read(number: number): Promise<void> {
    if (this.#blocks.has(number)) return Promise.resolve();
    const asked = this.#asked.get(number);
    if (asked !== undefined) return asked;
    const reading = this.#readBlock(number)
      .then((block) => {
        this.#blocks.set(number, block);
        for (const old of this.#blocks.keys()) {
          if (this.#blocks.size <= MOST_BLOCKS) break;
          this.#blocks.delete(old);
        }
        this.#asked.delete(number);
      })
      // What can not be read stays asked for, so that it is not tried again at every frame.
      .catch((error: Error) => {
        this.#fault = error;
      })
      .finally(() => {
        for (const listener of this.#listeners) listener();
      });
    this.#asked.set(number, reading);
    return reading;
  }
}
