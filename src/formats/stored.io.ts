/** Opens models from files without reading their matrices: mapped where the backend can, else read into its memory. */
import type { FileHandle } from "node:fs/promises";
import type { Backend, MappedFile } from "../backend/backend.ts";
import { ResourceError } from "../errors.ts";
import type { Block } from "../tensor/tensor.ts";
import { openRegular, readFully } from "../util/files.io.ts";
import { openModelFiles } from "./modelFiles.io.ts";
import { placedBlock, type StoredModel, type StoredOptions, storeModel } from "./stored.ts";

export type { StoredModel, StoredOptions } from "./stored.ts";

/** Bytes that are read at a time. */
const PIECE_BYTES = 4 * 2 ** 20;

interface OpenedFile {
  readonly path: string;
  readonly handle: FileHandle;
  readonly byteLength: number;
}

function allocateFor(backend: Backend, { path, byteLength }: OpenedFile): Block {
  try {
    return backend.allocate(byteLength);
  } catch (cause) {
    if (!(cause instanceof ResourceError)) throw cause;
    throw new ResourceError(`${path}: ${byteLength} bytes do not fit the memory of the ${backend.name} backend`, {
      hint: "use the native backend, which maps files, or a smaller model",
      cause,
    });
  }
}

async function placeOpened(backend: Backend, file: OpenedFile, signal: AbortSignal | undefined): Promise<MappedFile> {
  const { path, handle, byteLength } = file;
  if (backend.mapFile !== undefined) return backend.mapFile(handle.fd, byteLength, path);
  const block = allocateFor(backend, file);
  try {
    // Memory may move while a piece is read, so it goes through a buffer of its own.
    const piece = new Uint8Array(Math.min(PIECE_BYTES, byteLength));
    for (let done = 0; done < byteLength && block.standIn === undefined; done += PIECE_BYTES) {
      signal?.throwIfAborted();
      const bytes = piece.subarray(0, Math.min(PIECE_BYTES, byteLength - done));
      await readFully(handle, path, bytes, done);
      new Uint8Array(block.buffer, block.byteOffset + done, bytes.byteLength).set(bytes);
    }
    return placedBlock(block);
  } catch (error) {
    block.release();
    throw error;
  }
}

/**
 * Puts a file where a backend's kernels can reach it: mapped, so that only what is touched is read, or as a whole in the
 * memory of a backend that can not map.
 * @throws CheckpointError if there is no such file; ResourceError if it can not be mapped or does not fit.
 */
export async function placeFile(
  backend: Backend,
  path: string,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<MappedFile> {
  const { file: handle, bytes: byteLength } = await openRegular(path);
  try {
    return await placeOpened(backend, { path, handle, byteLength }, signal);
  } finally {
    await handle.close();
  }
}

/**
 * Opens a model: a GGUF file (of a split model any of its files) or a Hugging Face folder. Norms and routers become f32,
 * matrices stay where they lie in the files.
 * @throws CheckpointError for what is neither, a damaged file, or tensors that do not fit the config, all listed at once;
 *   ConfigError and TokenizerError for faults of those parts; ResourceError where a file can not be read or does not fit.
 */
export async function openStored(path: string, backend: Backend, options: StoredOptions = {}): Promise<StoredModel> {
  const model = await openModelFiles(path);
  const placed: MappedFile[] = [];
  try {
    for (const file of model.files) placed.push(await placeOpened(backend, file, options.signal));
    const { config, slices, text } = model;
    const parts = { place: path, config, slices, text, read: model.read.bind(model) };
    return await storeModel(parts, placed.splice(0), backend, options);
  } finally {
    for (const file of placed) file.release();
    await model.close();
  }
}
