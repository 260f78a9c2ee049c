/** The command in a clone, and what `npm pack` puts into the package: all that was compiled from src/, and nothing else. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { output, ROOT, setup } from "./repository.ts";

interface Packed {
  readonly files: readonly { readonly path: string }[];
}

/** Files below a folder of the repository, with / between folders. */
function filesIn(folder: string): string[] {
  return readdirSync(path.join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(ROOT, path.join(entry.parentPath, entry.name)).split(path.sep).join("/"));
}

/** What a source is compiled to; nothing for tests, and for declarations, which have no code. */
function compiled(source: string): string[] {
  if (/\.(test|d)\.ts$/.test(source)) return [];
  const stem = source.replace(/^src/, "dist").replace(/\.ts$/, "");
  return [`${stem}.js`, `${stem}.d.ts`];
}

beforeAll(setup);

it.skipIf(process.platform === "win32")("npx can run the command in a clone", () => {
  expect(output("npx", ["--no-install", "olmoe", "--version"]).trim()).toBe(
    JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8")).version,
  );
});

it("the package holds the compiled code, kernels as source and wasm, recipes and the pages about it", () => {
  const [packed] = JSON.parse(output("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"])) as Packed[];
  const pages = ["CHANGELOG.md", "LICENSE", "README.md"].filter((file) => existsSync(path.join(ROOT, file)));
  const expected = [
    ...filesIn("src").flatMap(compiled),
    "dist/explorer.html",
    "dist/kernels.wasm",
    "dist/kernels-threads.wasm",
    ...filesIn("kernels"),
    ...filesIn("recipes"),
    "package.json",
    ...pages,
  ];
  expect(packed?.files.map((file) => file.path).sort()).toEqual(expected.sort());
});
