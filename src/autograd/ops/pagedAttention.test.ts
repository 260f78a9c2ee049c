import { describe, expect, it } from "vitest";
import { Draw } from "../../../test/conformance/harness.ts";
import { allBackends } from "../../../test/models.ts";
import type { Backend } from "../../backend/backend.ts";
import { Arena } from "../../tensor/arena.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { Graph } from "../graph.ts";
import { attention } from "./attention.ts";
import { PAGE_TOKENS, pagedAttention } from "./pagedAttention.ts";

const [F32, F16, Q8_0] = [0, 1, 8];

interface Shape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly channels: number;
}

/** One sequence whose page i is page `order[i]` of its pages; gives it tokens pass by pass. */
class Cached {
  readonly #graph: Graph;
  readonly #shape: Shape;
  readonly #typeId: number;
  readonly #pages: Tensor;
  readonly #order: readonly number[];
  #length = 0;

  constructor(graph: Graph, shape: Shape, typeId: number, order: readonly number[]) {
    this.#graph = graph;
    this.#shape = shape;
    this.#typeId = typeId;
    this.#order = order;
    // The largest type, and what kernels may read beyond the end.
    this.#pages = graph.take([2 * order.length * PAGE_TOKENS * shape.kvHeads * shape.channels + 16]);
    this.#pages.data.fill(Number.NaN);
  }

  /** Attention of the next tokens. @param qkv [T, H * C], [T, KV * C] twice. */
  pass(q: Float32Array, k: Float32Array, v: Float32Array): Float32Array {
    const graph = this.#graph;
    const { heads, kvHeads, channels } = this.#shape;
    const tokens = q.length / (heads * channels);
    const variable = (values: Float32Array) => {
      const tensor = graph.take([tokens, values.length / tokens]);
      tensor.data.set(values);
      return graph.constant(tensor);
    };
    const places = Array.from({ length: tokens }, (_, i) => this.#length + i);
    this.#length += tokens;
    const slot = (position: number) =>
      (this.#order[Math.floor(position / PAGE_TOKENS)] as number) * PAGE_TOKENS + (position % PAGE_TOKENS);
    const pass = {
      slots: graph.ids(places.map(slot)),
      pageTable: graph.ids(this.#order),
      sequences: graph.ids([0, tokens, this.#length, 0], [1, 4]),
      keys: this.#length,
    };
    const layer = { pages: this.#pages.pointer, typeId: this.#typeId };
    const out = pagedAttention(graph, variable(q), variable(k), variable(v), layer, pass, { heads, kvHeads });
    expect(out.trainable).toBe(false);
    return out.value.data.slice();
  }
}

function inputs(length: number, { heads, kvHeads, channels }: Shape) {
  const draw = new Draw(length);
  const rows = (count: number) => draw.floats(length * count * channels, 2);
  return { q: rows(heads), k: rows(kvHeads), v: rows(kvHeads) };
}

/** The attention of a whole sequence, in passes of the given numbers of tokens. */
function inPasses(backend: Backend, shape: Shape, typeId: number, order: readonly number[], passes: readonly number[]) {
  const arena = new Arena(backend);
  const graph = new Graph(backend, arena, { record: false });
  const cached = new Cached(graph, shape, typeId, order);
  const { q, k, v } = inputs(
    passes.reduce((sum, tokens) => sum + tokens, 0),
    shape,
  );
  const out: number[] = [];
  let start = 0;
  for (const tokens of passes) {
    const part = (values: Float32Array, heads: number) =>
      values.subarray(start * heads * shape.channels, (start + tokens) * heads * shape.channels);
    out.push(...cached.pass(part(q, shape.heads), part(k, shape.kvHeads), part(v, shape.kvHeads)));
    start += tokens;
  }
  arena.dispose();
  return Float32Array.from(out);
}

const SHAPES: readonly Shape[] = [
  { heads: 2, kvHeads: 2, channels: 128 },
  { heads: 6, kvHeads: 2, channels: 40 },
  { heads: 3, kvHeads: 1, channels: 6 },
];
const LENGTH = 290;
const ORDER = [4, 0, 9, 7, 1, 8, 2, 6, 3, 5];
const IN_ORDER = ORDER.map((_, page) => page);
const PASSES = [1, 1, 30, 1, 97, 5, 119, 2, 9, 24, 1];

describe.each(allBackends)("attention over pages on %s", (_, backend) => {
  it.each(SHAPES)("of f32 has the bits of attention without a cache, %j", (shape) => {
    const arena = new Arena(backend);
    const graph = new Graph(backend, arena, { record: false });
    const { q, k, v } = inputs(LENGTH, shape);
    const [a, b, c] = [q, k, v].map((values) => {
      const tensor = graph.take([LENGTH, values.length / LENGTH]);
      tensor.data.set(values);
      return graph.constant(tensor);
    }) as [ReturnType<Graph["constant"]>, ReturnType<Graph["constant"]>, ReturnType<Graph["constant"]>];
    const whole = attention(graph, a, b, c, {
      batch: 1,
      heads: shape.heads,
      kvHeads: shape.kvHeads,
    }).value.data.slice();
    arena.dispose();
    expect(inPasses(backend, shape, F32, ORDER, PASSES)).toEqual(whole);
  });

  it.each(SHAPES.flatMap((shape) => [F16, Q8_0].map((typeId) => [typeId, shape] as const)))(
    "of type %i has the same bits however it is cut and wherever its pages lie, %j",
    (typeId, shape) => {
      const whole = inPasses(backend, shape, typeId, IN_ORDER, [LENGTH]);
      expect(inPasses(backend, shape, typeId, ORDER, PASSES)).toEqual(whole);
    },
  );

  // A sequence of one token gets its value as it is stored.
  it("rounds to halves in f16, and to 127 steps of the largest of 32 channels in q8_0", () => {
    const shape = { heads: 1, kvHeads: 1, channels: 64 };
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const v = new Draw(8).floats(64, 3);
    const stored = (typeId: number) => new Cached(graph, shape, typeId, [0]).pass(v, v, v);
    for (const [c, value] of stored(F16).entries()) {
      expect(Math.abs(value - (v[c] as number))).toBeLessThanOrEqual(2 ** -11 * Math.abs(v[c] as number));
    }
    for (const [c, value] of stored(Q8_0).entries()) {
      const run = v.subarray(c - (c % 32), c - (c % 32) + 32);
      const largest = Math.max(...run.map(Math.abs));
      expect(Math.abs(value - (v[c] as number))).toBeLessThanOrEqual((largest / 254) * (1 + 2 ** -10));
    }
    expect(stored(F32)).toEqual(v);
  });

  it("shows a value that is not a number, or too large for its type, instead of hiding it", () => {
    const shape = { heads: 1, kvHeads: 1, channels: 64 };
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const v = new Float32Array(64).fill(1);
    v[3] = Number.NaN;
    v[40] = 1e8;
    const zeros = new Float32Array(64);
    const [f16, q8] = [F16, Q8_0].map((typeId) => new Cached(graph, shape, typeId, [0]).pass(zeros, zeros, v));
    expect([f16?.[3], f16?.[40], f16?.[4]]).toEqual([Number.NaN, Infinity, 1]);
    expect([q8?.[0], q8?.[31], q8?.[32], q8?.[63]]).toEqual([Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
  });
});
