/** Cases of the storage types: blocks of any bits decoded, values of all kinds encoded, and the comparison of the two. */
import { rowBytes, STORAGE_TYPES, type StorageType } from "../../src/tensor/stored.ts";
import { Draw, EXACT, input, type KernelCase, kernelCase, overwritten, SUM, updated } from "./harness.ts";
import { COUNTS } from "./sizes.ts";

const draw = new Draw(17);
const TYPES = Object.keys(STORAGE_TYPES) as StorageType[];

const randomBytes = (count: number) => Uint8Array.from({ length: count }, () => draw.int(0, 255));

export function decodeRowsCase(type: StorageType, count: number, columns: number, rows?: Uint8Array): KernelCase {
  const operands = {
    rows: input(rows ?? randomBytes(count * rowBytes(type, columns))),
    out: overwritten({ rows: count, cols: columns }, EXACT),
  };
  return kernelCase("decodeRows", `of ${count} x ${columns} ${type}`, operands, (kernels, at) =>
    kernels.decodeRows(STORAGE_TYPES[type].id, at.rows, at.out, count, columns),
  );
}

export function encodeRowsCase(type: StorageType, name: string, columns: number, x: Float32Array): KernelCase {
  const count = columns === 0 ? 0 : x.length / columns;
  const rows = new Uint8Array(count * rowBytes(type, columns)).fill(0xcc);
  const operands = { x: input(x), rows: updated(rows, EXACT) };
  return kernelCase("encodeRows", `of ${count} x ${columns} ${type}, ${name}`, operands, (kernels, at) =>
    kernels.encodeRows(STORAGE_TYPES[type].id, at.x, at.rows, count, columns),
  );
}

export function differenceCase(count: number, special: Readonly<Record<number, number>> = {}): KernelCase {
  const a = draw.floats(count);
  const b = Float32Array.from(a, (value, i) => special[i] ?? value + draw.float(1e-2));
  const operands = { a: input(a), b: input(b), out: updated(new Float64Array(4).fill(7), SUM) };
  const name = Object.keys(special).length === 0 ? "" : " with what is not finite";
  return kernelCase("difference", `of ${count}${name}`, operands, (kernels, at) =>
    kernels.difference(at.a, at.b, at.out, count),
  );
}

/** Every pattern of 16 bits. */
const halves = new Uint8Array(Uint16Array.from({ length: 65_536 }, (_, i) => i).buffer);

const sign = () => (draw.int(0, 1) === 0 ? -1 : 1);
const magnitude = (low: number, high: number) => sign() * 10 ** (draw.float((high - low) / 2) + (high + low) / 2);

/** Rows that are hard in different ways, by name. */
const KINDS: Readonly<Record<string, (i: number) => number>> = {
  "ordinary values": () => draw.float(0.05) + draw.float(0.05) + draw.float(0.05),
  outliers: () => (draw.int(0, 49) === 0 ? draw.float(60) : draw.float(0.5)),
  zeros: () => 0,
  "negative zeros": () => -0,
  "zero blocks": (i) => (Math.floor(i / 32) % 3 === 0 ? 0 : draw.float()),
  "one value": () => 0.37,
  "one negative value": () => -0.37,
  "positive values": () => 2 + draw.float(1.5),
  "negative values": () => -2 + draw.float(1.5),
  ties: () => draw.int(-16, 16) / 4,
  "equal extremes": (i) => (i % 2 === 0 ? 1 : -1) * (i % 16 < 2 ? 5 : Math.abs(draw.float())),
  "one value in each block": (i) => (i % 32 === 11 ? magnitude(0, 0.3) : 0),
  "many magnitudes": () => magnitude(-7, 4),
  "magnitudes of f16 subnormals": () => magnitude(-8, -4.3),
  "subnormals among others": () => (draw.int(0, 1) === 0 ? magnitude(-44, -39) : draw.float()),
  "subnormals alone": () => magnitude(-44, -39),
  "huge values": () => magnitude(30, 38),
  "the largest values": (i) => (i % 2 === 0 ? 3.4e38 : -3.4e38),
};

const columnsOf = (type: StorageType) => STORAGE_TYPES[type].blockValues;

export const storageCases: readonly KernelCase[] = [
  ...TYPES.flatMap((type) => [
    ...[1, 2, 5].map((blocks) => decodeRowsCase(type, 3, blocks * columnsOf(type))),
    decodeRowsCase(type, 0, columnsOf(type)),
    decodeRowsCase(type, 1, 0),
    ...Object.entries(KINDS).map(([name, value]) =>
      encodeRowsCase(
        type,
        name,
        3 * 256,
        Float32Array.from({ length: 2 * 3 * 256 }, (_, i) => value(i)),
      ),
    ),
    ...[1, 2, 17].map((blocks) =>
      encodeRowsCase(type, "few blocks", blocks * columnsOf(type), draw.floats(blocks * columnsOf(type))),
    ),
    encodeRowsCase(type, "nothing", columnsOf(type), new Float32Array(0)),
  ]),
  ...(["F16", "BF16"] as const).map((type) => decodeRowsCase(type, 1, 65_536, halves)),
  ...(["F32", "F16", "BF16"] as const).flatMap((type) => [
    ...COUNTS.map((columns) => decodeRowsCase(type, 2, columns)),
    ...COUNTS.map((columns) => encodeRowsCase(type, "any width", columns, draw.floats(2 * columns))),
    encodeRowsCase(type, "what is not finite", 5, Float32Array.of(Number.NaN, Infinity, -Infinity, 65_519.99, 65_520)),
  ]),
  ...COUNTS.map((count) => differenceCase(count)),
  differenceCase(100, { 3: Number.NaN, 50: Infinity, 99: -Infinity }),
];
