/** What the policy tests share: where the repository is, which files it holds, and an up-to-date dist/. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";

export const ROOT = path.resolve(import.meta.dirname, "../..");

/** Output of a program that runs in the repository. */
export function output(program: string, args: readonly string[]): string {
  return execFileSync(program, args, {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 1 << 26,
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Files that git holds or would add, relative to the repository, without deleted ones. */
export function repositoryFiles(): string[] {
  return output("git", ["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
    .split("\0")
    .filter((file) => file !== "" && existsSync(path.join(ROOT, file)));
}

/** Compiles src/ and the kernels where they changed; `npm test` has done so already, a single run of vitest has not. */
export function setup(): void {
  output(process.execPath, ["scripts/setup.mjs", "--all"]);
}
