/** Results of tasks: a task is done when its result is there, has its key, and its files have their sizes. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { replaceFile } from "../../util/files.io.ts";
import type { OutputFile } from "../lines.io.ts";
import { fileError } from "../readFile.io.ts";
import { type Phase, type Task, taskName } from "./plan.ts";

export interface TaskResult<Value = unknown> {
  /** Digest of all that the output depends on: the task's part of the recipe and the digests of what it reads. */
  readonly key: string;
  readonly files: readonly OutputFile[];
  /** What later tasks and the report need to know. */
  readonly value: Value;
}

/** SHA-256 in hexadecimal. */
export function sha256Of(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

/** SHA-256 of a file, which is not held in memory. */
export async function sha256OfFile(file: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(file), hash, signal === undefined ? {} : { signal });
  } catch (error) {
    throw fileError(file, error);
  }
  return hash.digest("hex");
}

/** Digest of a value as JSON. */
export function digestOf(value: unknown): string {
  return sha256Of(JSON.stringify(value));
}

/** Stands for all that a task has made. */
export function outputDigest({ files, value }: TaskResult): string {
  return digestOf([files.map(({ sha256 }) => sha256), value]);
}

/** A finished file of a task's output; its digest is read from the file. */
export async function outputFile(directory: string, file: string): Promise<OutputFile> {
  const place = path.join(directory, file);
  return { file, bytes: (await stat(place)).size, sha256: await sha256OfFile(place) };
}

function resultPlace(directory: string, task: Task): string {
  return path.join(directory, "work", "tasks", `${taskName(task)}.json`);
}

/** A task's result, whatever its key; undefined where it is not done. */
export async function findResult<Value>(directory: string, task: Task): Promise<TaskResult<Value> | undefined> {
  try {
    const result = JSON.parse(await readFile(resultPlace(directory, task), "utf8")) as TaskResult<Value>;
    for (const { file, bytes } of result.files) {
      if ((await stat(path.join(directory, file))).size !== bytes) return undefined;
    }
    return result;
  } catch {
    // Whatever is wrong with an old result, doing the task again puts it right.
    return undefined;
  }
}

/**
 * Removes what a task of an earlier plan has left in the data. Files in work/ stay: they are overwritten, and may by now be
 * another task's.
 * @param kept files of the data that stay.
 */
export async function removeStale(directory: string, task: Task, kept: ReadonlySet<string>): Promise<void> {
  const read = readFile(resultPlace(directory, task), "utf8").then((text) => (JSON.parse(text) as TaskResult).files);
  for (const { file } of await read.catch(() => [])) {
    const isStale = !kept.has(file) && !file.startsWith("work/") && !file.split("/").includes("..");
    if (isStale) await rm(path.join(directory, file), { force: true });
  }
}

/** Takes away what tasks beyond those of a plan have left. */
export async function removeBeyond(directory: string, reads: number): Promise<void> {
  for (const name of await readdir(path.join(directory, "work", "tasks"))) {
    const [, phase, index] = /^(read|choose|encode)-(\d+)\.json$/.exec(name) ?? [];
    if (phase === undefined || Number(index) < reads) continue;
    const task = { phase: phase as Phase, index: Number(index) };
    await removeStale(directory, task, new Set());
    await rm(resultPlace(directory, task));
  }
}

/** @throws ResourceError for a full disk. */
export async function writeResult(directory: string, task: Task, result: TaskResult): Promise<void> {
  const place = resultPlace(directory, task);
  await mkdir(path.dirname(place), { recursive: true });
  await replaceFile(place, (file) => file.writeFile(`${JSON.stringify(result)}\n`));
}
