/**
 * The cache of keys and values, so that each new token costs one position. It is cut into pages of 32 tokens, each with
 * the keys and values of all layers. Sequences hold lists of pages, which they may share: who writes into a page that
 * others hold gets a copy of it first.
 */
import type { Graph } from "../autograd/graph.ts";
import { type CachedLayer, type CachedPass, PAGE_TOKENS } from "../autograd/ops/pagedAttention.ts";
import { headDim, type ModelConfig } from "../config/model.ts";
import { ConfigError, ResourceError, ShapeError } from "../errors.ts";
import { rowBytes, STORAGE_TYPES } from "../tensor/stored.ts";
import type { Allocator, Block } from "../tensor/tensor.ts";

/**
 * How cached values are stored: as they are; in half precision; or in 8 bits with a scale for each token and 32 channels of
 * a head, off by up to 1/254 of the largest of the 32.
 */
export type CacheType = "f32" | "f16" | "q8_0";

export interface PagePoolOptions {
  /** Pages that there are; `PagePool.pagesFor` tells how many a length takes. */
  readonly pages: number;
  readonly type: CacheType;
}

/** What kernels may read beyond the last page. */
const SLACK_BYTES = 64;
const SCALE_CHANNELS = 32;
const TYPES = { f32: "F32", f16: "F16", q8_0: "Q8_0" } as const;

/** Bytes of one layer's part of a page. */
function layerBytes(config: ModelConfig, type: CacheType): number {
  const channels = headDim(config);
  // The last run of a head may be short, but its scale is there.
  const bytes = type === "q8_0" ? channels + 2 * Math.ceil(channels / SCALE_CHANNELS) : rowBytes(TYPES[type], channels);
  return 2 * config.numKeyValueHeads * PAGE_TOKENS * bytes;
}

/** All pages, in one block of memory. */
export class PagePool {
  readonly pages: number;
  readonly pageTokens = PAGE_TOKENS;
  readonly type: CacheType;
  /** Of one page, with its keys and values of all layers. */
  readonly pageBytes: number;
  readonly layers: number;
  readonly #block: Block;
  readonly #layerBytes: number;
  readonly #references: Uint32Array;
  /** Pages that were given back; the last is taken first. */
  readonly #released: number[] = [];
  /** From this one on no page was ever taken. */
  #fresh = 0;

  /**
   * @throws ConfigError for a model whose experts choose their tokens; ShapeError for a number of pages that is none;
   *   ResourceError when there is no memory.
   */
  constructor(allocator: Allocator, config: ModelConfig, { pages, type }: PagePoolOptions) {
    if (config.routing === "expert_choice") {
      throw new ConfigError(
        'cache: a model whose routing is "expert_choice" can not read token by token: which experts serve a token ' +
          "depends on those after it",
        { hint: 'score whole sequences with it; to generate, train with model.routing "token_choice"' },
      );
    }
    if (!Number.isSafeInteger(pages) || pages < 0 || pages * PAGE_TOKENS >= 2 ** 31) {
      throw new ShapeError(`cache: ${pages} pages, expected a whole number below ${2 ** 31 / PAGE_TOKENS}`);
    }
    this.pages = pages;
    this.type = type;
    this.layers = config.numHiddenLayers;
    this.#layerBytes = layerBytes(config, type);
    this.pageBytes = this.layers * this.#layerBytes;
    this.#block = allocator.allocate(pages * this.pageBytes + SLACK_BYTES);
    this.#references = new Uint32Array(pages);
  }

  /** Pages that a sequence of `tokens` tokens takes. */
  static pagesFor(tokens: number): number {
    return Math.ceil(tokens / PAGE_TOKENS);
  }

  get freePages(): number {
    return this.pages - this.#fresh + this.#released.length;
  }

  /** How many hold a page; 0 for a free one. */
  references(page: number): number {
    return this.#references[this.#checked(page)] as number;
  }

  /** A page with one reference, whose content is undefined. @throws ResourceError where all are held. */
  take(): number {
    this.requireFree(1);
    const page = this.#released.pop() ?? this.#fresh++;
    this.#references[page] = 1;
    return page;
  }

  /** One more reference to a page that somebody holds. */
  retain(page: number): void {
    if (this.references(page) === 0) throw new ShapeError(`cache: page ${page} is free, it can not be shared`);
    (this.#references[page] as number) += 1;
  }

  /** One reference less: the last one frees the page. */
  release(page: number): void {
    const left = this.references(page) - 1;
    if (left < 0) throw new ShapeError(`cache: page ${page} is free already`);
    this.#references[page] = left;
    if (left === 0) this.#released.push(page);
  }

  /**
   * A new sequence. @param shared full pages that it starts with, held by somebody: it holds them as well.
   */
  sequence(shared: readonly number[] = []): SequenceCache {
    return new SequenceCache(this, shared);
  }

  /** @throws ResourceError unless `pages` pages are free. */
  requireFree(pages: number): void {
    if (pages <= this.freePages) return;
    throw new ResourceError(`cache: ${pages} pages asked, ${this.freePages} of ${this.pages} are free`, {
      hint: "use fewer or shorter sequences, or a larger cache",
    });
  }

  /** A copy of a page, in all layers, with one reference. @throws ResourceError where no page is free. */
  copy(page: number): number {
    this.#checked(page);
    const copy = this.take();
    const bytes = new Uint8Array(this.#block.buffer, this.#block.byteOffset, this.#block.byteLength);
    for (let layer = 0; layer < this.layers; layer++) {
      const from = this.#offset(layer, page);
      bytes.copyWithin(this.#offset(layer, copy), from, from + this.#layerBytes);
    }
    return copy;
  }

  /** Whether its pages are those of such a model. */
  fits(config: ModelConfig): boolean {
    return config.numHiddenLayers === this.layers && layerBytes(config, this.type) === this.#layerBytes;
  }

  /** What kernels need of one layer. */
  layer(index: number): CachedLayer {
    return { pages: this.#block.address + this.#offset(index, 0), typeId: STORAGE_TYPES[TYPES[this.type]].id };
  }

  /** Gives the memory back. Sequences over it must not be used any more. */
  dispose(): void {
    this.#block.release();
  }

  /** Bytes from the block's start: layer after layer, so that a layer's pages are near each other. */
  #offset(layer: number, page: number): number {
    return (layer * this.pages + page) * this.#layerBytes;
  }

  #checked(page: number): number {
    if (Number.isInteger(page) && page >= 0 && page < this.pages) return page;
    throw new ShapeError(`cache: page ${page}, there are ${this.pages}`);
  }
}

/** What one sequence has in the cache. */
export class SequenceCache {
  readonly pool: PagePool;
  readonly #pages: number[];
  #length: number;

  /** @param shared full pages to start with; use `PagePool.sequence`. */
  constructor(pool: PagePool, shared: readonly number[]) {
    this.pool = pool;
    for (const page of shared) pool.retain(page);
    this.#pages = [...shared];
    this.#length = shared.length * PAGE_TOKENS;
  }

  /** Positions held. */
  get length(): number {
    return this.#length;
  }

  /** Pages held, in the order of positions; after `reserve` more than the length takes. */
  get pages(): readonly number[] {
    return this.#pages;
  }

  /** Free pages that `reserve(tokens)` takes. */
  pagesNeeded(tokens: number): number {
    const missing = PagePool.pagesFor(this.#length + tokens) - this.#pages.length;
    return Math.max(0, missing) + (tokens > 0 && this.#nextIsShared() ? 1 : 0);
  }

  /**
   * Makes room for `tokens` positions beyond the length, in pages of its own.
   * @throws ResourceError where there are too few free pages; nothing has changed then.
   */
  reserve(tokens: number): void {
    this.pool.requireFree(this.pagesNeeded(tokens));
    if (tokens > 0 && this.#nextIsShared()) {
      const index = Math.floor(this.#length / PAGE_TOKENS);
      const shared = this.#pages[index] as number;
      this.#pages[index] = this.pool.copy(shared);
      this.pool.release(shared);
    }
    const wanted = PagePool.pagesFor(this.#length + tokens);
    while (this.#pages.length < wanted) this.#pages.push(this.pool.take());
  }

  /** Counts `tokens` positions that a pass has stored. @throws ShapeError beyond what is reserved. */
  commit(tokens: number): void {
    if (this.#length + tokens > this.#pages.length * PAGE_TOKENS) {
      throw new ShapeError(
        `cache: ${this.#length} + ${tokens} positions, ${this.#pages.length * PAGE_TOKENS} are reserved`,
      );
    }
    this.#length += tokens;
  }

  /** Forgets the positions from `length` on, and gives back the pages that hold nothing else or were only reserved. */
  truncate(length: number): void {
    if (!Number.isInteger(length) || length < 0) throw new ShapeError(`cache: can not be cut to ${length} positions`);
    this.#length = Math.min(this.#length, length);
    const kept = PagePool.pagesFor(this.#length);
    for (const page of this.#pages.splice(kept)) this.pool.release(page);
  }

  /** Goes on with a full page that somebody holds. @throws ShapeError where it has read a part of one. */
  adopt(page: number): void {
    if (this.#length % PAGE_TOKENS !== 0) {
      throw new ShapeError(`cache: a page can not follow ${this.#length} positions, expected full pages`);
    }
    this.truncate(this.#length);
    this.pool.retain(page);
    this.#pages.push(page);
    this.#length += PAGE_TOKENS;
  }

  /** Holds another page with the same content in the place of one of its own. */
  replace(index: number, page: number): void {
    const own = this.#pages[index];
    if (own === undefined) throw new ShapeError(`cache: page ${index}, the sequence has ${this.#pages.length}`);
    this.pool.retain(page);
    this.pool.release(own);
    this.#pages[index] = page;
  }

  /** A sequence with the same positions. The two share pages until one of them writes. */
  fork(): SequenceCache {
    const held = this.#pages.slice(0, PagePool.pagesFor(this.#length));
    const fork = this.pool.sequence(held);
    fork.#length = this.#length;
    return fork;
  }

  /** Gives all pages back; the sequence is empty then. */
  release(): void {
    this.truncate(0);
  }

  /** Whether the page that the next position goes to is held by others. */
  #nextIsShared(): boolean {
    const page = this.#pages[Math.floor(this.#length / PAGE_TOKENS)];
    return page !== undefined && this.pool.references(page) > 1;
  }
}

/** New tokens of one sequence in a pass. */
export interface CachedSequence {
  readonly tokens: number;
  readonly cache: SequenceCache;
}

/**
 * The position of each token of a pass, sequence after sequence.
 * @param tokens of the pass in all.
 * @throws ShapeError for sequences that do not add up to `tokens`, that are of several pools or there twice.
 */
export function passPositions(tokens: number, sequences: readonly CachedSequence[]): number[] {
  const counts = sequences.map((sequence) => sequence.tokens);
  const whole = counts.every((count) => Number.isInteger(count) && count >= 0);
  if (!whole || counts.reduce((sum, count) => sum + count, 0) !== tokens || counts.length === 0) {
    throw new ShapeError(`forward: ${tokens} ids for sequences of [${counts.join(", ")}] tokens`);
  }
  const caches = sequences.map(({ cache }) => cache);
  if (caches.some(({ pool }) => pool !== caches[0]?.pool)) {
    throw new ShapeError("forward: the sequences' caches are of different pools");
  }
  if (new Set(caches).size < caches.length) throw new ShapeError("forward: a sequence's cache is there twice");
  return sequences.flatMap(({ tokens: count, cache }) => Array.from({ length: count }, (_, i) => cache.length + i));
}

/**
 * Reserves room for a pass and lays it out for kernels.
 * @throws ResourceError where pages are too few; the sequences hold what they held before, then.
 */
export function layOutPass(graph: Graph, sequences: readonly CachedSequence[]): CachedPass {
  try {
    for (const { tokens, cache } of sequences) cache.reserve(tokens);
  } catch (error) {
    for (const { cache } of sequences) cache.truncate(cache.length);
    throw error;
  }
  const [slots, table, rows]: [number[], number[], number[]] = [[], [], []];
  let keys = 0;
  for (const { tokens, cache } of sequences) {
    const { length, pages } = cache;
    const end = length + tokens;
    rows.push(slots.length, tokens, end, table.length);
    keys += end;
    for (let page = 0; page < PagePool.pagesFor(end); page++) table.push(pages[page] as number);
    for (let position = length; position < end; position++) {
      slots.push((pages[Math.floor(position / PAGE_TOKENS)] as number) * PAGE_TOKENS + (position % PAGE_TOKENS));
    }
  }
  return {
    slots: graph.ids(slots),
    pageTable: graph.ids(table),
    sequences: graph.ids(rows, [sequences.length, 4]),
    keys,
  };
}
