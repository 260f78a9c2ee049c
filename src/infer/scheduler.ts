/**
 * Which tokens the next pass reads. Every running sequence gets its next token; what is left of the pass goes to prompts,
 * in chunks. Sequences are admitted in the order they came, as long as there are pages for their tokens; when pages run
 * out, the youngest waits again and is read anew later, which gives the same bits.
 */
import { ResourceError } from "../errors.ts";
import type { PagePool, SequenceCache } from "../model/cache.ts";
import { PrefixCache, type PrefixNode } from "./prefixCache.ts";
import type { Work } from "./work.ts";

export interface SchedulerOptions {
  /** Most tokens in a pass. */
  readonly passTokens: number;
  /** Most sequences in a pass. */
  readonly sequences: number;
  /** Most requests that wait. */
  readonly queue: number;
  /** Keep pages for requests that start alike. */
  readonly prefixCache: boolean;
}

/** While other sequences wait for their next token, prompts get this part of a pass, so that it is over soon. */
const PROMPT_SHARE = 1 / 4;

/** A request on its way. */
export interface Sequence {
  /** Requests are numbered as they come, from 1. */
  readonly number: number;
  readonly work: Work;
  /** While it runs. */
  cache: SequenceCache | undefined;
  /** The last of its pages that is in the prefix cache; all before it are, too. */
  node: PrefixNode | undefined;
  /** Its pages in the prefix cache. */
  shared: number;
  /** Tokens of pages that it has taken over and not told of. */
  reused: number;
  /** Whether it has lost its pages to an older one before. */
  restarted: boolean;
  /** Whether what it computed are not numbers: nobody else is given its pages. */
  broken: boolean;
}

/** What a pass reads of one sequence. */
export interface Slice {
  readonly sequence: Sequence;
  readonly cache: SequenceCache;
  /** Position of the first token. */
  readonly from: number;
  readonly ids: Int32Array;
}

/** What keys and values depend on beside the tokens: who has another scope is never given its pages. */
function scopeOf({ work }: Sequence): string {
  return work.interventions?.key ?? "";
}

export class Scheduler {
  readonly #pool: PagePool;
  readonly #prefix: PrefixCache;
  readonly #options: SchedulerOptions;
  readonly #running: Sequence[] = [];
  #waiting: Sequence[] = [];
  #slices = new Map<Sequence, Slice>();
  #count = 0;

  constructor(pool: PagePool, options: SchedulerOptions) {
    this.#pool = pool;
    this.#prefix = new PrefixCache(pool);
    this.#options = options;
  }

  get running(): number {
    return this.#running.length;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Pages that only the prefix cache holds. */
  get keptPages(): number {
    return this.#prefix.kept;
  }

  get busy(): boolean {
    return this.#running.length + this.#waiting.length > 0;
  }

  /**
   * Takes a request in.
   * @param mostTokens tokens that it can come to read.
   * @throws ResourceError when it can never fit into the pages, or too many wait.
   */
  add(work: Work, mostTokens: number): void {
    const { pages, pageTokens } = this.#pool;
    if (mostTokens > pages * pageTokens) {
      throw new ResourceError(
        `engine: the request may need ${mostTokens} tokens of cache, it holds ${pages * pageTokens}`,
        { hint: "open the model with more cacheTokens, or ask for fewer tokens" },
      );
    }
    if (this.#waiting.length >= this.#options.queue) {
      throw new ResourceError(`engine: ${this.#waiting.length} requests wait already, the most there may be`, {
        hint: "try again later, or open the model with a longer queue",
      });
    }
    this.#count += 1;
    const unread = { cache: undefined, node: undefined, shared: 0, reused: 0 };
    this.#waiting.push({ number: this.#count, work, ...unread, restarted: false, broken: false });
  }

  /** What the next pass reads: nothing only when there is no work. */
  plan(): readonly Slice[] {
    this.#slices = new Map();
    for (const sequence of this.#running.filter(({ work }) => work.done)) this.#end(sequence);
    this.#waiting = this.#waiting.filter(({ work }) => !work.done);
    for (const sequence of [...this.#running]) this.#planNextToken(sequence);
    this.#admit();
    this.#planPrompts();
    return [...this.#slices.values()];
  }

  /** Takes note of a pass: what was guessed wrong is forgotten, full pages are shared, who is done goes. */
  settle(slices: readonly Slice[]): void {
    for (const { sequence, cache } of slices) {
      const { work } = sequence;
      cache.truncate(Math.min(cache.length, work.ids.length - 1));
      if (work.sharesPages && !sequence.broken && this.#options.prefixCache) this.#share(sequence, cache);
      if (work.done) this.#end(sequence);
    }
  }

  /** Ends every request, and drops all pages. */
  endAll(error: unknown): void {
    for (const { work } of [...this.#running, ...this.#waiting]) work.fail(error);
    for (const sequence of [...this.#running]) this.#end(sequence);
    this.#waiting = [];
    this.#prefix.clear();
  }

  #planNextToken(sequence: Sequence): void {
    const { cache, work } = sequence;
    if (cache === undefined || work.ids.length - cache.length !== 1) return;
    if (!this.#reserve(sequence, cache, 1)) return;
    // Guesses take only pages that are there for the asking.
    const room = (cache.pages.length + this.#prefix.available) * this.#pool.pageTokens - cache.length;
    const share = Math.floor(this.#options.passTokens / this.#running.length);
    const guesses = work.guesses(Math.min(room, share) - 1);
    const ids = new Int32Array(1 + guesses.length);
    ids[0] = work.ids.at(-1) as number;
    ids.set(guesses, 1);
    if (!this.#reserve(sequence, cache, ids.length)) return;
    this.#put(sequence, cache, ids);
  }

  /** Lets waiting sequences in while there are pages for all tokens of those that run. */
  #admit(): void {
    for (;;) {
      const next = this.#waiting[0];
      if (next === undefined || this.#running.length >= this.#options.sequences) return;
      const cache = this.#pool.sequence();
      next.cache = cache;
      this.#takeShared(next, cache);
      const promised = this.#running.reduce((sum, sequence) => sum + this.#missing(sequence), 0);
      if (promised + this.#missing(next) > this.#prefix.available) {
        this.#release(next);
        return;
      }
      this.#waiting.shift();
      this.#running.push(next);
    }
  }

  /** Splits what is left of the pass evenly; short prompts leave their rest to longer ones. */
  #planPrompts(): void {
    const { passTokens } = this.#options;
    const reading = this.#running.filter((sequence) => !this.#slices.has(sequence));
    const planned = [...this.#slices.values()].reduce((sum, { ids }) => sum + ids.length, 0);
    let left = planned === 0 ? passTokens : Math.min(passTokens - planned, Math.ceil(passTokens * PROMPT_SHARE));
    left = Math.max(left, 1);
    for (const sequence of reading) if (sequence.cache) this.#takeShared(sequence, sequence.cache);
    const unread = ({ work, cache }: Sequence) => work.ids.length - (cache?.length ?? 0);
    const ready = reading.filter((sequence) => !this.#waitsForPage(sequence, reading));
    ready.sort((a, b) => unread(a) - unread(b));
    for (const [index, sequence] of ready.entries()) {
      const { cache, work } = sequence;
      const share = Math.min(unread(sequence), Math.ceil(left / (ready.length - index)));
      if (cache === undefined || share <= 0 || !this.#reserve(sequence, cache, share)) continue;
      this.#put(sequence, cache, work.ids.slice(cache.length, cache.length + share));
      left -= share;
    }
  }

  /** Whether an older sequence is about to fill the very page that this one needs next. */
  #waitsForPage(sequence: Sequence, reading: readonly Sequence[]): boolean {
    const page = this.#nextPage(sequence);
    if (page === undefined || sequence.cache?.length !== sequence.shared * this.#pool.pageTokens) return false;
    return reading.some((other) => {
      if (other.number >= sequence.number || other.node !== sequence.node) return false;
      if (scopeOf(other) !== scopeOf(sequence)) return false;
      const wanted = this.#nextPage(other);
      return wanted !== undefined && page.every((id, index) => wanted[index] === id);
    });
  }

  /** The tokens of the next page that could be shared: the last token is always computed. */
  #nextPage({ work, shared }: Sequence): Int32Array | undefined {
    const { pageTokens } = this.#pool;
    const end = (shared + 1) * pageTokens;
    if (!this.#options.prefixCache || !work.sharesPages || end > work.firstRow) return undefined;
    return work.ids.subarray(end - pageTokens, end);
  }

  /** Takes over the pages that the prefix cache has for a sequence that stands between two pages. */
  #takeShared(sequence: Sequence, cache: SequenceCache): void {
    const { pageTokens } = this.#pool;
    if (cache.length !== sequence.shared * pageTokens) return;
    for (let page = this.#nextPage(sequence); page !== undefined; page = this.#nextPage(sequence)) {
      const node = this.#prefix.find(sequence.node, page, scopeOf(sequence));
      if (node === undefined) return;
      const { routes } = sequence.work;
      if (routes?.accepts(node.routes, cache.length + pageTokens) === false) return;
      if (node.routes !== undefined) routes?.put(node.routes);
      this.#prefix.hold(node);
      cache.adopt(node.page);
      sequence.node = node;
      sequence.shared += 1;
      sequence.reused += pageTokens;
    }
  }

  /** Gives the pages that a sequence has filled to the prefix cache. */
  #share(sequence: Sequence, cache: SequenceCache): void {
    const { pageTokens } = this.#pool;
    while ((sequence.shared + 1) * pageTokens <= cache.length) {
      const start = sequence.shared * pageTokens;
      const page = cache.pages[sequence.shared] as number;
      const ids = sequence.work.ids.subarray(start, start + pageTokens);
      const node = this.#prefix.add(sequence.node, ids, page, scopeOf(sequence));
      if (node === undefined) return;
      const { routes } = sequence.work;
      // Whose page has no routing for its own sequence computes it anew, and leaves it there.
      if (routes !== undefined && routes.from <= start && !routes.accepts(node.routes, start + pageTokens)) {
        node.routes = routes.page(start, pageTokens);
      }
      // Where another sequence was faster, its page has the same content.
      if (node.page !== page) cache.replace(sequence.shared, node.page);
      sequence.node = node;
      sequence.shared += 1;
    }
  }

  /** Pages that a sequence needs for the tokens it has not read. */
  #missing({ work, cache }: Sequence): number {
    return Math.ceil(work.ids.length / this.#pool.pageTokens) - (cache?.pages.length ?? 0);
  }

  /**
   * Takes pages for a sequence's next tokens; the youngest sequences lose theirs for it.
   * @returns false when it was the youngest itself.
   */
  #reserve(sequence: Sequence, cache: SequenceCache, tokens: number): boolean {
    while (cache.pagesNeeded(tokens) > this.#prefix.available) {
      const youngest = this.#running.pop() as Sequence;
      this.#release(youngest);
      youngest.restarted = true;
      this.#waiting.unshift(youngest);
      if (youngest === sequence) return false;
    }
    this.#prefix.makeFree(cache.pagesNeeded(tokens));
    cache.reserve(tokens);
    return true;
  }

  #put(sequence: Sequence, cache: SequenceCache, ids: Int32Array): void {
    if (!sequence.restarted) sequence.work.reused(sequence.reused);
    sequence.reused = 0;
    this.#slices.set(sequence, { sequence, cache, from: cache.length, ids });
  }

  #release(sequence: Sequence): void {
    this.#slices.delete(sequence);
    sequence.cache?.release();
    this.#prefix.letGo(sequence.node);
    Object.assign(sequence, { cache: undefined, node: undefined, shared: 0, reused: 0 });
  }

  #end(sequence: Sequence): void {
    this.#release(sequence);
    const place = this.#running.indexOf(sequence);
    if (place >= 0) this.#running.splice(place, 1);
  }
}
