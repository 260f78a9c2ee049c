/** Cases of the paged cache: what is stored, and attention over it. */
import {
  Draw,
  EXACT,
  expected,
  input,
  type KernelCase,
  kernelCase,
  overwritten,
  type Tolerance,
  updated,
  type Values,
} from "./harness.ts";

const PAGE_TOKENS = 32;
const draw = new Draw(15);

/** GGML's numbers. */
export const CACHE_TYPES = { F32: 0, F16: 1, Q8_0: 8 } as const;
export type CacheTypeName = keyof typeof CACHE_TYPES;

export interface CacheSizes {
  readonly type: CacheTypeName;
  readonly kvHeads?: number;
  readonly channels?: number;
}

/** Bytes of a page, as kernels.h has it. */
function pageBytes({ type, kvHeads = 2, channels = 16 }: CacheSizes): number {
  const bytes = type === "Q8_0" ? channels + 2 * Math.ceil(channels / 32) : channels * (type === "F16" ? 2 : 4);
  return 2 * kvHeads * PAGE_TOKENS * bytes;
}

/** Places of `count` tokens, no two the same, in `pages` pages. */
function randomSlots(count: number, pages: number): Int32Array {
  const free = Array.from({ length: pages * PAGE_TOKENS }, (_, slot) => slot);
  return Int32Array.from({ length: count }, () => free.splice(draw.int(0, free.length - 1), 1)[0] as number);
}

export interface StoreSizes extends CacheSizes {
  readonly tokens: number;
  readonly pages?: number;
  /** Bound of the values. */
  readonly spread?: number;
  /** Values that rounding finds hard: ties, the smallest, the largest, infinities, not a number. */
  readonly hard?: boolean;
}

const HARD = [
  ...[
    0,
    -0,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    2 ** -24,
    2 ** -25,
    3 * 2 ** -25,
    -(2 ** -26),
    2 ** -14 - 2 ** -25,
    6.1e-5,
  ],
  ...[65_504, 65_519.996, 65_520, -65_536, 1e30, Infinity, -Infinity, Number.NaN, 1e-40, 0.5, 127, 126.5, 125.5],
];

export function cacheStoreCase(sizes: StoreSizes): KernelCase {
  const { type, tokens, pages = 3, kvHeads = 2, channels = 16, spread = 2, hard = false } = sizes;
  const width = kvHeads * channels;
  const matrix = (padding: number) => {
    const values = draw.matrix({ rows: tokens, cols: width, padding }, spread);
    return hard
      ? values.map((value, i) => (i % 3 === 0 ? (HARD[Math.floor(i / 3) % HARD.length] as number) : value))
      : values;
  };
  const content = draw.ints((pages * pageBytes(sizes)) / 4, 0, 2 ** 31 - 1);
  const operands = {
    k: input(matrix(3)),
    v: input(matrix(1)),
    pages: updated(content, EXACT),
    slots: input(randomSlots(tokens, pages)),
  };
  return kernelCase("cacheStore", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.cacheStore(
      at.k,
      width + 3,
      at.v,
      width + 1,
      at.pages,
      at.slots,
      tokens,
      kvHeads,
      channels,
      CACHE_TYPES[type],
    ),
  );
}

export interface PagedSizes extends CacheSizes {
  /** Of each sequence: its new tokens, and its positions with them. */
  readonly sequences: readonly (readonly [queries: number, keys: number])[];
  readonly heads?: number;
  /** Bound of the entries of q and k. */
  readonly spread?: number;
}

/** What a call reads of a cache: pages in a random order, with all keys in place and anything else in between. */
export interface PagedInputs {
  readonly sizes: PagedSizes;
  readonly q: Float32Array;
  readonly pages: Values;
  readonly table: Int32Array;
  readonly plan: Int32Array;
}

/** Stores random keys and values by the reference's own kernel. */
export function pagedInputs(sizes: PagedSizes): PagedInputs {
  const { sequences, type, kvHeads = 2, heads = 2 * kvHeads, channels = 16, spread = 2 } = sizes;
  const counts = sequences.map(([, keys]) => Math.ceil(keys / PAGE_TOKENS));
  const pages = counts.reduce((sum, count) => sum + count, 0);
  const free = Array.from({ length: pages }, (_, page) => page);
  const table = Int32Array.from({ length: pages }, () => free.splice(draw.int(0, free.length - 1), 1)[0] as number);
  const slots: number[] = [];
  const plan: number[] = [];
  let [row, first] = [0, 0];
  for (const [index, [queries, keys]] of sequences.entries()) {
    plan.push(row, queries, keys, first);
    for (let key = 0; key < keys; key++) {
      const page = table[first + Math.floor(key / PAGE_TOKENS)] as number;
      slots.push(page * PAGE_TOKENS + (key % PAGE_TOKENS));
    }
    row += queries;
    first += counts[index] as number;
  }
  const width = kvHeads * channels;
  const [k, v] = [draw.floats(slots.length * width, spread), draw.floats(slots.length * width)];
  // What was never stored may be anything: all bits set are not a number in F32 and F16.
  const content = new Int32Array((pages * pageBytes(sizes)) / 4).fill(-1);
  const filled = expected(
    kernelCase(
      "cacheStore",
      "to fill pages",
      { k: input(k), v: input(v), pages: updated(content), slots: input(Int32Array.from(slots)) },
      (kernels, at) => {
        const kinds = [kvHeads, channels, CACHE_TYPES[type]] as const;
        kernels.cacheStore(at.k, width, at.v, width, at.pages, at.slots, slots.length, ...kinds);
      },
    ),
  ).operands.pages as Values;
  // Kernels may read a little beyond the last page.
  const padded = new Int32Array(filled.length + 16).fill(-1);
  padded.set(filled);
  const q = draw.matrix({ rows: row, cols: heads * channels, padding: 3 }, spread);
  return { sizes, q, pages: padded, table, plan: Int32Array.from(plan) };
}

/** The bounds of attention: an error of a score is a relative one of its probability. */
function tolerance(spread: number, channels: number): Tolerance {
  return { ofLargest: 1e-5, absolute: Math.min(1e-6 + 5e-7 * spread ** 2 * Math.sqrt(channels), 1e-4) };
}

export function pagedAttentionCase({ sizes, q, pages, table, plan }: PagedInputs): KernelCase {
  const { type, kvHeads = 2, heads = 2 * kvHeads, channels = 16, spread = 2 } = sizes;
  const count = plan.length / 4;
  const sum = (place: number) =>
    Array.from({ length: count }, (_, s) => plan[4 * s + place] as number).reduce((a, b) => a + b, 0);
  const queries = sum(1);
  const operands = {
    q: input(q),
    pages: input(pages),
    table: input(table),
    plan: input(plan),
    out: overwritten({ rows: queries, cols: heads * channels, padding: 2 }, tolerance(spread, channels)),
  };
  return kernelCase("pagedAttention", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.pagedAttention(
      at.q,
      heads * channels + 3,
      at.pages,
      at.table,
      at.plan,
      at.out,
      heads * channels + 2,
      count,
      queries,
      sum(2),
      heads,
      kvHeads,
      channels,
      CACHE_TYPES[type],
      1 / Math.sqrt(channels),
    ),
  );
}

const TYPES = ["F32", "F16", "Q8_0"] as const;
const CHANNELS = [2, 6, 8, 16, 32, 40, 64, 96, 128];

const attentionSizes: readonly PagedSizes[] = TYPES.flatMap((type): PagedSizes[] => [
  ...[1, 2, 3, 4, 5, 12, 13, 31, 32, 33, 100].map(
    (queries): PagedSizes => ({ type, sequences: [[queries, queries + 30]] }),
  ),
  ...[1, 31, 32, 33, 64, 127, 128, 129, 255, 256, 257, 300].map(
    (keys): PagedSizes => ({ type, sequences: [[1, keys]] }),
  ),
  ...CHANNELS.map(
    (channels): PagedSizes => ({
      type,
      channels,
      sequences: [
        [1, 70],
        [20, 20],
        [3, 140],
      ],
    }),
  ),
  {
    type,
    sequences: [
      [1, 300],
      [7, 7],
      [0, 40],
      [120, 290],
      [1, 1],
      [2, 257],
    ],
  },
  {
    type,
    kvHeads: 3,
    heads: 3,
    sequences: [
      [1, 40],
      [30, 61],
    ],
  },
  {
    type,
    kvHeads: 1,
    heads: 7,
    sequences: [
      [1, 40],
      [2, 61],
    ],
  },
  { type, kvHeads: 1, heads: 16, sequences: [[1, 140]] },
  { type, sequences: [[0, 0]] },
  { type, sequences: [] },
  {
    type,
    sequences: [
      [2, 70],
      [15, 70],
    ],
    spread: 60,
  },
]);

export const pagedCases: readonly KernelCase[] = [
  ...TYPES.flatMap((type) => [
    ...[0, 1, 5, 33, 96].map((tokens) => cacheStoreCase({ type, tokens })),
    ...CHANNELS.map((channels) => cacheStoreCase({ type, tokens: 3, channels })),
    cacheStoreCase({ type, tokens: 40, channels: 32, kvHeads: 1, spread: 1e-3 }),
    cacheStoreCase({ type, tokens: 40, channels: 48, hard: true }),
    cacheStoreCase({ type, tokens: 40, channels: 40, spread: 1e-6 }),
    cacheStoreCase({ type, tokens: 9, channels: 64, spread: 1e9 }),
  ]),
  ...attentionSizes.map((sizes) => pagedAttentionCase(pagedInputs(sizes))),
  pagedAttentionCase(
    pagedInputs({
      type: "F32",
      sequences: [
        [2, 40],
        [20, 40],
      ],
      spread: 1e15,
    }),
  ),
];

/** Few long sequences, which threads share key by key, and many of all kinds. */
export const pagedThreadCases: readonly KernelCase[] = [
  ...TYPES.map((type) => pagedAttentionCase(pagedInputs({ type, kvHeads: 1, heads: 2, sequences: [[1, 1000]] }))),
  pagedAttentionCase(
    pagedInputs({
      type: "F16",
      kvHeads: 1,
      heads: 3,
      sequences: [
        [4, 1030],
        [1, 500],
        [1, 3],
      ],
    }),
  ),
  pagedAttentionCase(
    pagedInputs({
      type: "F16",
      kvHeads: 1,
      heads: 1,
      sequences: [
        [2, 600],
        [150, 310],
      ],
    }),
  ),
  pagedAttentionCase(
    pagedInputs({
      type: "F32",
      sequences: [
        [1, 700],
        [150, 310],
        [3, 258],
        [1, 20],
        [97, 97],
      ],
    }),
  ),
  cacheStoreCase({ type: "F16", tokens: 200, pages: 9, kvHeads: 3, channels: 64 }),
];
