/** Follows the metrics of a training run while it is written. */
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isMissing } from "../util/files.io.ts";

const POLL_MS = 500;
const READ_BYTES = 2 ** 20;

/**
 * Lines: `{ metrics }`, a list of records of metrics.jsonl, whenever there are more; `{ restart: true }` where the file
 * became shorter, because the run went back to a checkpoint. Ends with the signal.
 */
export async function* followMetrics(run: string, signal: AbortSignal): AsyncGenerator<object, void> {
  const path = join(run, "metrics.jsonl");
  let [offset, rest] = [0, ""];
  const decoder = new TextDecoder();
  while (!signal.aborted) {
    const part = await readFrom(path, offset);
    if (part === "shorter") {
      [offset, rest] = [0, ""];
      yield { restart: true };
      continue;
    }
    offset += part.length;
    const lines = (rest + decoder.decode(part, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    const metrics = lines.flatMap(recordOf);
    if (metrics.length > 0) yield { metrics };
    if (part.length < READ_BYTES) await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Bytes that were added; none for a file that is not there yet. */
async function readFrom(path: string, offset: number): Promise<Uint8Array | "shorter"> {
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      if (size < offset) return "shorter";
      const target = new Uint8Array(Math.min(READ_BYTES, size - offset));
      const { bytesRead } = await file.read(target, 0, target.length, offset);
      return target.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isMissing(error)) return offset > 0 ? "shorter" : new Uint8Array(0);
    throw error;
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
