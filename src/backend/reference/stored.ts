/**
 * Products with stored weights, from the decoded values. Where activations are rounded, so are they here, and then taken as
 * the numbers they stand for: kernels that multiply the whole numbers get the same sums but for the rounding of f32.
 */
import { rowBytes, STORAGE_TYPES, type StorageType } from "../../tensor/stored.ts";
import type { Kernels } from "../kernels.ts";
import type { Floats, Memory } from "./heap.ts";
import { routedRows, sumOfSlots } from "./moe.ts";
import { decodeRows, storageTypeOf } from "./storage.ts";
import { swiglu } from "./swiglu.ts";

/** Types that are multiplied by rounded activations. */
const ROUNDING: ReadonlySet<StorageType> = new Set(["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]);

/** The nearest whole number, the even one of two. */
function nearest(x: number): number {
  const below = Math.floor(x);
  const beyond = x - below;
  return beyond < 0.5 || (beyond === 0.5 && below % 2 === 0) ? below : below + 1;
}

/**
 * Rounds blocks of x to whole numbers up to 127 times a scale, in the steps of kernels/activations.h: all of them f32. A
 * block that holds a number that is not finite is lost.
 */
export function roundActivations(x: ArrayLike<number>, blockValues: number): Float32Array {
  const rounded = new Float32Array(x.length);
  for (let first = 0; first < x.length; first += blockValues) {
    const block = Float32Array.from({ length: blockValues }, (_, i) => x[first + i]!);
    const largest = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const inverse = largest > Math.fround(1e-30) ? Math.fround(127 / largest) : 0;
    const scale = Number.isFinite(largest) ? (inverse === 0 ? 0 : Math.fround(largest / 127)) : Number.NaN;
    for (const [i, value] of block.entries()) rounded[first + i] = scale * nearest(Math.fround(value * inverse));
  }
  return rounded;
}

/** Matrices that are read in place. */
class StoredMatrices {
  readonly #memory: Memory;
  readonly #type: StorageType;
  readonly #parts: Float64Array;
  readonly #columns: number;
  readonly #rounds: boolean;

  constructor(memory: Memory, typeId: number, partsAt: number, columns: number, activations: number) {
    this.#memory = memory;
    this.#type = storageTypeOf(typeId);
    this.#parts = memory.f64(partsAt);
    this.#columns = columns;
    this.#rounds = activations !== 0 && ROUNDING.has(this.#type);
  }

  /** The values of one row. */
  row(part: number, row: number): Float32Array {
    const address = this.#parts[part]! + row * rowBytes(this.#type, this.#columns);
    const values = new Float32Array(this.#columns);
    const { i32, f64, bytes } = this.#memory;
    const bound = { i32: i32.bind(this.#memory), f64: f64.bind(this.#memory), bytes: bytes.bind(this.#memory) };
    decodeRows({ ...bound, f32: () => values })(STORAGE_TYPES[this.#type].id, address, 0, 1, this.#columns);
    return values;
  }

  /** out[i * stride + n] = inputs[i] . row n, for all rows of a part. */
  multiply(
    part: number,
    rows: number,
    inputs: readonly Floats[],
    out: (input: number, row: number, y: number) => void,
  ): void {
    const { blockValues } = STORAGE_TYPES[this.#type];
    const taken = this.#rounds ? inputs.map((x) => roundActivations(x, blockValues)) : inputs;
    for (let n = 0; n < rows; n++) {
      const weights = this.row(part, n);
      for (const [i, x] of taken.entries())
        out(
          i,
          n,
          weights.reduce((sum, weight, l) => sum + weight * x[l]!, 0),
        );
    }
  }
}

export function storedLinear(memory: Memory): Kernels["storedLinear"] {
  return (type, partsAt, partCount, rows, columns, xAt, ldx, yAt, ldy, tokens, activations) => {
    const matrices = new StoredMatrices(memory, type, partsAt, columns, activations);
    const x = memory.f32(xAt);
    const y = memory.f32(yAt);
    const inputs = Array.from({ length: tokens }, (_, t) => x.subarray(t * ldx, t * ldx + columns));
    for (let part = 0; part < partCount; part++) {
      matrices.multiply(part, rows, inputs, (t, n, value) => {
        y[t * ldy + part * rows + n] = value;
      });
    }
  };
}

export function storedEmbedding(memory: Memory): Kernels["storedEmbedding"] {
  return (type, partsAt, idsAt, outAt, tokens, width) => {
    const table = new StoredMatrices(memory, type, partsAt, width, 0);
    const ids = memory.i32(idsAt);
    const out = memory.f32(outAt);
    for (let t = 0; t < tokens; t++) out.set(table.row(0, ids[t]!), t * width);
  };
}

export function storedExperts(memory: Memory): Kernels["storedExperts"] {
  // biome-ignore format: the arguments in the groups of kernels.h
  return (
    gateUpType, gateUpAt, downType, downAt, xAt, weightsAt, offsetsAt, rowSlotAt, slotRowAt, _hiddenAt, rowsAt, outAt,
    tokens, experts, topK, width, inner, activations,
  ) => {
    const gateUp = new StoredMatrices(memory, gateUpType, gateUpAt, width, activations);
    const down = new StoredMatrices(memory, downType, downAt, inner, activations);
    const x = memory.f32(xAt);
    const offsets = memory.i32(offsetsAt);
    const rows = memory.f32(rowsAt);
    const plan = [...routedRows(offsets, memory.i32(rowSlotAt), experts, topK)];
    for (let e = 0; e < experts; e++) {
      const routed = plan.filter((row) => row.e === e);
      if (routed.length === 0) continue;
      const inputs = routed.map(({ token }) => x.subarray(token * width, (token + 1) * width));
      const hidden = routed.map(() => new Float64Array(2 * inner));
      for (const half of [0, 1]) {
        gateUp.multiply(2 * e + half, inner, inputs, (i, n, value) => {
          hidden[i]![half * inner + n] = value;
        });
      }
      const active = hidden.map((both) => Float32Array.from({ length: inner }, (_, f) => swiglu(both[f]!, both[inner + f]!)));
      down.multiply(e, width, active, (i, n, value) => {
        rows[routed[i]!.row * width + n] = value;
      });
    }
    sumOfSlots(rows, memory.f32(weightsAt), memory.i32(slotRowAt), memory.f32(outAt), { tokens, topK, width });
  };
}
