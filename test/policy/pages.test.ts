/** Links and commands in the Markdown pages. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { output, ROOT, repositoryFiles, setup } from "./repository.ts";

interface Page {
  readonly file: string;
  readonly text: string;
}

const read = (file: string) => readFileSync(path.join(ROOT, file), "utf8");

const pages: Page[] = repositoryFiles()
  .filter((file) => file.endsWith(".md"))
  .map((file) => ({ file, text: read(file) }));

const withoutCode = (text: string) => text.replace(/^```[\s\S]*?^```/gm, "").replace(/`[^`\n]*`/g, "");

/** The anchor GitHub gives a heading. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(" ", "-");

/** Whether a link of a page leads somewhere: a file or folder of the repository, with the heading it names. */
function leads(from: string, link: string): boolean {
  const [target = "", anchor] = decodeURI(link).split("#");
  const file = target === "" ? from : path.join(path.dirname(from), target);
  if (file.startsWith("..") || !existsSync(path.join(ROOT, file))) return false;
  if (anchor === undefined || !file.endsWith(".md")) return true;
  return [...withoutCode(read(file)).matchAll(/^#+ (.*)$/gm)].some(([, heading]) => anchorOf(heading!) === anchor);
}

it("every link to a local file leads to one, and to the heading it names", () => {
  const dead = pages.flatMap(({ file, text }) =>
    [...withoutCode(text).matchAll(/\]\(<?([^)\s>]+)>?[^)]*\)|<(?:img|a)[^>]*(?:src|href)="([^"]+)"/g)]
      .map(([, link, attribute]) => (link ?? attribute) as string)
      .filter((link) => !/^[a-z]+:/.test(link) && !leads(file, link))
      .map((link) => `${file}: ${link}`),
  );
  expect(dead).toEqual([]);
});

/** Lines that name a command: in code blocks, and code in the text. */
const commands = pages.flatMap(({ file, text }) =>
  [...text.matchAll(/(?:^|`)(?:\$ )?((?:npx (?:tsx|olmoe)|olmoe|npm (?:run|test|start)|node)\b[^`\n]*)/gm)].map(
    ([, command]) => ({ file, words: command!.trim().split(/\s+/) }),
  ),
);

beforeAll(setup);

it("every npm script and every program that a page runs exists", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  const missing = commands.filter(({ words: [program, verb, name] }) => {
    if (program === "npm") return (verb === "run" ? name : verb)! in scripts === false;
    const script = program === "node" ? verb : verb === "tsx" ? name : undefined;
    return script !== undefined && /^[\w./-]+\.\w+$/.test(script) && !existsSync(path.join(ROOT, script));
  });
  expect(missing.map(({ file, words }) => `${file}: ${words.join(" ")}`)).toEqual([]);
});

it("every olmoe command that a page shows is a command of the program", ({ skip }) => {
  const shown = commands
    .map(({ file, words }) => ({ file, name: words[0] === "npx" ? words.slice(1) : words }))
    .filter(({ name }) => name[0] === "olmoe" && /^[a-z]+$/.test(name[1] ?? ""));
  if (shown.length === 0) skip("no page shows a command");
  const help = output(process.execPath, ["dist/cli/main.js", "--help"]);
  const unknown = shown.filter(({ name }) => !new RegExp(`^\\s+${name[1]}\\b`, "m").test(help));
  expect(unknown.map(({ file, name }) => `${file}: ${name.join(" ")}`)).toEqual([]);
});
