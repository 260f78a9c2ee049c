/** Joins what the tasks of a plan have made: checks that all of it is there, and writes the manifest. */
import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { DataError } from "../../errors.ts";
import { replaceFile } from "../../util/files.io.ts";
import { filterExamples, mergeFilterReports } from "../filters/report.ts";
import type { Manifest, ManifestFile } from "../manifest.ts";
import { tokenDType } from "../tokenFile.ts";
import type { ChooseCounts } from "./choose.io.ts";
import type { TaskContext } from "./context.ts";
import type { EncodeCounts } from "./encode.io.ts";
import { type Phase, type Plan, taskName } from "./plan.ts";
import type { ReadCounts } from "./read.io.ts";
import { removeBeyond, sha256OfFile, type TaskResult } from "./results.io.ts";
import type { Selection } from "./select.io.ts";
import { phaseResults, readPlan, taskKey } from "./task.io.ts";

export interface MergeOptions {
  readonly directory: string;
  /** Read all token files again and compare their digests, as is wise for files that came from other machines. */
  readonly verify?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly files: number; readonly of: number }) => void) | undefined;
}

/** Examples of what filters and deduplication have dropped, for people. */
export const DROPPED_FILE = "dropped.txt";

/** Faults of a source that the manifest keeps. */
const KEPT_FAULTS = 10;

async function checkDigest(directory: string, { file, sha256 }: ManifestFile, signal?: AbortSignal): Promise<void> {
  const place = path.join(directory, file);
  const found = await sha256OfFile(place, signal);
  if (found === sha256) return;
  throw new DataError(`${place}: SHA-256 ${found}, its task has written ${sha256}`, {
    hint: `delete the file, run the task again (olmoe data run ${directory}) and merge`,
  });
}

/** Sums over the read and choose tasks of a source. */
function sourceFacts(plan: Plan, source: number, reads: readonly ReadCounts[], chosen: readonly ChooseCounts[]) {
  const own = [...plan.reads.keys()].filter((index) => plan.reads[index]?.source === source);
  const sum = (key: "files" | "records" | "documents" | "bytes" | "empty" | "broken") =>
    own.reduce((total, index) => total + reads[index]![key], 0);
  const kept = (key: "documents" | "bytes") => own.reduce((total, index) => total + chosen[index]![key], 0);
  return {
    name: plan.recipe.sources[source]!.name,
    resolved: plan.resolved[source] as string,
    files: sum("files"),
    records: sum("records"),
    documents: sum("documents"),
    bytes: sum("bytes"),
    empty: sum("empty"),
    broken: sum("broken"),
    faults: own.flatMap((index) => reads[index]!.faults).slice(0, KEPT_FAULTS),
    keptDocuments: kept("documents"),
    keptBytes: kept("bytes"),
    filters: mergeFilterReports(own.map((index) => chosen[index]!.report)),
  };
}

/** Their keys have the digests of what lies between them; one look at a pairs or cuts task takes all read results. */
const CHECKED: readonly Phase[] = ["read", "copies", "choose", "select", "encode"];

/** @throws DataError for a result that is there, but not of this plan. */
async function checkKeys(context: TaskContext): Promise<void> {
  for (const phase of CHECKED) {
    for (const [index, { key }] of (await phaseResults(context, phase)).entries()) {
      if (key === (await taskKey({ phase, index }, context))) continue;
      throw new DataError(`${context.directory}: ${taskName({ phase, index })} is of another plan`, {
        hint: `run it again: olmoe data run ${context.directory}`,
      });
    }
  }
}

/** Takes away what killed workers have left: all tasks are done, so nobody writes any more. */
async function clearUnfinished(directory: string): Promise<void> {
  const names = await readdir(directory, { recursive: true });
  for (const name of names) if (/\.(partial|tmp)$/.test(name)) await rm(path.join(directory, name), { force: true });
}

/**
 * Checks and joins the tasks' output.
 * @returns the manifest, which is written last.
 * @throws DataError for a task that is not done or of another plan, a damaged token file, a source without text.
 */
export async function mergePlan(options: MergeOptions): Promise<Manifest> {
  const { directory, signal } = options;
  const plan = await readPlan(directory);
  const context = { plan, directory, signal };
  const values = <Value>(results: readonly TaskResult<Value>[]) => results.map(({ value }) => value);
  const reads = values(await phaseResults<ReadCounts>(context, "read"));
  const chosen = values(await phaseResults<ChooseCounts>(context, "choose"));
  const sources = plan.recipe.sources.map((_, index) => sourceFacts(plan, index, reads, chosen));
  const encoded = await phaseResults<EncodeCounts>(context, "encode");
  await checkKeys(context);
  const [selection] = values(await phaseResults<Selection>(context, "select"));
  const { tokenizer } = selection as Selection;
  const files: ManifestFile[] = encoded.flatMap(({ value }, index) =>
    value.encoded.map((file) => ({ source: sources[plan.reads[index]!.source]!.name, ...file })),
  );
  if (options.verify === true) {
    for (const [index, file] of files.entries()) {
      await checkDigest(directory, file, signal);
      options.onProgress?.({ files: index + 1, of: files.length });
    }
  }
  const manifest: Manifest = {
    version: 2,
    planSha256: plan.sha256,
    recipe: plan.recipe,
    dtype: tokenDType(tokenizer.vocabSize),
    tokenizer: { file: "tokenizer.json", ...tokenizer },
    sources,
    files,
  };
  await clearUnfinished(directory);
  await removeBeyond(directory, plan.reads.length);
  const examples = filterExamples(sources.flatMap(({ filters }) => filters));
  await replaceFile(path.join(directory, DROPPED_FILE), (file) => file.writeFile(examples));
  const json = JSON.stringify(manifest, null, 2);
  await replaceFile(path.join(directory, "manifest.json"), (file) => file.writeFile(`${json}\n`));
  return manifest;
}
