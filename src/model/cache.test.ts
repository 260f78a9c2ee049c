import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { allBackends, createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { ResourceError, ShapeError } from "../errors.ts";
import { PagePool } from "./cache.ts";

const backend = createReferenceBackend();
const config = smallConfig();
const poolOf = (pages: number) => new PagePool(backend, config, { pages, type: "f32" });

describe("a pool of pages", () => {
  it("knows the bytes of a page: keys and values of 32 tokens, 2 heads of 16 channels and 2 layers", () => {
    const model = smallConfig({ hiddenSize: 64, numHiddenLayers: 2 });
    const bytes = (["f32", "f16", "q8_0"] as const).map(
      (type) => new PagePool(backend, model, { pages: 0, type }).pageBytes,
    );
    const values = 2 * 32 * 2 * 16 * 2;
    // In 8 bits a head of 16 channels has one scale of two bytes.
    expect(bytes).toEqual([4 * values, 2 * values, values + (values / 16) * 2]);
  });

  it("gives each page to one holder, and again when the last of its holders has released it", () => {
    const pool = poolOf(2);
    const [a, b] = [pool.take(), pool.take()];
    expect([a, b, pool.freePages, pool.references(a)]).toEqual([0, 1, 0, 1]);
    pool.retain(a);
    pool.release(a);
    expect([pool.references(a), pool.freePages]).toEqual([1, 0]);
    pool.release(a);
    expect([pool.references(a), pool.freePages, pool.take()]).toEqual([0, 1, a]);
  });

  it("refuses a page where none is free, and pages that nobody holds or that do not exist", () => {
    const pool = poolOf(1);
    const page = pool.take();
    expect(() => pool.take()).toThrow(
      new ResourceError("cache: 1 pages asked, 0 of 1 are free", {
        hint: "use fewer or shorter sequences, or a larger cache",
      }),
    );
    pool.release(page);
    expect(() => pool.release(page)).toThrow(new ShapeError("cache: page 0 is free already"));
    expect(() => pool.retain(page)).toThrow(new ShapeError("cache: page 0 is free, it can not be shared"));
    for (const wrong of [-1, 1, 0.5, Number.NaN]) {
      expect(() => pool.references(wrong)).toThrow(new ShapeError(`cache: page ${wrong}, there are 1`));
    }
    expect([pool.freePages, pool.references(0)]).toEqual([1, 0]);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 26])("refuses to be made of %s pages", (pages) => {
    expect(() => poolOf(pages)).toThrow(
      new ShapeError(`cache: ${pages} pages, expected a whole number below ${2 ** 26}`),
    );
  });

  it("refuses more memory than there is", () => {
    expect(() => poolOf(2 ** 24)).toThrow(ResourceError);
  });
});

describe("a cached sequence", () => {
  it("takes pages as it grows, and gives them back as it is cut", () => {
    const pool = poolOf(4);
    const cache = pool.sequence();
    const needed = [0, 1, 32, 33, 128].map((tokens) => cache.pagesNeeded(tokens));
    expect(needed).toEqual([0, 1, 1, 2, 4]);
    cache.reserve(70);
    expect([cache.length, cache.pages, pool.freePages]).toEqual([0, [0, 1, 2], 1]);
    cache.commit(33);
    cache.truncate(33);
    expect([cache.length, cache.pages, pool.freePages]).toEqual([33, [0, 1], 2]);
    cache.truncate(32);
    expect([cache.length, cache.pages]).toEqual([32, [0]]);
    cache.truncate(50);
    expect(cache.length).toBe(32);
    cache.release();
    expect([cache.length, cache.pages, pool.freePages]).toEqual([0, [], 4]);
  });

  it("starts with full pages of others, which stay as long as one holds them", () => {
    const pool = poolOf(3);
    const first = pool.sequence();
    first.reserve(64);
    first.commit(64);
    const second = pool.sequence(first.pages.slice(0, 1));
    expect([second.length, second.pages, pool.references(0), pool.freePages]).toEqual([32, [0], 2, 1]);
    first.release();
    expect([pool.references(0), pool.freePages]).toEqual([1, 2]);
    second.release();
    expect(pool.freePages).toBe(3);
  });

  it("copies the page that it is to write into where others hold it too", () => {
    const pool = poolOf(3);
    const first = pool.sequence();
    first.reserve(40);
    first.commit(40);
    const second = first.fork();
    expect([second.length, second.pages, pool.freePages]).toEqual([40, [0, 1], 1]);
    expect([first.pagesNeeded(1), second.pagesNeeded(24), second.pagesNeeded(25)]).toEqual([1, 1, 2]);
    second.reserve(1);
    expect([first.pages, second.pages, pool.references(0), pool.references(1)]).toEqual([[0, 1], [0, 2], 2, 1]);
    // Now it is the first one's alone.
    expect(first.pagesNeeded(1)).toBe(0);
  });

  it("stays as it is where there are too few pages", () => {
    const pool = poolOf(2);
    const cache = pool.sequence();
    cache.reserve(20);
    cache.commit(20);
    expect(() => cache.reserve(45)).toThrow("cache: 2 pages asked, 1 of 2 are free");
    expect([cache.length, cache.pages, pool.freePages]).toEqual([20, [0], 1]);
  });

  it("refuses lengths that are none, and to count what is not reserved", () => {
    const cache = poolOf(1).sequence();
    expect(() => cache.truncate(-1)).toThrow(new ShapeError("cache: can not be cut to -1 positions"));
    expect(() => cache.truncate(0.5)).toThrow(new ShapeError("cache: can not be cut to 0.5 positions"));
    expect(() => cache.commit(1)).toThrow(new ShapeError("cache: 0 + 1 positions, 0 are reserved"));
  });
});

describe.each(allBackends)("a model on %s", (_, on) => {
  it.each([
    ["f16", 0, 2e-3],
    ["q8_0", 2e-3, 4e-2],
  ] as const)("is with a cache of %s as near to itself without one as rounding allows", (type, least, most) => {
    // Without experts: a little more or less may make them others.
    const dense = { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1, intermediateSize: 64 };
    const decoder = createDecoder(on, smallConfig({ hiddenSize: 128, ...dense }));
    const ids = new Draw(3).ints(100, 0, 49);
    const exact = logitsOf(on, decoder, ids);
    const pool = new PagePool(on, decoder.config, { pages: 4, type });
    const rounded = logitsOf(on, decoder, ids, { sequences: [{ tokens: 100, cache: pool.sequence() }] });
    pool.dispose();
    const size = (values: Float32Array) => Math.hypot(...values);
    const error = size(rounded.map((value, i) => value - (exact[i] as number))) / size(exact);
    expect(error).toBeGreaterThan(least);
    expect(error).toBeLessThan(most);
  });
});
