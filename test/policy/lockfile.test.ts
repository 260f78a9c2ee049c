/** package-lock.json covers every platform: npm ci refuses a lock that leaves out packages of other platforms. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { ROOT } from "./repository.ts";

interface LockedPackage {
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

it("package-lock.json holds every optional dependency of every package", () => {
  const { packages } = JSON.parse(readFileSync(path.join(ROOT, "package-lock.json"), "utf8")) as {
    packages: Readonly<Record<string, LockedPackage>>;
  };
  const missing = Object.entries(packages).flatMap(([from, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => !(`${from}/node_modules/${name}` in packages) && !(`node_modules/${name}` in packages))
      .map((name) => `${from}: ${name}`),
  );
  expect(missing).toEqual([]);
});
