/** Follows the metrics of a training run while it is written. */
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isMissing } from "../util/files.io.ts";

const POLL_MS = 500;
const READ_BYTES = 2 ** 20;

/**
 * Lines: `{ metrics }`, a list of records of metrics.jsonl, whenever there are more; `{ restart: true }` where it is
 * another file or became shorter, because the run went back to a checkpoint. Ends with the signal.
 */
export async function* followMetrics(run: string, signal: AbortSignal): AsyncGenerator<object, void> {
  const path = join(run, "metrics.jsonl");
  let place: Place = START;
  let [rest, decoder] = ["", new TextDecoder()];
  while (!signal.aborted) {
    const part = await readFrom(path, place);
    if (part === "another") {
      place = START;
      [rest, decoder] = ["", new TextDecoder()];
      yield { restart: true };
      continue;
    }
    place = { file: part.file, offset: place.offset + part.bytes.length };
    const lines = (rest + decoder.decode(part.bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    const metrics = lines.flatMap(recordOf);
    if (metrics.length > 0) yield { metrics };
    if (part.bytes.length < READ_BYTES) await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** How far a file has been read; it is known by its number in the file system. */
interface Place {
  readonly file: number | undefined;
  readonly offset: number;
}
const START: Place = { file: undefined, offset: 0 };

/** Bytes that were added; none for a file that is not there yet. "another": it was replaced or cut. */
async function readFrom(
  path: string,
  { file: known, offset }: Place,
): Promise<{ readonly file: number | undefined; readonly bytes: Uint8Array } | "another"> {
  try {
    const file = await open(path);
    try {
      const { size, ino } = await file.stat();
      if (size < offset || (known !== undefined && ino !== known)) return "another";
      const target = new Uint8Array(Math.min(READ_BYTES, size - offset));
      const { bytesRead } = await file.read(target, 0, target.length, offset);
      return { file: ino, bytes: target.subarray(0, bytesRead) };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!isMissing(error)) throw error;
    return known === undefined ? { file: undefined, bytes: new Uint8Array(0) } : "another";
  }
}

/** A line that is no record is left out: the page shows what there is. */
function recordOf(line: string): object[] {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && "type" in value ? [value] : [];
  } catch {
    return [];
  }
}
