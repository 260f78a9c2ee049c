/** Reads run folders, to compare them: their newest checkpoint and metrics bit by bit, apart from times. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";

/** Every file below a folder with its SHA-256, sorted by path. */
export function contents(folder: string): [string, string][] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((file) => [relative(folder, file), createHash("sha256").update(readFileSync(file)).digest("hex")]);
}

/** Names of a run's checkpoints, as the folder has them. */
export function checkpointNames(run: string): string[] {
  return readdirSync(join(run, "checkpoints")).sort();
}

/** The lines of metrics.jsonl without the fields that depend on time and machine. */
export function metricsOf(run: string): unknown[] {
  return readFileSync(join(run, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const { tokens_per_sec: _, time: __, resident_bytes: ___, ...rest } = JSON.parse(line);
      return rest;
    });
}

/** What must not depend on interruptions, threads or time: the last checkpoint's files, the metrics, the data. */
export function resultOf(run: string, lastCheckpoint: string) {
  return {
    checkpoint: contents(join(run, "checkpoints", lastCheckpoint)),
    metrics: metricsOf(run),
    // The plan's own digest, which the manifest and the tasks' results repeat, is also of the times of local files.
    data: contents(join(run, "data")).filter(([name]) => !/^(manifest[.]json|plan[.]json|work\b)/.test(name)),
    recipe: readFileSync(join(run, "recipe.json"), "utf8"),
  };
}

/** Paths of everything below a folder that a process writes before it renames it. */
export function unfinished(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
    /\.(partial|removed|tmp)$|\.probe/.test(name),
  );
}
