/** Reading and replacing whole files: system errors become errors with advice, and a failed write leaves nothing half. */
import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { CheckpointError, OlmoeError, ResourceError } from "../errors.ts";

/** What a system error means, and what to do. */
const SYSTEM_FAULTS: Readonly<Record<string, readonly [fault: string, hint: string]>> = {
  ENOSPC: ["no space left on the device", "free some space or choose another folder"],
  EDQUOT: ["the disk quota is used up", "free some space or choose another folder"],
  EFBIG: ["larger than this file system or process may write", "choose another folder, or smaller shards"],
  EACCES: ["permission denied", "check who owns the file and its folder (ls -ld)"],
  EPERM: ["not permitted", "check who owns the file and its folder (ls -ld)"],
  EROFS: ["the file system is read-only", "choose another folder"],
  EISDIR: ["it is a folder, expected a file", "remove the folder or choose another name"],
  ENOTDIR: ["a part of the path is a file, expected a folder", "check the path"],
  ENOENT: ["no such file or folder", "check the path"],
  ENAMETOOLONG: ["the name is too long", "choose a shorter name"],
  EMFILE: ["too many open files", "raise the limit (ulimit -n)"],
  ENFILE: ["too many open files on this machine", "close other programs"],
  EIO: ["the device reports an input/output error", "check the disk"],
};

/**
 * The error to throw for a failed file operation.
 * @param action such as "read" or "write".
 * @returns ResourceError with advice for a system error; any other error as it is.
 */
export function fileError(action: string, path: string, error: unknown): unknown {
  if (error instanceof OlmoeError || !(error instanceof Error) || !("code" in error)) return error;
  if (!("syscall" in error) || typeof error.code !== "string") return error;
  const [fault, hint] = SYSTEM_FAULTS[error.code] ?? [error.message, "check the path and the disk"];
  return new ResourceError(`${action} ${path}: ${fault}`, { hint, cause: error });
}

/** True for the error of a path that does not exist. */
export function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}

/**
 * Opens a regular file for reading.
 * @throws CheckpointError if it is missing or not a regular file; ResourceError if it can not be opened.
 */
export async function openRegular(path: string): Promise<{ file: FileHandle; bytes: number }> {
  let file: FileHandle;
  try {
    // Without O_NONBLOCK, opening a named pipe waits for a writer that may never come.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    if (isMissing(error)) throw new CheckpointError(`${path}: no such file`, { cause: error });
    throw fileError("read", path, error);
  }
  const stats = await file.stat();
  if (stats.isFile()) return { file, bytes: stats.size };
  await file.close();
  throw new CheckpointError(`${path}: ${stats.isDirectory() ? "a folder" : "a device or pipe"}, expected a file`);
}

/**
 * Fills `target` from byte `position` of the file on.
 * @throws CheckpointError if the file became shorter since it was opened; ResourceError if it can not be read.
 */
export async function readFully(file: FileHandle, path: string, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.byteLength; ) {
    const { bytesRead } = await file
      .read(target, done, target.byteLength - done, position + done)
      .catch((error: unknown) => Promise.reject(fileError("read", path, error)));
    if (bytesRead === 0) {
      throw new CheckpointError(
        `${path}: the file ends at byte ${position + done}, expected ${position + target.byteLength}: it became shorter while it was read`,
        { hint: "another program writes to this file; try again when it is done" },
      );
    }
    done += bytesRead;
  }
}

/**
 * Reads a small file as a whole.
 * @throws CheckpointError if it is missing, not a regular file, or larger than `maxBytes`.
 */
export async function readSmallFile(path: string, maxBytes: number): Promise<Uint8Array> {
  const { file, bytes } = await openRegular(path);
  try {
    if (bytes > maxBytes) throw new CheckpointError(`${path}: ${bytes} bytes, at most ${maxBytes} are allowed`);
    return await file.readFile();
  } catch (error) {
    throw fileError("read", path, error);
  } finally {
    await file.close();
  }
}

/**
 * Replaces a file as a whole: written to a temporary file beside it, flushed to the disk and renamed. Whatever happens,
 * `path` holds either its old content or all of the new one.
 * @throws ResourceError with advice if the disk, the quota or a permission stands in the way.
 */
export async function replaceFile(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  await replaceFiles([{ path, write }]);
}

/** A file to write, and how. */
export interface FileToWrite {
  readonly path: string;
  readonly write: (file: FileHandle) => Promise<void>;
}

/**
 * Replaces several files of one folder that belong together, in the way of `replaceFile`: none is renamed before all are on
 * the disk, and the first one last.
 * @throws ResourceError as `replaceFile`.
 */
export async function replaceFiles(files: readonly FileToWrite[]): Promise<void> {
  const temporary = (path: string) => `${path}.${process.pid}.tmp`;
  let current = "";
  let file: FileHandle | undefined;
  try {
    for (const { path, write } of files) {
      current = path;
      file = await open(temporary(path), "w");
      await write(file);
      await file.sync();
      await file.close();
      file = undefined;
    }
    for (const { path } of files.toReversed()) {
      current = path;
      await rename(temporary(path), path);
    }
  } catch (error) {
    await file?.close().catch(() => undefined);
    for (const { path } of files) await rm(temporary(path), { force: true }).catch(() => undefined);
    throw fileError("write", current, error);
  }
  await syncFolder(dirname(files[0]?.path ?? "."));
}

/** Makes a rename last through a power cut, where the system can: Windows can not open folders. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r").catch(() => undefined);
  await folder?.sync().catch(() => undefined);
  await folder?.close();
}

/** Writes all bytes at the file's current place. */
export async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done);
    if (bytesWritten === 0)
      throw new ResourceError("write: the device takes no more bytes", { hint: "check the disk" });
    done += bytesWritten;
  }
}
