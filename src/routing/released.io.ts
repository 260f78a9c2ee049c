/** Reads a folder of the released counts. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { fileError, readWholeFile } from "../data/readFile.io.ts";
import { DataError } from "../errors.ts";
import { parseJson } from "../formats/json.ts";
import {
  ID_MODEL,
  parseExpertFile,
  parseIdFile,
  parsePathFile,
  parseTokenFile,
  type ReleasedCounts,
  releasedIds,
  releasedVocabulary,
} from "./released.ts";
import type { VocabularyCounts } from "./vocabulary.ts";

const TOKEN_FILE = "top_tokens_per_expert.json";
const MOST_BYTES = 256 * 2 ** 20;

/**
 * Reads expert_counts.json and, where they are there, crosslayer_counts.json, eid2token_DOMAIN.json.gz and
 * top_tokens_per_expert.json.
 * @throws DataError or ConfigError naming the file that is missing or not what it should be.
 */
export async function readReleasedCounts(folder: string, signal?: AbortSignal): Promise<ReleasedCounts> {
  const names = await readdir(folder).catch((error: unknown) => Promise.reject(fileError(folder, error)));
  if (!names.includes("expert_counts.json")) {
    throw new DataError(`${folder}: no expert_counts.json, expected a folder of released counts`, {
      hint: 'olmoe analyze --help describes the files; traces are named without "--counts"',
    });
  }
  const read = async <T>(name: string, parse: (value: unknown, place: string) => T): Promise<T> => {
    signal?.throwIfAborted();
    const path = join(folder, name);
    const bytes = await readWholeFile(path);
    const result = parseJson(name.endsWith(".gz") ? unzip(path, bytes) : bytes, { maxDepth: 8 });
    if ("fault" in result) throw new DataError(`${path}: ${result.fault}, expected JSON`);
    return parse(result.value, path);
  };
  const experts = await read("expert_counts.json", parseExpertFile);
  const model = experts.models[ID_MODEL];
  const ids = new Map<string, VocabularyCounts>();
  for (const name of names.sort()) {
    const domain = /^eid2token_(\w+)\.json\.gz$/.exec(name)?.[1];
    if (domain === undefined || model === undefined) continue;
    const file = await read(name, parseIdFile);
    const widths = [...new Set(file.experts.map(({ length }) => length))].join(" and ");
    const [found, expected] = [
      `${file.layers.join(", ")} of ${widths}`,
      `${experts.layers.join(", ")} of ${model.num_experts}`,
    ];
    if (found !== expected || file.experts.length !== file.layers.length) {
      throw new DataError(`${join(folder, name)}: layers ${found} experts, expected ${expected}`);
    }
    ids.set(domain, releasedIds(file, model.top_k));
  }
  return {
    experts,
    ...(names.includes("crosslayer_counts.json") ? { paths: await read("crosslayer_counts.json", parsePathFile) } : {}),
    ids,
    vocabulary: names.includes(TOKEN_FILE) ? releasedVocabulary(await read(TOKEN_FILE, parseTokenFile)) : new Map(),
  };
}

function unzip(path: string, bytes: Uint8Array): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength: MOST_BYTES });
  } catch (error) {
    throw fileError(path, error);
  }
}
