/** GGUF files written byte by byte, so that anything in them can be wrong. */

type Part = Uint8Array;

const number = (bytes: number, write: (view: DataView) => void): Part => {
  const part = new Uint8Array(bytes);
  write(new DataView(part.buffer));
  return part;
};

export const u8 = (value: number): Part => Uint8Array.of(value);
export const u16 = (value: number): Part => number(2, (view) => view.setUint16(0, value, true));
export const u32 = (value: number): Part => number(4, (view) => view.setUint32(0, value, true));
export const u64 = (value: number | bigint): Part =>
  number(8, (view) => view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true));
export const f32 = (value: number): Part => number(4, (view) => view.setFloat32(0, value, true));

export function join(...parts: readonly Part[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

/** A text with its length, or with another one. */
export function text(content: string | Part, length?: number | bigint): Part {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return join(u64(length ?? bytes.byteLength), bytes);
}

/** Numbers of the types of metadata. */
export const TYPES = { u8: 0, u16: 2, u32: 4, i32: 5, f32: 6, bool: 7, text: 8, array: 9, u64: 10 } as const;

/** A metadata entry. */
export const entry = (key: string | Part, type: number, ...value: Part[]): Part => join(text(key), u32(type), ...value);

/** An array of metadata: the type of its elements, their stated number, and what follows. */
export const array = (key: string, type: number, count: number | bigint, ...elements: Part[]): Part =>
  entry(key, TYPES.array, u32(type), u64(count), ...elements);

/** A row of the table of tensors; dimensions as the file has them, fastest first. */
export const tensor = (name: string, dimensions: (number | bigint)[], type: number, offset: number | bigint): Part =>
  join(text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type), u64(offset));

export interface FileParts {
  readonly magic?: Part;
  readonly version?: number;
  readonly tensorCount?: number | bigint;
  readonly keyCount?: number | bigint;
  readonly metadata?: readonly Part[];
  readonly tensors?: readonly Part[];
  /** Bytes of values, behind zeros up to a multiple of 32. */
  readonly values?: number;
  /** Bytes that are cut off. */
  readonly cut?: number;
}

export function ggufFile(parts: FileParts): Uint8Array {
  const { metadata = [], tensors = [], values = 0, cut = 0 } = parts;
  const head = join(
    parts.magic ?? new TextEncoder().encode("GGUF"),
    u32(parts.version ?? 3),
    u64(parts.tensorCount ?? tensors.length),
    u64(parts.keyCount ?? metadata.length),
    ...metadata,
    ...tensors,
  );
  const padding = values === 0 ? 0 : (32 - (head.byteLength % 32)) % 32;
  const whole = join(head, new Uint8Array(padding + values));
  return whole.subarray(0, whole.byteLength - cut);
}
