/**
 * Safetensors files on disk: read tensor by tensor, written tensor by tensor, in pieces of a few MB, so that neither way
 * needs memory beyond the caller's own tensors. Values are little-endian, as every machine Node runs on today.
 */
import type { FileHandle } from "node:fs/promises";
import { CheckpointError, ShapeError } from "../errors.ts";
import { formatShape, shapeSize } from "../tensor/tensor.ts";
import { openRegular, readFully, replaceFile, writeAll } from "../util/files.io.ts";
import { f32ToBf16, f32ToF16 } from "./halves.ts";
import {
  decodeF32,
  dtypeBytes,
  headerBytes,
  isWeightDType,
  layOut,
  PREFIX_BYTES,
  parseHeader,
  type SafetensorsDType,
  type SafetensorsHeader,
  type TensorInfo,
  type TensorOutline,
} from "./safetensors.ts";

/** Bytes that are read or converted at a time. */
const PIECE_BYTES = 4 * 2 ** 20;

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
}

/** An open safetensors file. */
export class SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  readonly fileBytes: number;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle, bytes: number, header: SafetensorsHeader) {
    this.path = path;
    this.fileBytes = bytes;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#file = file;
  }

  /**
   * Opens a file and reads its header, not its values.
   * @throws CheckpointError if the file is missing or its header is not right; ResourceError if it can not be read.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    const { file, bytes } = await openRegular(path);
    try {
      const prefix = new Uint8Array(Math.min(PREFIX_BYTES, bytes));
      await readFully(file, path, prefix, 0);
      const header = new Uint8Array(headerBytes(prefix, bytes, path));
      await readFully(file, path, header, PREFIX_BYTES);
      return new SafetensorsFile(path, file, bytes, parseHeader(header, bytes, path));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * Reads F32, F16 or BF16 values as f32.
   * @param target receives as many values as it has; it must stay valid until the promise settles.
   * @param options.start the tensor's element to begin at. Without it the whole tensor must fit `target` exactly.
   * @throws CheckpointError if there is no such tensor, it has another type, or the file became shorter since it was
   *   opened; ShapeError if `target` does not fit.
   */
  async readInto(
    name: string,
    target: Float32Array,
    options: ReadOptions & { readonly start?: number | undefined } = {},
  ): Promise<void> {
    const info = this.#tensor(name);
    const { dtype } = info;
    if (!isWeightDType(dtype)) throw this.#wrongDType(name, info, "F32, F16 or BF16");
    const size = info.byteLength / dtypeBytes(dtype);
    const start = options.start ?? 0;
    const fits = options.start === undefined ? target.length === size : start >= 0 && start + target.length <= size;
    if (!fits) {
      throw new ShapeError(
        `${this.path}: tensor "${name}" has ${size} elements, the target takes ${target.length} from element ${start}`,
      );
    }
    await this.#pieces(info, start, target.length, options, (bytes, done, count) =>
      decodeF32(bytes, dtype, target.subarray(done, done + count)),
    );
  }

  /**
   * Reads I32 values, or I64 values within the range of an i32.
   * @throws CheckpointError as `readInto`, or naming the first value out of range.
   */
  async readI32(name: string, options: ReadOptions = {}): Promise<Int32Array> {
    const info = this.#tensor(name);
    if (info.dtype !== "I32" && info.dtype !== "I64") throw this.#wrongDType(name, info, "I32 or I64");
    const target = new Int32Array(info.byteLength / dtypeBytes(info.dtype));
    await this.#pieces(info, 0, target.length, options, (bytes, done, count) => {
      if (info.dtype === "I32") {
        target.set(new Int32Array(bytes.buffer, bytes.byteOffset, count), done);
        return;
      }
      const values = new BigInt64Array(bytes.buffer, bytes.byteOffset, count);
      for (let i = 0; i < count; i++) {
        target[done + i] = Number(values[i]);
        if (BigInt(target[done + i]!) !== values[i]) {
          throw new CheckpointError(
            `${this.path}: tensor "${name}": element ${done + i} is ${values[i]}, outside the range of an i32`,
          );
        }
      }
    });
    return target;
  }

  /**
   * Reads F64 values.
   * @throws CheckpointError as `readInto`.
   */
  async readF64(name: string, options: ReadOptions = {}): Promise<Float64Array> {
    const info = this.#tensor(name);
    if (info.dtype !== "F64") throw this.#wrongDType(name, info, "F64");
    const target = new Float64Array(info.byteLength / 8);
    await this.#pieces(info, 0, target.length, options, (bytes, done, count) =>
      target.set(new Float64Array(bytes.buffer, bytes.byteOffset, count), done),
    );
    return target;
  }

  /** The open file, to read or map stored bytes; this object closes it. @internal */
  get handle(): FileHandle {
    return this.#file;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #tensor(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info === undefined) throw new CheckpointError(`${this.path}: no tensor "${name}"`);
    return info;
  }

  #wrongDType(name: string, info: TensorInfo, expected: string): CheckpointError {
    return new CheckpointError(`${this.path}: tensor "${name}" has type ${info.dtype}, expected ${expected}`);
  }

  /** Hands over elements `start` to `start + count` in pieces; `bytes` is aligned and reused for the next piece. */
  async #pieces(
    info: TensorInfo,
    start: number,
    count: number,
    { signal }: ReadOptions,
    take: (bytes: Uint8Array, done: number, count: number) => void,
  ): Promise<void> {
    const width = dtypeBytes(info.dtype);
    const buffer = new Uint8Array(Math.min(PIECE_BYTES, count * width));
    for (let done = 0; done < count; ) {
      signal?.throwIfAborted();
      const bytes = buffer.subarray(0, Math.min(buffer.byteLength, (count - done) * width));
      await readFully(this.#file, this.path, bytes, info.byteOffset + (start + done) * width);
      take(bytes, done, bytes.byteLength / width);
      done += bytes.byteLength / width;
    }
  }
}

/** A tensor to write. `data` is read when its turn comes, so it may be a getter over memory that is reused. */
export type TensorToWrite = { readonly name: string; readonly shape: readonly number[] } & (
  | { readonly dtype: "F32" | "F16" | "BF16"; readonly data: Float32Array }
  | { readonly dtype: "I32"; readonly data: Int32Array }
  | { readonly dtype: "F64"; readonly data: Float64Array }
);

/** A tensor to write whose stored bytes come in pieces of any size. */
export interface StreamedTensor extends TensorOutline {
  readonly bytes: () => AsyncIterable<Uint8Array>;
}

export interface WriteOptions extends ReadOptions {
  /** Strings for the header's `__metadata__`; transformers asks for `{ format: "pt" }`. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Told how many more bytes of values are written. */
  readonly onBytes?: ((count: number) => void) | undefined;
}

/** The stored bytes of the values, a few MB at a time. Half-width values are rounded to nearest even. */
function* encode(dtype: SafetensorsDType, data: Float32Array | Int32Array | Float64Array): Generator<Uint8Array> {
  const step = PIECE_BYTES / data.BYTES_PER_ELEMENT;
  const halves = new Uint16Array(dtype === "F16" || dtype === "BF16" ? Math.min(step, data.length) : 0);
  for (let done = 0; done < data.length; done += step) {
    const piece = data.subarray(done, done + step);
    if (halves.length === 0) {
      yield new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
    } else {
      const narrow = halves.subarray(0, piece.length);
      (dtype === "F16" ? f32ToF16 : f32ToBf16)(piece as Float32Array, narrow);
      yield new Uint8Array(narrow.buffer, 0, narrow.byteLength);
    }
  }
}

/** The stored bytes of a tensor, in pieces. */
function piecesOf(
  tensor: TensorToWrite | StreamedTensor,
  path: string,
): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
  if ("bytes" in tensor) return tensor.bytes();
  const { name, dtype, shape, data } = tensor;
  if (data.length !== shapeSize(shape)) {
    throw new ShapeError(`${path}: tensor "${name}" has ${data.length} values, expected ${formatShape(shape)}`);
  }
  return encode(dtype, data);
}

/**
 * Writes a file that the reference library reads, in its own layout (widest type first, then by name).
 * The file appears whole or not at all.
 * @throws ResourceError if the disk is full or the path can not be written; ShapeError if values and shape differ.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite | StreamedTensor>,
  { metadata, signal, onBytes }: WriteOptions = {},
): Promise<void> {
  const layout = layOut(tensors, metadata);
  await replaceFile(path, async (file) => {
    await writeAll(file, layout.prefix);
    for (const tensor of layout.tensors) {
      const expected = shapeSize(tensor.shape) * dtypeBytes(tensor.dtype);
      let done = 0;
      for await (const bytes of piecesOf(tensor, path)) {
        signal?.throwIfAborted();
        done += bytes.byteLength;
        if (done > expected) break;
        await writeAll(file, bytes);
        onBytes?.(bytes.byteLength);
      }
      if (done !== expected)
        throw new ShapeError(`${path}: tensor "${tensor.name}" gave other bytes than its shape has`);
    }
  });
}
