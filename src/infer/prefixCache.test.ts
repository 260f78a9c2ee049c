import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PageOwner, PrefixCache, type PrefixNode } from "./prefixCache.ts";

/** Pages with reference counts. */
class Pages implements PageOwner {
  readonly references: number[];

  constructor(count: number) {
    this.references = Array.from({ length: count }, () => 0);
  }

  get freePages(): number {
    return this.references.filter((count) => count === 0).length;
  }

  take(): number {
    const page = this.references.indexOf(0);
    this.references[page] = 1;
    return page;
  }

  retain(page: number): void {
    if (this.references[page]! === 0) throw new Error(`page ${page} is free`);
    this.references[page]! += 1;
  }

  release(page: number): void {
    if (this.references[page]! === 0) throw new Error(`page ${page} is free`);
    this.references[page]! -= 1;
  }
}

const PAGE = 2;

/** A sequence: the pages it holds, and the last of its nodes. */
class Held {
  readonly pages: number[] = [];
  node: PrefixNode | undefined;

  readonly owner: Pages;
  readonly cache: PrefixCache;

  constructor(owner: Pages, cache: PrefixCache) {
    this.owner = owner;
    this.cache = cache;
  }

  /** Reads ids as the scheduler does. @returns how many pages were there. */
  read(ids: readonly number[]): number {
    let found = 0;
    for (let start = 0; start + PAGE <= ids.length; start += PAGE) {
      const page = Int32Array.from(ids.slice(start, start + PAGE));
      const node = this.cache.find(this.node, page);
      if (node !== undefined && found === start / PAGE) {
        found += 1;
        this.owner.retain(node.page);
        this.cache.hold(node);
        this.pages.push(node.page);
        this.node = node;
        continue;
      }
      if (!this.cache.makeFree(1)) break;
      this.pages.push(this.owner.take());
      const added = this.cache.add(this.node, page, this.pages.at(-1)!);
      this.node = added ?? this.node;
    }
    return found;
  }

  end(): void {
    for (const page of this.pages) this.owner.release(page);
    this.cache.letGo(this.node);
  }
}

describe("PrefixCache", () => {
  const opened = (pages: number) => {
    const owner = new Pages(pages);
    const cache = new PrefixCache(owner);
    const read = (...ids: number[]) => {
      const held = new Held(owner, cache);
      return { found: held.read(ids), held };
    };
    return { owner, cache, read };
  };

  it("finds the pages of an earlier sequence up to the first token that differs", () => {
    const { cache, read } = opened(8);
    read(1, 2, 3, 4, 5, 6).held.end();
    expect(cache.kept).toBe(3);
    expect(read(1, 2, 3, 4, 5, 7).found).toBe(2);
    expect(read(1, 2, 9, 4, 5, 6).found).toBe(1);
    expect(read(2, 1).found).toBe(0);
  });

  it("finds no pages of another scope, and forgets a scope with its last page", () => {
    const { owner, cache } = opened(2);
    const ids = Int32Array.of(1, 2);
    const add = (scope?: string) => {
      const page = owner.take();
      const node = cache.add(undefined, ids, page, scope);
      owner.release(page);
      return node;
    };
    const [plain, other] = [add(), add("a")];
    expect([cache.find(undefined, ids), cache.find(undefined, ids, "a"), cache.find(undefined, ids, "b")]).toEqual([
      plain,
      other,
      undefined,
    ]);
    cache.letGo(plain);
    cache.letGo(other);
    expect([cache.makeFree(1), cache.find(undefined, ids), cache.find(undefined, ids, "a")]).toEqual([
      true,
      undefined,
      other,
    ]);
    cache.clear();
    expect([owner.freePages, cache.find(undefined, ids, "a")]).toEqual([2, undefined]);
  });

  it("drops the least recently used chain first, from its end, and never a page that is held", () => {
    const { cache, read } = opened(4);
    read(1, 2, 3, 4).held.end();
    const { held } = read(5, 6);
    read(7, 8).held.end();
    expect([cache.kept, cache.available]).toEqual([3, 3]);
    cache.makeFree(1);
    expect([cache.find(undefined, Int32Array.of(1, 2)) !== undefined, cache.kept]).toEqual([true, 2]);
    expect(cache.makeFree(3)).toBe(true);
    expect([cache.kept, cache.find(undefined, Int32Array.of(5, 6))]).toEqual([0, held.node]);
    expect(cache.makeFree(4)).toBe(false);
    held.end();
    cache.clear();
    expect(cache.available).toBe(4);
  });

  it("keeps count of every page through any order of sequences", () => {
    const step = fc.record({ ids: fc.array(fc.nat(2), { maxLength: 10 }), ends: fc.nat(3) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { owner, cache, read } = opened(6);
        const running: Held[] = [];
        for (const { ids, ends } of steps) {
          running.push(read(...ids).held);
          for (let count = 0; count < ends; count++) running.shift()?.end();
          const used = new Set(running.flatMap(({ pages }) => pages));
          expect(owner.freePages + cache.kept + used.size).toBe(6);
        }
        for (const held of running) held.end();
        cache.clear();
        expect(owner.freePages).toBe(6);
      }),
      { seed: 2, numRuns: 300 },
    );
  });
});
