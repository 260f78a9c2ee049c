/**
 * The paged cache of keys and values: what pages hold, and attention over them. A page has 32 tokens; for each key/value
 * head it holds the keys, [C, 32], and then the values, [32, C] (kernels/pages.h).
 */
import type { Kernels, Pointer } from "../kernels.ts";
import { attendQuery } from "./attention.ts";
import type { Floats, Memory } from "./heap.ts";

const PAGE_TOKENS = 32;
/** Channels that share a scale in Q8_0. */
const RUN = 32;
const [F16, Q8_0] = [1, 8];

/** The value of binary16 bits. */
function f16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 0x3ff];
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** The nearest integer, a tie to the even one. */
function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  const above = x - below;
  return below + (above > 0.5 || (above === 0.5 && below % 2 !== 0) ? 1 : 0);
}

/** Binary16 bits of the nearest value; beyond 65,504 infinity. */
function f16Bits(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  if (Number.isNaN(size)) return 0x7e00;
  if (size >= 65_520) return sign | 0x7c00;
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  // A fraction that rounds up to the next power of two carries into the exponent, as it should.
  const steps = roundHalfEven(size * 2 ** (10 - exponent));
  return sign | (steps < 1024 ? steps : ((exponent + 15) << 10) + (steps - 1024));
}

/** A pool's pages of one layer, by byte. */
class Pages {
  readonly #bytes: DataView;
  readonly #kvHeads: number;
  readonly #channels: number;
  readonly #type: number;

  constructor(memory: Memory, at: Pointer, kvHeads: number, channels: number, type: number) {
    // Integer views show the memory itself, whatever the width of its floats.
    const { buffer, byteOffset } = memory.i32(at);
    this.#bytes = new DataView(buffer, byteOffset);
    this.#kvHeads = kvHeads;
    this.#channels = channels;
    this.#type = type;
  }

  get #runs(): number {
    return Math.ceil(this.#channels / RUN);
  }

  /** Where a head's keys (or values) in the page of a slot begin, and where a value and its scale are in there. */
  #place(slot: number, head: number, values: boolean, channel: number) {
    const [channels, runs, token, run] = [this.#channels, this.#runs, slot % PAGE_TOKENS, Math.floor(channel / RUN)];
    const part = PAGE_TOKENS * (this.#type === Q8_0 ? channels + 2 * runs : channels * (this.#type === F16 ? 2 : 4));
    const start = ((Math.floor(slot / PAGE_TOKENS) * this.#kvHeads + head) * 2 + (values ? 1 : 0)) * part;
    return {
      start,
      index: values ? token * channels + channel : channel * PAGE_TOKENS + token,
      scaleAt: start + PAGE_TOKENS * channels + 2 * (values ? token * runs + run : run * PAGE_TOKENS + token),
    };
  }

  get(slot: number, head: number, values: boolean, channel: number): number {
    const { start, index, scaleAt } = this.#place(slot, head, values, channel);
    const bytes = this.#bytes;
    if (this.#type === F16) return f16Value(bytes.getUint16(start + 2 * index, true));
    if (this.#type !== Q8_0) return bytes.getFloat32(start + 4 * index, true);
    return f16Value(bytes.getUint16(scaleAt, true)) * bytes.getInt8(start + index);
  }

  /** Stores one token's keys or values of a head: `channels` of x from `at` on. */
  put(slot: number, head: number, values: boolean, x: Floats, at: number): void {
    const bytes = this.#bytes;
    for (let c = 0; c < this.#channels; c++) {
      const { start, index, scaleAt } = this.#place(slot, head, values, c);
      if (this.#type === F16) bytes.setUint16(start + 2 * index, f16Bits(x[at + c]!), true);
      else if (this.#type !== Q8_0) bytes.setFloat32(start + 4 * index, x[at + c]!, true);
      else {
        const first = at + c - (c % RUN);
        const bits = scaleBits(x, first, Math.min(RUN, this.#channels - (c - (c % RUN))));
        const scale = f16Value(bits);
        const steps = scale > 0 ? roundHalfEven(Math.fround(x[at + c]! / scale)) : 0;
        bytes.setUint16(scaleAt, bits, true);
        bytes.setInt8(start + index, Math.max(-127, Math.min(127, steps)));
      }
    }
  }
}

/** The scale of a run: its largest magnitude is 127 steps. What has no such scale gets one that is not a number. */
function scaleBits(x: Floats, first: number, count: number): number {
  let most = 0;
  for (let i = first; i < first + count; i++) most = Math.max(most, Math.abs(x[i]!));
  return most <= 127 * 65_504 ? f16Bits(Math.fround(most / 127)) : 0x7e00;
}

export function cacheStore(memory: Memory): Kernels["cacheStore"] {
  return (kAt, ldk, vAt, ldv, pagesAt, slotsAt, tokens, kvHeads, channels, type) => {
    const [k, v, slots] = [memory.f32(kAt), memory.f32(vAt), memory.i32(slotsAt)];
    const pages = new Pages(memory, pagesAt, kvHeads, channels, type);
    for (let t = 0; t < tokens; t++) {
      for (let head = 0; head < kvHeads; head++) {
        pages.put(slots[t]!, head, false, k, t * ldk + head * channels);
        pages.put(slots[t]!, head, true, v, t * ldv + head * channels);
      }
    }
  };
}

export function pagedAttention(memory: Memory): Kernels["pagedAttention"] {
  // biome-ignore format: the arguments in the groups of kernels.h
  return (
    qAt, ldq, pagesAt, pageTableAt, sequencesAt, outAt, ldo,
    count, _queries, _keys, heads, kvHeads, channels, type, scale,
  ) => {
    const [q, out, table, sequences] = [memory.f32(qAt), memory.f32(outAt), memory.i32(pageTableAt), memory.i32(sequencesAt)];
    const pages = new Pages(memory, pagesAt, kvHeads, channels, type);
    const group = heads / kvHeads;
    scale = Math.fround(scale);
    for (let s = 0; s < count; s++) {
      const [row, queries, keys, first] = sequences.subarray(4 * s, 4 * s + 4) as unknown as [number, number, number, number];
      const slotOf = (key: number) => table[first + Math.floor(key / PAGE_TOKENS)]! * PAGE_TOKENS + (key % PAGE_TOKENS);
      for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
        const gather = (values: boolean) =>
          Float64Array.from({ length: keys * channels }, (_, i) =>
            pages.get(slotOf(Math.floor(i / channels)), kvHead, values, i % channels),
          );
        const cached = { k: gather(false), kAt: 0, ldk: channels, v: gather(true), vAt: 0, ldv: channels };
        for (let h = kvHead * group; h < (kvHead + 1) * group; h++) {
          for (let i = 0; i < queries; i++) {
            const at = (row + i) * ldq + h * channels;
            const { mixed } = attendQuery({ q, at, channels, scale }, cached, keys - queries + i + 1);
            for (let c = 0; c < channels; c++) out[(row + i) * ldo + h * channels + c] = mixed[c]!;
          }
        }
      }
    }
  };
}
