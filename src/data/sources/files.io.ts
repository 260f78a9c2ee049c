/** The files of a source: listed without reading them, fetched when they are read. */
import { readdir, realpath, stat } from "node:fs/promises";
import path from "node:path";
import picomatch from "picomatch";
import type { SourceRecipe } from "../../config/dataSources.ts";
import { DataError } from "../../errors.ts";
import { fileError } from "../readFile.io.ts";
import { attributesPath, isDocumentsPath } from "./dolma.ts";
import { fetchPackage } from "./npmPackage.io.ts";
import type { SourceFile, SourceOptions } from "./sourceFile.ts";

export interface ListedSource {
  /** By path, by UTF-16 code unit. */
  readonly files: readonly SourceFile[];
  /** The path as the recipe gives it, the package with its version, or the dataset with its commit. */
  readonly resolved: string;
  /** The source with that version or commit, so that it stays what it is. */
  readonly source: SourceRecipe;
}

/** What matches include and exclude, in any order, and what the source is pinned to. */
interface FoundFiles {
  /** For messages. */
  readonly place: string;
  readonly found: readonly SourceFile[];
  readonly resolved: string;
  readonly pin: Pick<SourceRecipe, "npm" | "revision">;
}

/** Its client takes a while to load, which only those wait for who have a source there. */
const loadHub = () => import("./hub.io.ts");

/** The place on disk of a file or link in `folder`. @throws DataError where it is outside. */
async function insideFolder(folder: string, name: string): Promise<string> {
  const file = path.join(folder, name);
  const [root, target] = await Promise.all([realpath(folder), realpath(file)]);
  if (target.startsWith(root.endsWith(path.sep) ? root : root + path.sep)) return target;
  throw new DataError(`${file}: leads out of ${folder}, to ${target}`, {
    hint: "exclude it, or make its target a source of its own",
  });
}

/** Links to folders are not followed; links to files are, inside the folder. */
async function listFolder(folder: string, source: SourceRecipe): Promise<SourceFile[]> {
  const matches = picomatch(source.include, { ignore: source.exclude });
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((cause) => {
    throw fileError(folder, cause);
  });
  const names = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, "/"))
    .filter((name) => matches(name));
  const listed = await Promise.all(
    names.map(async (name) => {
      try {
        const status = await stat(path.join(folder, name));
        if (!status.isFile()) return [];
        await insideFolder(folder, name);
        return [{ path: name, ...factsOf(status) }];
      } catch (error) {
        throw fileError(path.join(folder, name), error);
      }
    }),
  );
  return listed.flat();
}

function factsOf({ size, mtimeMs }: { size: number; mtimeMs: number }) {
  return { bytes: size, fingerprint: `${size}-${mtimeMs}` };
}

/** The file or folder of a `path` source. */
async function localPlace(source: SourceRecipe, { baseDirectory }: SourceOptions) {
  const place = path.resolve(baseDirectory, source.path ?? ".");
  const status = await stat(place).catch((cause) => {
    if (cause.code !== "ENOENT") throw fileError(place, cause);
    throw new DataError(`source "${source.name}": ${place} does not exist`, {
      hint: `a relative path starts at ${baseDirectory}`,
      cause,
    });
  });
  return { place, status };
}

async function listLocal(source: SourceRecipe, options: SourceOptions): Promise<FoundFiles> {
  const { place, status } = await localPlace(source, options);
  const found = status.isFile()
    ? [{ path: path.basename(place), ...factsOf(status) }]
    : await listFolder(place, source);
  return { place, found, resolved: source.path ?? ".", pin: {} };
}

async function listPackage(npm: string, source: SourceRecipe, options: SourceOptions): Promise<FoundFiles> {
  const { folder, resolved } = await fetchPackage(npm, options);
  const found = (await listFolder(folder, source)).map((file) => ({ ...file, fingerprint: resolved }));
  return { place: folder, found, resolved, pin: { npm: resolved } };
}

async function listHub(hub: string, source: SourceRecipe, options: SourceOptions): Promise<FoundFiles> {
  const { listDataset } = await loadHub();
  const { commit, files } = await listDataset(hub, source, options);
  const resolved = `${hub}@${commit}`;
  return { place: resolved, found: files, resolved, pin: { revision: commit } };
}

/** Documents with their attribute files. */
function pairAttributes(source: SourceRecipe, found: readonly SourceFile[]): SourceFile[] {
  const byPath = new Map(found.map((file) => [file.path, file]));
  return found
    .filter((file) => isDocumentsPath(file.path))
    .map((file) => {
      const attributes = source.attributes.map((name) => {
        const wanted = attributesPath(file.path, name);
        const attributeFile = byPath.get(wanted);
        if (attributeFile !== undefined) return attributeFile;
        throw new DataError(`source "${source.name}": no file ${wanted} with the attributes of ${file.path}`, {
          hint: "change attributes, include or exclude of the source",
        });
      });
      return attributes.length === 0 ? file : { ...file, attributes };
    });
}

function findFiles(source: SourceRecipe, options: SourceOptions): Promise<FoundFiles> {
  if (source.npm !== undefined) return listPackage(source.npm, source, options);
  if (source.hub !== undefined) return listHub(source.hub, source, options);
  return listLocal(source, options);
}

/**
 * The files of a source in a fixed order, unread. A package that is not there yet is fetched; of a dataset only the list.
 * @throws DataError if the source is missing, no file matches, or a name leads out of the source's folder.
 */
export async function listSource(source: SourceRecipe, options: SourceOptions): Promise<ListedSource> {
  const attributeFiles = source.attributes.map((name) => `**/attributes/${name}/**`);
  const include = [...source.include, ...attributeFiles];
  const { place, found, resolved, pin } = await findFiles({ ...source, include }, options);
  const isDolma = source.format === "dolma";
  const files = isDolma ? pairAttributes(source, found) : found;
  if (files.length === 0) {
    const what = isDolma ? "no file in a folder documents" : "no file";
    throw new DataError(`source "${source.name}": ${what} in ${place} matches ${source.include.join(", ")}`, {
      hint: "change include or exclude of the source",
    });
  }
  const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  return { files: sorted, resolved, source: { ...source, ...pin } };
}

/** A file on disk, and what messages call it: the same, or for a dataset its name, because files of the cache have digests. */
export interface PlacedFile {
  readonly file: string;
  readonly name: string;
}

/**
 * Where a listed file is; fetches a package or a file of a dataset that is not there yet.
 * @throws DataError if it is gone, has changed since it was listed, or can not be fetched.
 */
export async function placeOnDisk(file: SourceFile, source: SourceRecipe, options: SourceOptions): Promise<PlacedFile> {
  if (source.hub !== undefined) {
    const { fetchDatasetFile } = await loadHub();
    const place = await fetchDatasetFile(source.hub, file, source, options);
    return { file: place, name: `dataset ${source.hub}: ${file.path}` };
  }
  if (source.npm !== undefined) {
    const place = await insideFolder((await fetchPackage(source.npm, options)).folder, file.path);
    return { file: place, name: place };
  }
  const { place, status } = await localPlace(source, options);
  const name = status.isFile() ? place : path.join(place, file.path);
  try {
    const target = status.isFile() ? place : await insideFolder(place, file.path);
    if (factsOf(await stat(target)).fingerprint === file.fingerprint) return { file: target, name };
  } catch (error) {
    throw fileError(name, error);
  }
  throw new DataError(`${name}: has changed since it was listed`, {
    hint: "build again, or make the plan again with `olmoe data plan`",
  });
}
