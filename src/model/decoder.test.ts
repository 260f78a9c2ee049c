import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { allBackends, createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import { Graph } from "../autograd/graph.ts";
import { ShapeError } from "../errors.ts";
import { Arena } from "../tensor/arena.ts";
import { KeyValueCache } from "./cache.ts";
import type { Decoder, Observer } from "./decoder.ts";

const VOCABULARY = 50;
const randomIds = (count: number) => [...new Draw(5).ints(count, 0, VOCABULARY - 1)];

/** The part of each of `batch` sequences from `start` to `end`. */
function columns<T>(values: ArrayLike<T>, batch: number, start: number, end: number): T[] {
  const length = values.length / batch;
  return Array.from({ length: batch }, (_, b) => Array.from(values).slice(b * length + start, b * length + end)).flat();
}

describe.each(allBackends)("a decoder on %s", (_, backend) => {
  it.each([
    { pieces: [3, 1, 1, 4, 2], batch: 2 },
    { pieces: [70, 1, 64, 15], batch: 1 },
  ])("gives the same bits with a cache, in pieces of $pieces, as in one pass", ({ pieces, batch }) => {
    const decoder = createDecoder(backend, smallConfig());
    const length = pieces.reduce((sum, piece) => sum + piece, 0);
    const ids = randomIds(batch * length);
    const whole = logitsOf(backend, decoder, ids, { batch });
    const cache = new KeyValueCache(backend, decoder.config, batch, length + 2);
    let start = 0;
    for (const piece of pieces) {
      const part = logitsOf(backend, decoder, columns(ids, batch, start, start + piece), { batch, cache });
      const [from, to] = [start * VOCABULARY, (start + piece) * VOCABULARY];
      expect(part, `from ${start}`).toEqual(Float32Array.from(columns(whole, batch, from, to)));
      start += piece;
      expect(cache.length).toBe(start);
    }
  });

  it("goes on from a truncated cache as if the rest had never been read", () => {
    const decoder = createDecoder(backend, smallConfig());
    const ids = randomIds(8);
    const cache = new KeyValueCache(backend, decoder.config, 1, 8);
    logitsOf(backend, decoder, ids.toReversed(), { cache });
    cache.truncate(0);
    logitsOf(backend, decoder, ids.slice(0, 5), { cache });
    logitsOf(backend, decoder, [1, 2, 3], { cache });
    cache.truncate(5);
    const rest = logitsOf(backend, decoder, ids.slice(5), { cache });
    expect(rest).toEqual(logitsOf(backend, decoder, ids).subarray(5 * VOCABULARY));
  });

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
    return () => decoder.forward(graph, ids, { batch: 1, ...options });
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
    const cache = new KeyValueCache(backend, decoder.config, 1, 400);
    for (let length = 0; length < 160; length += 40) forward(randomIds(40), { cache })();
    expect(forward([1], { cache })).toThrow(fault(160));
    expect(cache.length).toBe(160);
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

  it("a cache that is full or of another number of sequences", () => {
    const cache = new KeyValueCache(backend, decoder.config, 1, 4);
    forward([1, 2, 3], { cache })();
    expect(forward([1, 2], { cache })).toThrow(new ShapeError("cache: 3 + 2 positions, it holds 4"));
    expect(forward([1, 2], { cache, batch: 2 })).toThrow(new ShapeError("cache: 2 sequences, it is for 1"));
    expect(cache.length).toBe(3);
  });
});
