/**
 * GGUF files on disk. A model may be split over files `NAME-00001-of-0000N.gguf`, which are opened together; the first one
 * has the metadata. Values are read and written in pieces, so that neither way needs memory for a whole tensor.
 */
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CheckpointError, ConfigError, ShapeError } from "../errors.ts";
import { type FileToWrite, openRegular, readFully, replaceFiles, writeAll } from "../util/files.io.ts";
import {
  type GgufHeader,
  type GgufLayout,
  type GgufTensorInfo,
  type GgufTensorOutline,
  type GgufValue,
  layOutGguf,
  parseGguf,
  storedBytes,
} from "./gguf.ts";
import { padding } from "./ggufValues.ts";
import { quoted } from "./json.ts";

/** What is read of a file at first; headers of small vocabularies fit in it. */
const FIRST_BYTES = 2 ** 20;
const SPLIT_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/;
const MAX_SPLITS = 10_000;
const SPLIT_KEYS = { number: "split.no", count: "split.count", tensors: "split.tensors.count" } as const;

export interface GgufTensor extends GgufTensorInfo {
  /** Which of the files holds it. */
  readonly file: number;
}

async function readHeader(file: FileHandle, path: string, fileBytes: number): Promise<GgufHeader> {
  let bytes = new Uint8Array(0);
  for (let wanted = FIRST_BYTES; ; ) {
    const longer = new Uint8Array(Math.min(wanted, fileBytes));
    longer.set(bytes);
    await readFully(file, path, longer.subarray(bytes.byteLength), bytes.byteLength);
    bytes = longer;
    const header = parseGguf(bytes, fileBytes, path);
    if (!("neededBytes" in header)) return header;
    wanted = Math.max(header.neededBytes, 2 * bytes.byteLength);
  }
}

function integerOf(header: GgufHeader, key: string, path: string): number | undefined {
  const found = header.metadata.get(key);
  if (found === undefined) return undefined;
  if (typeof found.value === "number" && Number.isInteger(found.value)) return found.value;
  throw new CheckpointError(`${path}: metadata "${key}": type ${found.type}, expected an integer`);
}

/** The paths of all files of a model, given one of them; undefined where it is not split. */
function splitPaths(path: string, header: GgufHeader): string[] | undefined {
  const count = integerOf(header, SPLIT_KEYS.count, path) ?? 1;
  if (count === 0 || count === 1) return undefined;
  const match = SPLIT_NAME.exec(basename(path));
  if (match === null || Number(match[3]) !== count || count > MAX_SPLITS || count < 0) {
    throw new CheckpointError(
      `${path}: one of ${count} files of a model, expected the name NAME-00001-of-${String(count).padStart(5, "0")}.gguf`,
      { hint: "give all files of the model the names they were published under" },
    );
  }
  return shardPaths(join(dirname(path), `${match[1]}.gguf`), count);
}

function shardPaths(path: string, count: number): string[] {
  const number = (value: number) => String(value).padStart(5, "0");
  const stem = path.replace(/\.gguf$/, "");
  return Array.from({ length: count }, (_, index) => `${stem}-${number(index + 1)}-of-${number(count)}.gguf`);
}

function checkSplit(header: GgufHeader, path: string, index: number, count: number): void {
  const [number, stated] = [integerOf(header, SPLIT_KEYS.number, path), integerOf(header, SPLIT_KEYS.count, path)];
  if (number === index && stated === count) return;
  throw new CheckpointError(
    `${path}: says it is file ${number ?? "?"} (from 0) of ${stated ?? "?"}, expected ${index} of ${count}`,
    { hint: "the files do not belong together: fetch the model again" },
  );
}

interface OpenFile {
  readonly path: string;
  readonly handle: FileHandle;
  readonly header: GgufHeader;
  readonly bytes: number;
}

async function openOne(path: string): Promise<OpenFile> {
  const { file, bytes } = await openRegular(path);
  try {
    return { path, handle: file, header: await readHeader(file, path, bytes), bytes };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The tensors of all files. */
function joinTensors(files: readonly OpenFile[]): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (const [index, { path, header }] of files.entries()) {
    for (const [name, info] of header.tensors) {
      const other = tensors.get(name);
      if (other !== undefined) {
        throw new CheckpointError(`${path}: tensor ${quoted(name)}: is in ${files[other.file]?.path} as well`);
      }
      tensors.set(name, { ...info, file: index });
    }
  }
  const first = files[0] as OpenFile;
  const stated = files.length > 1 ? integerOf(first.header, SPLIT_KEYS.tensors, first.path) : undefined;
  if (stated !== undefined && stated !== tensors.size) {
    throw new CheckpointError(
      `${first.path}: states ${stated} tensors in all, its ${files.length} files have ${tensors.size}`,
      { hint: "the files do not belong together: fetch the model again" },
    );
  }
  return tensors;
}

/** An open GGUF file, or all files of a split one. */
export class GgufFile {
  /** The files, the first one first. */
  readonly paths: readonly string[];
  /** Of the first file. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Of all files, in the order of their tables. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** Format version of the first file. */
  readonly version: number;
  /** Size of each file. */
  readonly fileBytes: readonly number[];
  readonly #files: readonly OpenFile[];

  private constructor(files: readonly OpenFile[]) {
    this.paths = files.map(({ path }) => path);
    this.fileBytes = files.map(({ bytes }) => bytes);
    this.metadata = files[0]?.header.metadata ?? new Map();
    this.version = files[0]?.header.version ?? 0;
    this.tensors = joinTensors(files);
    this.#files = files;
  }

  /**
   * Opens a file, or with one of a split model all of its files, and reads the headers, not the values.
   * @throws CheckpointError if a file is missing or a header is not right; ResourceError if one can not be read.
   */
  static async open(path: string): Promise<GgufFile> {
    const given = await openOne(path);
    const files: OpenFile[] = [given];
    try {
      const paths = splitPaths(path, given.header);
      if (paths === undefined) return new GgufFile(files);
      files.length = 0;
      for (const one of paths) files.push(basename(one) === basename(path) ? given : await openOne(one));
      for (const [index, { header, path }] of files.entries()) checkSplit(header, path, index, files.length);
      return new GgufFile(files);
    } catch (error) {
      for (const { handle } of new Set([given, ...files])) await handle.close();
      throw error;
    }
  }

  /**
   * Reads stored bytes of a tensor.
   * @param start first byte within the tensor.
   * @throws CheckpointError if there is no such tensor or the file became shorter; ShapeError beyond the tensor's end.
   */
  async read(name: string, target: Uint8Array, start = 0): Promise<void> {
    const info = this.tensors.get(name);
    if (info === undefined) throw new CheckpointError(`${this.paths[0]}: no tensor ${quoted(name)}`);
    const { handle, path } = this.#files[info.file] as OpenFile;
    if (start < 0 || start + target.byteLength > info.byteLength) {
      throw new ShapeError(
        `${path}: tensor ${quoted(name)} has ${info.byteLength} bytes, the target takes ${target.byteLength} from ${start} on`,
      );
    }
    await readFully(handle, path, target, info.byteOffset + start);
  }

  /** The open files, to read or map stored bytes; this object closes them. @internal */
  get handles(): readonly FileHandle[] {
    return this.#files.map(({ handle }) => handle);
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map(({ handle }) => handle.close()));
  }
}

/** A tensor to write. */
export interface GgufTensorToWrite extends GgufTensorOutline {
  /** Its stored bytes, in pieces of any size; asked for when its turn comes. */
  readonly data: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export interface WriteProgress {
  /** Bytes of values that are written, and that will be. */
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface WriteGgufOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: WriteProgress) => void) | undefined;
  /** Bytes of values from which on a second file `NAME-00002-of-0000N.gguf` is begun; without it there is one file. */
  readonly maxShardBytes?: number | undefined;
}

/** Consecutive tensors of at most `maxBytes` together; a larger tensor has a file of its own. */
function splitTensors<T extends GgufTensorOutline>(tensors: readonly T[], maxBytes: number): T[][] {
  const shards: T[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const size = storedBytes(tensor.type, tensor.shape);
    if (bytes > 0 && bytes + size > maxBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)?.push(tensor);
    bytes += size;
  }
  return shards;
}

function splitMetadata(
  metadata: ReadonlyMap<string, GgufValue>,
  index: number,
  count: number,
  tensors: number,
): Map<string, GgufValue> {
  const entries: [string, GgufValue][] = [
    [SPLIT_KEYS.number, { type: "UINT16", value: index }],
    [SPLIT_KEYS.count, { type: "UINT16", value: count }],
    [SPLIT_KEYS.tensors, { type: "INT32", value: tensors }],
  ];
  return new Map(index === 0 ? [...metadata, ...entries] : entries);
}

async function writeValues(
  file: FileHandle,
  path: string,
  layout: GgufLayout<GgufTensorToWrite>,
  { signal }: WriteGgufOptions,
  onBytes: (count: number) => void,
): Promise<void> {
  await writeAll(file, layout.prefix);
  for (const { tensor, byteLength } of layout.tensors) {
    let done = 0;
    for await (const piece of tensor.data()) {
      signal?.throwIfAborted();
      done += piece.byteLength;
      if (done > byteLength) break;
      await writeAll(file, piece);
      onBytes(piece.byteLength);
    }
    if (done !== byteLength) {
      throw new ShapeError(
        `${path}: tensor ${quoted(tensor.name)} gave ${done > byteLength ? "more than " : ""}${Math.min(done, byteLength)} bytes, expected ${byteLength}`,
      );
    }
    await writeAll(file, new Uint8Array(padding(byteLength, layout.alignment)));
  }
  signal?.throwIfAborted();
}

/**
 * Writes a model, tensors in the given order. The file appears whole or not at all, and so do the files of a split one: the
 * first, without which the others are not opened, comes last.
 * @param path ends in ".gguf"; files of a split model have their numbers before the ending.
 * @param metadata `split.*` keys are added where the model is split and must not be there.
 * @returns the paths written.
 * @throws ConfigError for a shard size below 1; CheckpointError for what the format can not hold; ShapeError if a tensor
 *   gives another number of bytes than its shape says; ResourceError if the disk is full or the path can not be written.
 */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: Iterable<GgufTensorToWrite>,
  options: WriteGgufOptions = {},
): Promise<string[]> {
  const { maxShardBytes, onProgress } = options;
  if (maxShardBytes !== undefined && !(maxShardBytes >= 1)) {
    throw new ConfigError(`maxShardBytes: ${maxShardBytes}, must be at least 1`);
  }
  const all = [...tensors];
  const shards = maxShardBytes === undefined ? [all] : splitTensors(all, maxShardBytes);
  if (shards.length > MAX_SPLITS) {
    throw new ConfigError(`maxShardBytes: ${maxShardBytes}, gives ${shards.length} files, at most ${MAX_SPLITS}`);
  }
  const paths = shards.length === 1 ? [path] : shardPaths(path, shards.length);
  const layouts = shards.map((shard, index) =>
    layOutGguf(shards.length === 1 ? metadata : splitMetadata(metadata, index, shards.length, all.length), shard),
  );
  const totalBytes = layouts.flatMap(({ tensors }) => tensors).reduce((sum, { byteLength }) => sum + byteLength, 0);
  let bytes = 0;
  const onBytes = (count: number) => {
    bytes += count;
    onProgress?.({ bytes, totalBytes });
  };
  const files = layouts.map((layout, index): FileToWrite => {
    const path = paths[index] as string;
    return { path, write: (file) => writeValues(file, path, layout, options, onBytes) };
  });
  await replaceFiles(files);
  return paths;
}
