/**
 * Runs one kernel call on any backend with guarded memory, and compares the outcome with the reference backend's.
 * A case names its operands, what the call may write of them, and how close the results have to be.
 */
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { Backend } from "../../src/backend/backend.ts";
import type { Kernels, Pointer } from "../../src/backend/kernels.ts";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";

export type Values = Float32Array | Int32Array | Float64Array | Uint8Array;

/** |actual - expected| <= relative * |expected| + ofLargest * (largest finite |expected| of the operand) + absolute. */
export interface Tolerance {
  readonly relative?: number;
  readonly ofLargest?: number;
  readonly absolute?: number;
}

/** For sums of products in f32: 1e-5 of the largest, which is of the size of the sum of absolute values. */
export const SUM: Tolerance = { ofLargest: 1e-5, absolute: 1e-6 };
/** For elementwise formulas. */
export const ELEMENTWISE: Tolerance = { relative: 1e-5, absolute: 1e-37 };
export const EXACT: Tolerance = {};

export interface Operand {
  /** Content before the call, padding included. */
  readonly values: Values;
  /** Inputs must not change; of an output the call may write rows x cols, `stride` apart; scratch may hold anything. */
  readonly role: "input" | "output" | "scratch";
  readonly rows: number;
  readonly cols: number;
  readonly stride: number;
  readonly tolerance: Tolerance;
  /** What follows the rows may be written as well. */
  readonly freeTail: boolean;
  /** The content is addresses, f64: of places in another operand, that many bytes from its start. */
  readonly addresses?: { readonly of: string; readonly offsets: readonly number[] };
}

export interface KernelCase {
  readonly kernel: keyof Kernels;
  readonly name: string;
  readonly operands: Readonly<Record<string, Operand | null>>;
  readonly resultTolerance: Tolerance;
  /** Calls the kernel with the addresses of the operands; a null operand has address 0. */
  call(kernels: Kernels, at: Record<string, Pointer>): unknown;
}

/** A case with typed operand names. */
export function kernelCase<N extends string>(
  kernel: keyof Kernels,
  name: string,
  operands: Record<N, Operand | null>,
  call: (kernels: Kernels, at: Record<N, Pointer>) => unknown,
  resultTolerance: Tolerance = EXACT,
): KernelCase {
  return { kernel, name: `${kernel} ${name}`, operands, call, resultTolerance };
}

// ---- operands ------------------------------------------------------------------------------------------------------

/** What lies between the rows of a matrix. */
const PADDING = -987.25;

export interface Layout {
  readonly rows: number;
  readonly cols: number;
  /** Columns between the end of one row and the start of the next; 0 unless given. */
  readonly padding?: number;
}

/** Numbers of one seed. */
export class Draw {
  readonly #generator;

  constructor(seed: number) {
    this.#generator = xoroshiro128plus(seed);
  }

  /** Uniform in [-spread, spread). */
  float(spread = 1): number {
    return (2 * uniformFloat64(this.#generator) - 1) * spread;
  }

  /** An integer from `low` to `high`, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(uniformFloat64(this.#generator) * (high - low + 1));
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(0, items.length - 1)] as T;
  }

  floats(count: number, spread = 1): Float32Array {
    return Float32Array.from({ length: count }, () => this.float(spread));
  }

  ints(count: number, low: number, high: number): Int32Array {
    return Int32Array.from({ length: count }, () => this.int(low, high));
  }

  /** A matrix of random values with padding between its rows. */
  matrix({ rows, cols, padding = 0 }: Layout, spread = 1): Float32Array {
    const stride = cols + padding;
    return Float32Array.from({ length: rows * stride }, (_, i) => (i % stride < cols ? this.float(spread) : PADDING));
  }
}

export function input(values: Values): Operand {
  const length = values.length;
  return { values, role: "input", rows: 1, cols: length, stride: length, tolerance: EXACT, freeTail: false };
}

/** Memory that a call overwrites: it starts as NaN, so that reading it shows. */
export function overwritten({ rows, cols, padding = 0 }: Layout, tolerance: Tolerance = SUM): Operand {
  const stride = cols + padding;
  const values = new Float32Array(rows * stride);
  for (let i = 0; i < values.length; i++) values[i] = i % stride < cols ? Number.NaN : PADDING;
  return { values, role: "output", rows, cols, stride, tolerance, freeTail: false };
}

/** Memory that a call reads and writes. */
export function updated(values: Values, tolerance: Tolerance = SUM, layout?: Layout): Operand {
  const { rows, cols, padding = 0 } = layout ?? { rows: 1, cols: values.length };
  return { values, role: "output", rows, cols, stride: cols + padding, tolerance, freeTail: false };
}

/** Ids that a call overwrites; of `length`, only the first `used` are compared and the rest is free. */
export function overwrittenIds(length: number, used = length): Operand {
  const values = new Int32Array(length).fill(-77);
  return { values, role: "output", rows: 1, cols: used, stride: used, tolerance: EXACT, freeTail: true };
}

/** Addresses of places in another operand, as kernels take them that read matrices from here and there. */
export function addresses(of: string, offsets: readonly number[]): Operand {
  return { ...scratch(0), values: new Float64Array(offsets.length), addresses: { of, offsets } };
}

export function scratch(length: number): Operand {
  const values = new Float32Array(length).fill(Number.NaN);
  return { values, role: "scratch", rows: 0, cols: 0, stride: 0, tolerance: EXACT, freeTail: true };
}

// ---- running -------------------------------------------------------------------------------------------------------

const GUARD_BYTES = 64;
const GUARD = 0xa5;

export interface Outcome {
  readonly result: unknown;
  /** Content of each operand after the call. */
  readonly operands: Readonly<Record<string, Values>>;
  /** Operands around which something was written. */
  readonly broken: readonly string[];
}

function bytesOf(values: Values): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/**
 * Runs a case with guards around each operand. Operands start at different distances from a multiple of 64 bytes, as
 * slices of tensors do.
 */
export function run(backend: Backend, kernelCase: KernelCase): Outcome {
  const places: { name: string; values: Values; start: number }[] = [];
  let size = 0;
  for (const [name, operand] of Object.entries(kernelCase.operands)) {
    if (operand === null) continue;
    const { values } = operand;
    const shift = values.BYTES_PER_ELEMENT * (places.length % 7);
    const start = size + GUARD_BYTES + shift;
    places.push({ name, values, start });
    size = Math.ceil((start + values.byteLength + GUARD_BYTES) / 64) * 64;
  }
  const block = backend.allocate(size);
  try {
    const before = new Uint8Array(block.buffer, block.byteOffset, size).fill(GUARD);
    const at = Object.fromEntries(Object.keys(kernelCase.operands).map((name) => [name, 0]));
    for (const { name, values, start } of places) {
      const pointed = kernelCase.operands[name]?.addresses;
      const origin = places.find((place) => place.name === pointed?.of)?.start ?? 0;
      const content = pointed ? Float64Array.from(pointed.offsets, (at) => block.address + origin + at) : values;
      before.set(bytesOf(content), start);
      at[name] = block.address + start;
    }
    const result = kernelCase.call(backend.kernels, at);
    const after = new Uint8Array(block.buffer, block.byteOffset, size);
    const operands: Record<string, Values> = {};
    const broken: string[] = [];
    let end = 0;
    for (const { name, values, start } of [...places, { name: "the end", values: new Int32Array(0), start: size }]) {
      if (after.subarray(end, start).some((byte) => byte !== GUARD)) broken.push(name);
      end = start + values.byteLength;
      const content = values.slice();
      bytesOf(content).set(after.subarray(start, end));
      operands[name] = content;
    }
    return { result, operands, broken };
  } finally {
    block.release();
  }
}

const reference = createReferenceBackend();
const expectedOutcomes = new WeakMap<KernelCase, Outcome>();

/** What the reference backend makes of a case. */
export function expected(kernelCase: KernelCase): Outcome {
  let outcome = expectedOutcomes.get(kernelCase);
  if (outcome === undefined) {
    outcome = run(reference, kernelCase);
    expectedOutcomes.set(kernelCase, outcome);
  }
  return outcome;
}

// ---- comparing -----------------------------------------------------------------------------------------------------

/** Everything in which a backend departs from the reference on a case, as sentences; empty where it conforms. */
export function faultsOf(backend: Backend, kernelCase: KernelCase): string[] {
  const actual = run(backend, kernelCase);
  const right = expected(kernelCase);
  // Products of the parts of an infinity add up to NaN: the row is lost either way.
  const infinities = backend.isa === "amx" && kernelCase.kernel === "gemm" ? "not finite" : "same";
  const faults = actual.broken.map((name) => `something was written before ${name}`);
  if (typeof right.result === "number") {
    const results = { actual: [actual.result as number], right: [right.result] };
    if (differsAt(results.actual, results.right, kernelCase.resultTolerance, (i) => i, 1, infinities) >= 0) {
      faults.push(`result is ${actual.result}, expected ${right.result}`);
    }
  }
  for (const [name, operand] of Object.entries(kernelCase.operands)) {
    if (operand === null || operand.role === "scratch") continue;
    const content = actual.operands[name]!;
    const change = strayWrite(operand, content);
    if (change >= 0) faults.push(`${name}[${change}] is ${content[change]}, it must stay ${operand.values[change]}`);
    if (operand.role === "input") continue;
    const { rows, cols, stride, tolerance } = operand;
    const place = (i: number) => Math.floor(i / cols) * stride + (i % cols);
    const values = right.operands[name]!;
    const wrong = differsAt(content, values, tolerance, place, rows * cols, infinities);
    if (wrong >= 0) faults.push(`${name}[${wrong}] is ${content[wrong]}, expected ${values[wrong]}`);
  }
  return faults.map((fault) => `${kernelCase.name}: ${fault}`);
}

/** First element that had to stay as it was and did not, or -1. Compares bits. */
function strayWrite({ values, role, rows, cols, stride, freeTail }: Operand, content: Values): number {
  const before = bytesOf(values);
  const after = bytesOf(content);
  const bytes = values.BYTES_PER_ELEMENT;
  for (let i = 0; i < values.length; i++) {
    const row = Math.floor(i / stride);
    if (role === "output" && (row < rows ? i % stride < cols : freeTail)) continue;
    for (let b = i * bytes; b < (i + 1) * bytes; b++) if (before[b] !== after[b]) return i;
  }
  return -1;
}

/** Place of the first of `count` elements that is not close, or -1. Infinities and NaN are the same, or just not finite. */
function differsAt(
  actual: ArrayLike<number>,
  right: ArrayLike<number>,
  { relative = 0, ofLargest = 0, absolute = 0 }: Tolerance,
  place: (i: number) => number,
  count: number,
  infinities: "same" | "not finite",
): number {
  let largest = 0;
  for (let i = 0; i < count; i++) {
    const size = Math.abs(right[place(i)]!);
    if (Number.isFinite(size)) largest = Math.max(largest, size);
  }
  for (let i = 0; i < count; i++) {
    const a = actual[place(i)]!;
    const e = right[place(i)]!;
    if (a === e || (Number.isNaN(a) && Number.isNaN(e))) continue;
    if (infinities === "not finite" && !Number.isFinite(e) && !Number.isFinite(a)) continue;
    const allowed = relative * Math.abs(e) + ofLargest * largest + absolute;
    if (!Number.isFinite(e) || !(Math.abs(a - e) <= allowed)) return place(i);
  }
  return -1;
}

/** Names of the outputs whose bits differ between two outcomes of a case, and "result" where that differs. */
export function differentBits(kernelCase: KernelCase, one: Outcome, other: Outcome): string[] {
  const names = Object.entries(kernelCase.operands)
    .filter(([, operand]) => operand?.role === "output")
    .map(([name]) => name)
    .filter((name) => Buffer.compare(bytesOf(one.operands[name]!), bytesOf(other.operands[name]!)) !== 0);
  return Object.is(one.result, other.result) ? names : [...names, "result"];
}
