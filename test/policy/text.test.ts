/** The repository's text says nothing about the machine or the way it was written on. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import { expect, it } from "vitest";
import { ROOT, repositoryFiles } from "./repository.ts";

const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Folders of whoever works here, and of anyone: no file has a reason to name them. */
const PRIVATE_FOLDERS = [path.dirname(ROOT), homedir()].filter((folder) => folder !== path.parse(folder).root);
const PRIVATE_PATH = new RegExp(
  `(?<![\\w.])(?:${[...PRIVATE_FOLDERS.map(literal), "/(?:home|Users)/\\w+"].join("|")})(?:[/\\\\]|\\b(?![\\w/.-]))`,
);
const MARKS = /co-authored-by:|\bgenerated (?:by|with) (?:an? )?(?:ai|assistant|language model)\b/i;

/** Lines of all text files that match, as "file:line: text". */
function linesWith(pattern: RegExp): string[] {
  return repositoryFiles().flatMap((file) => {
    const bytes = readFileSync(path.join(ROOT, file));
    if (bytes.includes(0)) return [];
    return bytes
      .toString("utf8")
      .split("\n")
      .map((text, index) => ({ text, place: `${file}:${index + 1}` }))
      .filter(({ text }) => pattern.test(text))
      .map(({ text, place }) => `${place}: ${text.trim().slice(0, 120)}`);
  });
}

it("no file names a folder of the machine it was written on", () => {
  expect(linesWith(PRIVATE_PATH)).toEqual([]);
});

it("no file says what program wrote it", () => {
  expect(linesWith(MARKS).filter((line) => !line.startsWith("test/policy/text.test.ts:"))).toEqual([]);
});
