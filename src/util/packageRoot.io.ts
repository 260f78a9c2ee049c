/** Where this package is on disk, from sources and from the compiled form alike. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

function findRoot(): string {
  for (let directory = dirname(fileURLToPath(import.meta.url)); ; directory = dirname(directory)) {
    const file = join(directory, "package.json");
    if (existsSync(file) && JSON.parse(readFileSync(file, "utf8")).name === "olmoe") return directory;
    if (dirname(directory) === directory) throw new Error("internal: package.json of olmoe not found");
  }
}

/** The folder that holds the package's package.json, kernels/ and recipes/. */
export const PACKAGE_ROOT = findRoot();

/** Version of this package. */
export const PACKAGE_VERSION: string = JSON.parse(readFileSync(join(PACKAGE_ROOT, "package.json"), "utf8")).version;
