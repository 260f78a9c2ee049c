import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { allBackends, createCache, createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import { Graph } from "../autograd/graph.ts";
import { ResourceError, ShapeError } from "../errors.ts";
import { Arena } from "../tensor/arena.ts";
import { PagePool } from "./cache.ts";
import type { Decoder, Observer } from "./decoder.ts";

const VOCABULARY = 50;
const randomIds = (count: number) => [...new Draw(5).ints(count, 0, VOCABULARY - 1)];

describe.each(allBackends)("a decoder on %s", (_, backend) => {
  it.each([{}, { normTopkProb: true, clipQkv: 0.5 }, { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 }])(
    "gives the rows of a batch the bits that they have alone, %j",
    (changes) => {
      const decoder = createDecoder(backend, smallConfig(changes));
      const ids = randomIds(3 * 17);
      const together = logitsOf(backend, decoder, ids, { batch: 3 });
      const alone = [0, 1, 2].flatMap((row) => [...logitsOf(backend, decoder, ids.slice(row * 17, (row + 1) * 17))]);
      expect(together).toEqual(Float32Array.from(alone));
    },
  );

  it("gives documents that kvStart keeps apart what they give alone", () => {
    const decoder = createDecoder(backend, smallConfig());
    const lengths = [6, 1, 80, 13];
    const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((sum, length) => sum + length, 0));
    const ids = randomIds(100);
    const perToken = (value: (document: number, offset: number) => number) =>
      lengths.flatMap((length, document) => Array.from({ length }, (_, offset) => value(document, offset)));
    const kvStart = perToken((document) => starts[document] as number);
    const restarted = logitsOf(backend, decoder, ids, { kvStart, positions: perToken((_, offset) => offset) });
    // Rotary positions are relative: those of the whole row serve as well, up to rounding.
    const running = logitsOf(backend, decoder, ids, { kvStart });
    const alone = lengths.flatMap((length, document) => {
      const start = starts[document] as number;
      return [...logitsOf(backend, decoder, ids.slice(start, start + length))];
    });
    expect(restarted).toBeAllClose(alone, { atol: 1e-5, rtol: 1e-5 });
    expect(running).toBeAllClose(alone, { atol: 1e-4, rtol: 1e-4 });
  });

  it("sees no later token", () => {
    const decoder = createDecoder(backend, smallConfig());
    const ids = randomIds(30);
    const before = logitsOf(backend, decoder, ids);
    const after = logitsOf(backend, decoder, ids.with(20, ((ids[20] as number) + 1) % VOCABULARY));
    expect(after.subarray(0, 20 * VOCABULARY)).toEqual(before.subarray(0, 20 * VOCABULARY));
    expect(after.subarray(29 * VOCABULARY)).not.toEqual(before.subarray(29 * VOCABULARY));
  });

  it("does not depend on how experts are numbered", () => {
    const decoder = createDecoder(backend, smallConfig());
    const ids = randomIds(40);
    const before = logitsOf(backend, decoder, ids);
    permuteExperts(decoder, 1, [3, 0, 7, 1, 6, 2, 5, 4]);
    const after = logitsOf(backend, decoder, ids);
    expect(after).toBeAllClose(before, { atol: 1e-5, rtol: 1e-5 });
    // The router's rows alone make another model.
    permuteRows(decoder, "model.layers.1.mlp.gate.weight", [3, 0, 7, 1, 6, 2, 5, 4]);
    expect(logitsOf(backend, decoder, ids)).not.toBeAllClose(before, { atol: 1e-2 });
  });

  it("shows everything to an observer and gives the same bits under it", () => {
    const decoder = createDecoder(backend, smallConfig());
    const ids = randomIds(10);
    const seen: string[] = [];
    const note =
      (what: string) =>
      (index: number, { shape }: { readonly shape: readonly number[] }) =>
        void seen.push(`${what} ${index} [${shape}]`);
    const observe: Observer = {
      hidden: note("hidden"),
      attentionOutput: note("attention"),
      mlpOutput: note("mlp"),
      routing(layer, { logits, probs, lse, expertIds, expertWeights }) {
        const shapes = [logits, probs, lse, expertIds, expertWeights.value].map(({ shape }) => `[${shape}]`);
        seen.push(`routing ${layer} ${shapes.join(" ")}`);
        expect([...expertIds.data].every((id) => id >= 0 && id < 8)).toBe(true);
      },
      finalNorm: (hidden) => void seen.push(`norm [${hidden.shape}]`),
    };
    const options = { batch: 2 };
    expect(logitsOf(backend, decoder, ids, { ...options, observe })).toEqual(logitsOf(backend, decoder, ids, options));
    const layer = (index: number) => [
      `attention ${index} [10,32]`,
      `routing ${index} [10,8] [10,8] [10] [10,2] [10,2]`,
      `mlp ${index} [10,32]`,
      `hidden ${index + 1} [10,32]`,
    ];
    expect(seen).toEqual(["hidden 0 [10,32]", ...layer(0), ...layer(1), "norm [10,32]"]);
  });

  it("has a residual stream that is the sum of what an observer saw being added", () => {
    const decoder = createDecoder(backend, smallConfig());
    const hidden: Float32Array[] = [];
    const added: Float32Array[] = [];
    const keep = (list: Float32Array[]) => (_: number, tensor: { readonly data: Float32Array }) =>
      void list.push(tensor.data.slice());
    const observe = { hidden: keep(hidden), attentionOutput: keep(added), mlpOutput: keep(added) };
    logitsOf(backend, decoder, randomIds(6), { observe });
    const sum = hidden[0]?.map((value, i) => added.reduce((total, part) => total + (part[i] as number), value));
    expect(hidden.at(-1)).toBeAllClose(sum ?? [], { atol: 1e-5 });
  });
});

function permuteRows(decoder: Decoder, name: string, order: readonly number[]): void {
  const { data } = decoder.parameters.get(name).value;
  const before = data.slice();
  const size = data.length / order.length;
  for (const [to, from] of order.entries()) data.set(before.subarray(from * size, (from + 1) * size), to * size);
}

function permuteExperts(decoder: Decoder, layer: number, order: readonly number[]): void {
  for (const part of ["gate.weight", "experts.gate_up_proj", "experts.down_proj"]) {
    permuteRows(decoder, `model.layers.${layer}.mlp.${part}`, order);
  }
}

describe("Decoder.forward refuses", () => {
  const [, backend] = allBackends.at(-1) as (typeof allBackends)[number];
  const decoder = createDecoder(backend, smallConfig());
  const forward = (ids: number[], options: object = {}) => {
    const graph = new Graph(backend, new Arena(backend), { record: false });
    return () => decoder.forward(graph, ids, options);
  };

  it("an id outside the vocabulary", () => {
    expect(forward([1, 2, 50])).toThrow(new ShapeError("embedding: id 50 at position 2 is outside 0..49"));
    expect(forward([-1])).toThrow(new ShapeError("embedding: id -1 at position 0 is outside 0..49"));
  });

  it("a position beyond the context, counted, given or after a cache", () => {
    const fault = (position: number) =>
      new ShapeError(`context: position ${position}, the model holds 160 (positions 0..159)`, {
        hint: "shorten the input",
      });
    expect(forward(randomIds(161))).toThrow(fault(160));
    expect(forward([1, 2], { positions: [500, 7] })).toThrow(fault(500));
    const cache = createCache(backend, decoder, 400);
    const sequences = (tokens: number) => ({ sequences: [{ tokens, cache }] });
    for (let length = 0; length < 160; length += 40) forward(randomIds(40), sequences(40))();
    expect(forward([1], sequences(1))).toThrow(fault(160));
    expect([cache.length, cache.pages.length]).toEqual([160, 5]);
  });

  it("a position or a first key below 0", () => {
    expect(forward([1, 2], { positions: [0, -1] })).toThrow(
      new ShapeError("forward: positions[1] is -1, must be at least 0"),
    );
    expect(forward([1, 2], { kvStart: [-3, 0] })).toThrow(
      new ShapeError("forward: kvStart[0] is -3, must be at least 0"),
    );
  });

  it("ids, positions and first keys of unequal numbers", () => {
    expect(forward([1, 2, 3], { batch: 2 })).toThrow(
      new ShapeError("forward: 3 ids are not 2 sequences of equal length"),
    );
    expect(forward([1, 2, 3], { positions: [0, 1] })).toThrow(new ShapeError("forward: 2 positions for 3 ids"));
    expect(forward([1, 2, 3], { kvStart: [0] })).toThrow(new ShapeError("forward: 1 kvStart for 3 ids"));
  });

  it("more tokens than there are pages for, and keeps the sequences as they were", () => {
    const pool = new PagePool(backend, decoder.config, { pages: 3, type: "f32" });
    const [a, b] = [pool.sequence(), pool.sequence()];
    forward(randomIds(33), { sequences: [{ tokens: 33, cache: a }] })();
    const both = (tokens: number) => ({
      sequences: [
        { tokens: 32, cache: a },
        { tokens, cache: b },
      ],
    });
    expect(forward(randomIds(33), both(1))).toThrow(
      new ResourceError("cache: 1 pages asked, 0 of 3 are free", {
        hint: "use fewer or shorter sequences, or a larger cache",
      }),
    );
    expect([a.length, a.pages.length, b.length, b.pages.length, pool.freePages]).toEqual([33, 2, 0, 0, 1]);
    forward(randomIds(32), both(0))();
    expect([a.length, b.length, pool.freePages]).toEqual([65, 0, 0]);
  });

  it("sequences that do not fit the ids, each other or the model", () => {
    const [cache, other] = [createCache(backend, decoder, 40), createCache(backend, decoder, 40)];
    const one = { tokens: 2, cache };
    const cases: [number[], object, string][] = [
      [[1, 2, 3], { sequences: [one] }, "forward: 3 ids for sequences of [2] tokens"],
      [[1, 2], { sequences: [one, { tokens: -1, cache: other }] }, "forward: 2 ids for sequences of [2, -1] tokens"],
      [[1], { sequences: [{ tokens: 0.5, cache }] }, "forward: 1 ids for sequences of [0.5] tokens"],
      [[], { sequences: [] }, "forward: 0 ids for sequences of [] tokens"],
      [[1, 2, 3, 4], { sequences: [one, one] }, "forward: a sequence's cache is there twice"],
      [
        [1, 2, 3, 4],
        { sequences: [one, { ...one, cache: other }] },
        "forward: the sequences' caches are of different pools",
      ],
      [[1, 2], { sequences: [one], batch: 1 }, "forward: batch can not be given with sequences"],
      [[1, 2], { sequences: [one], kvStart: [0, 0] }, "forward: kvStart can not be given with sequences"],
    ];
    for (const [ids, options, fault] of cases) expect(forward(ids, options)).toThrow(new ShapeError(fault));
    const small = new PagePool(backend, { ...decoder.config, numHiddenLayers: 1 }, { pages: 1, type: "f32" });
    expect(forward([1], { sequences: [{ tokens: 1, cache: small.sequence() }] })).toThrow(
      new ShapeError("forward: the cache is for a model of another shape"),
    );
    const graph = new Graph(backend, new Arena(backend), { record: true });
    expect(() => decoder.forward(graph, [1, 2], { sequences: [one] })).toThrow(
      new ShapeError("forward: no gradients flow through a cache"),
    );
    expect([cache.length, cache.pages.length]).toEqual([0, 0]);
  });
});
