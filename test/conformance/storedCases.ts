/** Cases of the products with stored weights, and the law that a token's result does not depend on its company. */
import { expect, it } from "vitest";
import type { Backend } from "../../src/backend/backend.ts";
import { type Activations, rowBytes, STORAGE_TYPES, type StorageType } from "../../src/tensor/stored.ts";
import {
  addresses,
  Draw,
  differentBits,
  EXACT,
  input,
  type KernelCase,
  kernelCase,
  overwritten,
  run,
  SUM,
  scratch,
  type Tolerance,
} from "./harness.ts";
import { type MoeSizes, moeInputs, moePlanOf } from "./moeCases.ts";

const draw = new Draw(18);
export const STORED_TYPES = Object.keys(STORAGE_TYPES) as StorageType[];

/** Where blocks have f16 scales, offsets and minima; everything else in a block may be any bits. */
const SCALE_BYTES: Readonly<Partial<Record<StorageType, readonly number[]>>> = {
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q2_K: [80, 82],
  Q3_K: [108],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
};

/** An f16 of ordinary size: a random sign and fraction, 2^-8 to 2^-3. */
const randomHalf = () => (draw.int(0, 1) << 15) | (draw.int(7, 11) << 10) | draw.int(0, 1023);

/** Rows of random blocks. @param byte what their bytes are, but for scales, offsets and minima. */
export function randomRows(type: StorageType, rows: number, columns: number, byte?: number): Uint8Array {
  const { blockBytes } = STORAGE_TYPES[type];
  const count = rows * rowBytes(type, columns);
  if (type === "F32") return new Uint8Array(draw.floats(rows * columns).buffer);
  const bytes = Uint8Array.from({ length: count }, () => byte ?? draw.int(0, 255));
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < count; block += blockBytes) {
    if (type === "F16") view.setUint16(block, randomHalf(), true);
    else if (type === "BF16") view.setUint16(block, (draw.int(0, 1) << 15) | draw.int(0x3d00, 0x3f80), true);
    for (const at of SCALE_BYTES[type] ?? []) view.setUint16(block + at, randomHalf(), true);
  }
  return bytes;
}

export interface StoredSizes {
  readonly type: StorageType;
  readonly rows: number;
  readonly columns: number;
  readonly tokens: number;
  readonly parts?: number;
  readonly activations?: Activations;
  /** Values that x has in some places. */
  readonly special?: Readonly<Record<number, number>>;
  /** Value of all of x, in place of random ones. */
  readonly constant?: number;
  /** See `randomRows`. */
  readonly byte?: number;
}

export function storedLinearCase(sizes: StoredSizes): KernelCase {
  const { type, rows, columns, tokens, parts = 1, activations = "q8", special = {}, constant, byte } = sizes;
  const padding = draw.int(0, 9);
  const part = rows * rowBytes(type, columns);
  const x = draw.matrix({ rows: tokens, cols: columns, padding }, 2);
  if (constant !== undefined) x.fill(constant);
  for (const [place, value] of Object.entries(special)) x[Number(place)] = value;
  const operands = {
    x: input(x),
    weights: input(randomRows(type, parts * rows, columns, byte)),
    // The last part comes first in memory.
    parts: addresses(
      "weights",
      Array.from({ length: parts }, (_, p) => (parts - 1 - p) * part),
    ),
    y: overwritten({ rows: tokens, cols: parts * rows, padding }),
  };
  return kernelCase("storedLinear", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.storedLinear(
      STORAGE_TYPES[type].id,
      at.parts,
      parts,
      rows,
      columns,
      at.x,
      columns + padding,
      at.y,
      parts * rows + padding,
      tokens,
      activations === "q8" ? 1 : 0,
    ),
  );
}

export function storedEmbeddingCase(type: StorageType, tokens: number, width: number): KernelCase {
  const vocabulary = 23;
  const operands = {
    table: input(randomRows(type, vocabulary, width)),
    parts: addresses("table", [0]),
    ids: input(draw.ints(tokens, 0, vocabulary - 1)),
    out: overwritten({ rows: tokens, cols: width }, EXACT),
  };
  return kernelCase("storedEmbedding", `${tokens} x ${width} ${type}`, operands, (kernels, at) =>
    kernels.storedEmbedding(STORAGE_TYPES[type].id, at.parts, at.ids, at.out, tokens, width),
  );
}

export interface StoredMoeSizes extends MoeSizes {
  readonly type: StorageType;
  /** Type of the down matrices; default: the same. */
  readonly downType?: StorageType;
  readonly activations?: Activations;
}

/**
 * What rounding to 8 bits can make of the last bit of an activation that lies between two whole numbers: kernels and
 * reference compute it by different formulas.
 */
const ROUNDED: Tolerance = { ofLargest: 3e-3, absolute: 1e-6 };

export function storedExpertsCase(sizes: StoredMoeSizes): KernelCase {
  const { type, downType = type, activations = "q8", tokens, experts, topK, width, inner } = sizes;
  const inputs = moeInputs({ ...sizes, width, inner });
  const [upBytes, downBytes] = [inner * rowBytes(type, width), width * rowBytes(downType, inner)];
  const slots = tokens * topK;
  const operands = {
    x: input(inputs.x),
    gateUp: input(randomRows(type, experts * 2 * inner, width)),
    gateUpParts: addresses(
      "gateUp",
      Array.from({ length: 2 * experts }, (_, p) => p * upBytes),
    ),
    down: input(randomRows(downType, experts * width, inner)),
    downParts: addresses(
      "down",
      Array.from({ length: experts }, (_, p) => p * downBytes),
    ),
    weights: input(inputs.weights),
    ...moePlanOf(inputs),
    hidden: scratch(slots * 2 * inner),
    rows: scratch(slots * width),
    out: overwritten({ rows: tokens, cols: width }, activations === "q8" ? ROUNDED : SUM),
  };
  return kernelCase("storedExperts", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.storedExperts(
      STORAGE_TYPES[type].id,
      at.gateUpParts,
      STORAGE_TYPES[downType].id,
      at.downParts,
      at.x,
      at.weights,
      at.offsets,
      at.rowSlot,
      at.slotRow,
      at.hidden,
      at.rows,
      at.out,
      tokens,
      experts,
      topK,
      width,
      inner,
      activations === "q8" ? 1 : 0,
    ),
  );
}

const KINDS = ["f32", "q8"] as const;
const unit = (type: StorageType) => Math.max(STORAGE_TYPES[type].blockValues, 32);

const linearCases = STORED_TYPES.flatMap((type) => [
  ...KINDS.flatMap((activations) => [
    ...[1, 2, 3, 5, 16, 17].map((tokens) =>
      storedLinearCase({ type, rows: tokens < 5 ? 3 : 17, columns: unit(type), tokens, activations }),
    ),
    storedLinearCase({ type, rows: 17, columns: 2 * unit(type), tokens: 64, parts: 2, activations }),
    storedLinearCase({ type, rows: 2, columns: 5 * unit(type), tokens: 4, parts: 3, activations }),
    storedLinearCase({ type, rows: 3, columns: unit(type), tokens: 0, activations }),
    storedLinearCase({ type, rows: 2, columns: 0, tokens: 2, activations }),
  ]),
  // Zeros, values that 8 bits can not tell from them, huge values, and what is not finite in the second and the last token.
  storedLinearCase({
    type,
    rows: 17,
    columns: unit(type),
    tokens: 7,
    special: Object.fromEntries(Array.from({ length: unit(type) }, (_, i) => [i, i === 3 ? 1e-35 : 0])),
  }),
  storedLinearCase({ type, rows: 17, columns: unit(type), tokens: 2, special: { 3: 1e30, 9: -3e30 } }),
  storedLinearCase({ type, rows: 17, columns: unit(type), tokens: 6, special: { [unit(type) + 20]: Number.NaN } }),
]);

const plainColumns = (["F32", "F16", "BF16"] as const).flatMap((type) =>
  [1, 7, 15, 16, 17, 63, 65, 100, 257].flatMap((columns) =>
    [1, 3, 9].map((tokens) => storedLinearCase({ type, rows: 6, columns, tokens })),
  ),
);

const expertCases = STORED_TYPES.flatMap((type) => {
  const [width, inner] = [unit(type), unit(type)];
  if (width > 32)
    return [storedExpertsCase({ type, tokens: 5, experts: 3, topK: 1, width, inner, choice: "one expert" })];
  return [
    storedExpertsCase({ type, tokens: 5, experts: 4, topK: 2, width, inner, activations: "f32" }),
    storedExpertsCase({ type, tokens: 1, experts: 8, topK: 3, width, inner }),
    storedExpertsCase({ type, tokens: 17, experts: 3, topK: 2, width, inner, choice: "odd experts" }),
  ];
});

/** The largest numbers of each type by the largest activations: where sums of products need the most bits. */
const widestCases = (Object.keys(SCALE_BYTES) as StorageType[]).flatMap((type) =>
  [1, 17].flatMap((tokens) =>
    [1, -1].map((constant) => {
      const byte = type === "Q8_0" ? 0x80 : 0xff;
      return storedLinearCase({ type, rows: 17, columns: 2 * unit(type), tokens, constant, byte });
    }),
  ),
);

export const storedCases: readonly KernelCase[] = [
  ...linearCases,
  ...plainColumns,
  ...STORED_TYPES.map((type) => storedEmbeddingCase(type, 9, 2 * unit(type))),
  storedEmbeddingCase("Q8_0", 0, 64),
  ...expertCases,
  storedExpertsCase({ type: "Q4_K", downType: "Q6_K", tokens: 9, experts: 2, topK: 1, width: 256, inner: 256 }),
  storedExpertsCase({ type: "Q4_0", downType: "BF16", tokens: 7, experts: 3, topK: 1, width: 64, inner: 32 }),
  storedExpertsCase({ type: "Q8_0", tokens: 64, experts: 4, topK: 2, width: 32, inner: 32, choice: "one expert" }),
  // More tokens than are packed at a time.
  storedExpertsCase({ type: "Q4_0", tokens: 530, experts: 2, topK: 1, width: 32, inner: 32, choice: "one expert" }),
  storedExpertsCase({ type: "BF16", tokens: 530, experts: 2, topK: 1, width: 32, inner: 32, choice: "one expert" }),
  storedExpertsCase({ type: "Q4_0", tokens: 6, experts: 4, topK: 2, width: 32, inner: 32, choice: "all dropped" }),
  storedExpertsCase({ type: "Q4_0", tokens: 0, experts: 4, topK: 2, width: 32, inner: 32 }),
  ...widestCases,
];

/** Tokens `from` to `from + tokens - 1` of a linear case alone. */
function someTokens(whole: KernelCase, sizes: StoredSizes, from: number, tokens: number): KernelCase {
  const { type, rows, columns, activations } = sizes;
  const [x, y] = [whole.operands.x!, whole.operands.y!];
  const stride = x.values.length / sizes.tokens;
  return {
    ...whole,
    operands: {
      ...whole.operands,
      x: { ...x, values: x.values.slice(from * stride, (from + tokens) * stride) },
      y: { ...y, rows: tokens, values: y.values.slice(from * y.stride, (from + tokens) * y.stride) },
    },
    call: (kernels, at) =>
      kernels.storedLinear(
        STORAGE_TYPES[type].id,
        at.parts!,
        1,
        rows,
        columns,
        at.x!,
        stride,
        at.y!,
        y.stride,
        tokens,
        activations === "q8" ? 1 : 0,
      ),
  };
}

/** A token's product with a stored matrix must not depend on how many others are in the call. */
export function describeStoredRows(backend: Backend): void {
  it.each(STORED_TYPES.flatMap((type) => KINDS.map((activations) => [type, activations] as const)))(
    "gives a token's product with %s the same bits in any company, activations %s",
    (type, activations) => {
      const columns = type.endsWith("_K") ? 1280 : 672;
      const sizes = { type, rows: 37, columns, tokens: 31, activations };
      const whole = storedLinearCase(sizes);
      const together = run(backend, whole).operands.y!;
      const stride = together.length / sizes.tokens;
      const differing: string[] = [];
      for (const tokens of [1, 2, 3, 4, 5, 12, 17]) {
        for (let from = 0; from + tokens <= sizes.tokens; from += tokens) {
          const part = someTokens(whole, sizes, from, tokens);
          const alone = run(backend, part);
          const same = {
            ...alone,
            operands: { ...alone.operands, y: together.slice(from * stride, (from + tokens) * stride) },
          };
          if (differentBits(part, alone, same).length > 0) differing.push(`tokens ${from} to ${from + tokens - 1}`);
        }
      }
      expect(differing).toEqual([]);
    },
  );
}
