/**
 * Datasets of the Hugging Face hub. The cache has, for each dataset, a folder `hub/datasets--OWNER--NAME` with
 *
 *     refs/REVISION           the commit that a branch or tag was at when it was last asked for
 *     listings/COMMIT.json    the files of a commit
 *     blobs/DIGEST            the files that were read; .incomplete while they are fetched
 *
 * Blobs have the names and content they have in the cache of Hugging Face's own tools.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { datasetInfo, downloadFile, HubApiError, listFiles } from "@huggingface/hub";
import picomatch from "picomatch";
import { z } from "zod";
import type { SourceRecipe } from "../../config/dataSources.ts";
import { DataError } from "../../errors.ts";
import { fileError } from "../readFile.io.ts";
import { exists } from "./npmPackage.io.ts";
import type { SourceFile, SourceOptions } from "./sourceFile.ts";

const COMMIT = /^[0-9a-f]{40}$/;
/** A git object's SHA-1, or the SHA-256 of a large file. */
const DIGEST = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

const listingSchema = z.array(
  z.object({ path: z.string(), bytes: z.int().min(0), fingerprint: z.string().regex(DIGEST) }),
);
type Listing = z.output<typeof listingSchema>;

function datasetFolder(name: string, { cacheDirectory }: SourceOptions): string {
  return path.join(cacheDirectory, "hub", `datasets--${name.replace("/", "--")}`);
}

const isOffline = () => /^(1|on|yes|true)$/i.test(process.env.HF_HUB_OFFLINE ?? "");

/** The user's token, from where Hugging Face's tools keep it. */
async function accessToken(): Promise<string | undefined> {
  const { HF_TOKEN, HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME } = process.env;
  const home = HF_HOME ?? path.join(XDG_CACHE_HOME ?? path.join(homedir(), ".cache"), "huggingface");
  const token = HF_TOKEN ?? (await readFile(HF_TOKEN_PATH ?? path.join(home, "token"), "utf8").catch(() => ""));
  return token.trim() || undefined;
}

/** What every call of the hub's library takes. */
async function hubAccess({ hubUrl = process.env.HF_ENDPOINT, signal }: SourceOptions) {
  const token = await accessToken();
  return {
    fetch: ((input, init) => fetch(input, { ...init, signal: signal ?? null })) as typeof fetch,
    ...(hubUrl === undefined ? {} : { hubUrl: hubUrl.replace(/\/$/, "") }),
    ...(token === undefined ? {} : { accessToken: token }),
  };
}

/** The library's error for what went wrong between here and the hub. */
function hubError(place: string, cause: unknown, options: SourceOptions): unknown {
  options.signal?.throwIfAborted();
  if (cause instanceof DataError) return cause;
  if (cause instanceof HubApiError) {
    const denied = cause.statusCode === 401 || cause.statusCode === 403;
    const fault = denied ? "access denied, or no such dataset" : cause.statusCode === 404 ? "not found" : cause.message;
    const hint = denied
      ? "set HF_TOKEN to a token that may read it, and accept its conditions on the hub"
      : "check hub and revision of the source";
    return new DataError(`dataset ${place}: ${fault} (HTTP ${cause.statusCode})`, { hint, cause });
  }
  const { message, cause: inner, code } = cause as Error & { code?: string };
  if (/^(ENOSPC|EDQUOT|EACCES|EROFS|EISDIR|ENOTDIR)$/.test(code ?? "")) return fileError(options.cacheDirectory, cause);
  const reason = (inner as { code?: string } | undefined)?.code ?? message ?? String(cause);
  return new DataError(`dataset ${place}: can not be fetched (${reason})`, {
    hint: "try again with a network connection; what is there of a file is kept and goes on",
    cause,
  });
}

/** Writes a small file whole or not at all. */
async function writeWhole(file: string, content: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}.partial`;
  await writeFile(partial, content);
  await rename(partial, file);
}

/** The commit of a revision: the hub's answer, or without a network the last one. */
async function resolveRevision(name: string, revision: string, options: SourceOptions): Promise<string> {
  const place = `${name}@${revision}`;
  const memory = path.join(datasetFolder(name, options), "refs", encodeURIComponent(revision));
  const last = await readFile(memory, "utf8").catch(() => "");
  if (isOffline() && COMMIT.test(last)) return last;
  if (isOffline()) {
    throw new DataError(`dataset ${place}: not in ${options.cacheDirectory}, and HF_HUB_OFFLINE is set`);
  }
  try {
    const access = await hubAccess(options);
    const { sha } = await datasetInfo({ ...access, name, revision, additionalFields: ["sha"] });
    if (!COMMIT.test(sha)) throw new DataError(`dataset ${place}: the hub names no commit`);
    await writeWhole(memory, sha);
    return sha;
  } catch (error) {
    options.signal?.throwIfAborted();
    const isNetworkFault = error instanceof TypeError && error.cause !== undefined;
    if (isNetworkFault && COMMIT.test(last)) return last;
    throw hubError(place, error, options);
  }
}

/** A path from outside that is to become a file's name. */
function checkName(name: string, place: string): void {
  const parts = name.split(/[/\\]/);
  const leadsOut =
    name.includes("\0") ||
    parts.some((part) => part === "" || part === "." || part === ".." || /^[A-Za-z]:/.test(part));
  if (leadsOut) throw new DataError(`dataset ${place}: file name ${JSON.stringify(name)} leads out of its folder`);
}

async function fetchListing(name: string, commit: string, options: SourceOptions): Promise<Listing> {
  const place = `${name}@${commit}`;
  if (isOffline()) {
    throw new DataError(`dataset ${place}: its list is not in ${options.cacheDirectory}, and HF_HUB_OFFLINE is set`);
  }
  const listing: Listing = [];
  try {
    const repo = { type: "dataset", name } as const;
    for await (const entry of listFiles({ ...(await hubAccess(options)), repo, revision: commit, recursive: true })) {
      if (entry.type !== "file") continue;
      checkName(entry.path, place);
      const { size, oid = "" } = entry.lfs ?? entry;
      if (!DIGEST.test(oid) || !(size >= 0)) {
        throw new DataError(`dataset ${place}: ${entry.path} has no digest or no size`);
      }
      listing.push({ path: entry.path, bytes: size, fingerprint: oid });
    }
  } catch (error) {
    throw hubError(place, error, options);
  }
  return listing;
}

async function cachedListing(file: string): Promise<Listing | undefined> {
  try {
    return listingSchema.parse(JSON.parse(await readFile(file, "utf8")));
  } catch {
    // Missing or damaged: it is asked for again.
    return undefined;
  }
}

/**
 * The files of a dataset that match include and exclude, and the commit they are of.
 * @throws DataError for an unknown dataset or revision, no access, or no network and nothing in the cache.
 */
export async function listDataset(
  name: string,
  { revision = "main", include, exclude }: Pick<SourceRecipe, "revision" | "include" | "exclude">,
  options: SourceOptions,
): Promise<{ readonly commit: string; readonly files: readonly SourceFile[] }> {
  const commit = COMMIT.test(revision) ? revision : await resolveRevision(name, revision, options);
  const place = path.join(datasetFolder(name, options), "listings", `${commit}.json`);
  let listing = await cachedListing(place);
  if (listing === undefined) {
    listing = await fetchListing(name, commit, options);
    await writeWhole(place, JSON.stringify(listing));
  }
  const matches = picomatch(include, { ignore: exclude });
  return { commit, files: listing.filter((file) => matches(file.path)) };
}

/** Appends what is missing of a file to `partial`. */
async function download(name: string, file: SourceFile, partial: string, commit: string, options: SourceOptions) {
  const place = `${name}@${commit}: ${file.path}`;
  let size = await stat(partial).then(
    (status) => status.size,
    () => 0,
  );
  if (size >= file.bytes) return;
  const blob = await downloadFile({
    ...(await hubAccess(options)),
    repo: { type: "dataset", name },
    path: file.path.split("/").map(encodeURIComponent).join("/"),
    revision: commit,
  });
  if (blob === null) throw new DataError(`dataset ${place}: not found`);
  const rest = size === 0 ? blob : blob.slice(size);
  await pipeline(
    Readable.fromWeb(rest.stream() as ReadableStream),
    async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        size += chunk.length;
        if (size > file.bytes) throw new DataError(`dataset ${place}: more than its ${file.bytes} bytes arrive`);
        yield chunk;
      }
    },
    createWriteStream(partial, { flags: "a" }),
    { signal: options.signal },
  );
}

/** The digest that the hub knows a file by: git's of a small file, SHA-256 of a large one. */
async function hasDigest(file: string, { bytes, fingerprint }: SourceFile): Promise<boolean> {
  const hash = createHash(fingerprint.length === 64 ? "sha256" : "sha1");
  if (fingerprint.length === 40) hash.update(`blob ${bytes}\0`);
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex") === fingerprint;
}

/**
 * A file of a dataset on disk; fetched where it is not there, going on where a fetch was interrupted.
 * @param source with a commit as its revision, as listSource gives it.
 * @throws DataError if it can not be fetched or is not what was listed.
 */
export async function fetchDatasetFile(
  name: string,
  file: SourceFile,
  { revision = "main" }: Pick<SourceRecipe, "revision">,
  options: SourceOptions,
): Promise<string> {
  const place = `${name}@${revision}: ${file.path}`;
  if (!DIGEST.test(file.fingerprint)) {
    throw new DataError(`dataset ${place}: fingerprint ${file.fingerprint} is no digest`);
  }
  const blob = path.join(datasetFolder(name, options), "blobs", file.fingerprint);
  if (await exists(blob)) return blob;
  if (isOffline()) throw new DataError(`dataset ${place}: not in ${options.cacheDirectory}, and HF_HUB_OFFLINE is set`);
  const partial = `${blob}.incomplete`;
  try {
    await mkdir(path.dirname(blob), { recursive: true });
    if (file.bytes === 0) await writeFile(partial, "");
    await download(name, file, partial, revision, options);
    if (!(await hasDigest(partial, file))) {
      await rm(partial, { force: true });
      throw new DataError(`dataset ${place}: what arrived is not the file that was listed`, { hint: "try again" });
    }
    await rename(partial, blob);
    return blob;
  } catch (error) {
    throw hubError(place, error, options);
  }
}
