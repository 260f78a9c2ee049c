import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { differentWords, verdictOf } from "../../../test/filters.ts";
import { filtersSchema } from "../../config/dataFilters.ts";
import { createFilters, isFor } from "./create.io.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "filters-"));
});
afterAll(() => rm(folder, { recursive: true }));

const encode = () => new Int32Array(0);
const create = (entries: readonly unknown[], signal?: AbortSignal) =>
  createFilters(filtersSchema.parse(entries), { encode, baseDirectory: folder, ...(signal ? { signal } : {}) });
const write = (name: string, content: string | Uint8Array) => writeFile(path.join(folder, name), content);

it("makes every kind, in the recipe's order, with its name and its sources", async () => {
  await write("items.jsonl", `${JSON.stringify({ text: differentWords(13).join(" ") })}\n`);
  await write("own.mjs", "export default { tag: () => ({}), judge: () => ({}) };");
  const filters = await create([
    { kind: "repetition" },
    { kind: "starcoder", sources: ["code"] },
    { kind: "gopher", name: "prose" },
    { kind: "c4" },
    { kind: "length", minWords: 1 },
    { kind: "language" },
    { kind: "pii" },
    { kind: "contamination", files: ["items.jsonl"] },
    { kind: "module", file: "own.mjs" },
  ]);
  expect(filters.map(({ name, kind, sources }) => [name, kind, sources])).toEqual([
    ["repetition", "repetition", undefined],
    ["starcoder", "starcoder", ["code"]],
    ["prose", "gopher", undefined],
    ["c4", "c4", undefined],
    ["length", "length", undefined],
    ["language", "language", undefined],
    ["pii", "pii", undefined],
    ["contamination", "contamination", undefined],
    ["module", "module", undefined],
  ]);
  expect(filters.map((filter) => isFor(filter, "web"))).toEqual(filters.map(({ kind }) => kind !== "starcoder"));
  expect(isFor(filters[1]!, "code")).toBe(true);
});

it("stops when it is told to", async () => {
  await expect(create([{ kind: "pii" }], AbortSignal.abort())).rejects.toThrow("aborted");
});

it("reads evaluation texts from fields of JSONL, packed or not, and from paragraphs", async () => {
  const words = differentWords(12);
  const item = (first: number) => words.slice(first, first + 3).join(" ");
  await write("a.jsonl", `${JSON.stringify({ question: item(0), choices: [words[3], words[4]], other: 1 })}\n\n`);
  await write("b.jsonl.gz", gzipSync(JSON.stringify({ question: item(5) })));
  await write("c.txt", `\ufeff${item(8)}\r\n  \r\n${words[11]}`);
  const [filter] = await create([
    { kind: "contamination", files: ["a.jsonl", "b.jsonl.gz", "c.txt"], fields: ["question", "choices"], ngram: 3 },
  ]);
  for (const first of [0, 5, 8])
    expect(await verdictOf(filter!, item(first))).toEqual(
      first === 0 ? {} : { drop: expect.stringMatching(/^shares 100 %/) },
    );
  expect(await verdictOf(filter!, words.slice(0, 5).join(" "))).toHaveProperty("drop");
  expect(await verdictOf(filter!, words.slice(9, 12).join(" "))).toEqual({});
});

it("says what is wrong with evaluation texts", async () => {
  const fault = (file: string) =>
    create([{ kind: "contamination", files: [file], ngram: 3 }]).catch((error: Error) =>
      error.message.replace(`${folder}${path.sep}`, ""),
    );
  expect(await fault("none.jsonl")).toBe("none.jsonl: does not exist");
  expect(await fault("own.mjs")).toBe(
    "own.mjs: not an evaluation text, expected a name that ends in .jsonl, .jsonl.gz or .txt",
  );
  const cases: [string, string | Uint8Array, string][] = [
    ["json.jsonl", '{"text":"a"}\n{', "json.jsonl:2: not JSON"],
    ["list.jsonl", "7", "list.jsonl:1: not a JSON object"],
    ["field.jsonl", '{"question":"a b c"}', "field.jsonl:1: has none of the fields text"],
    ["number.jsonl", '{"text":[1]}', "number.jsonl:1: text: [1], expected a string or a list of strings"],
    ["latin1.txt", new Uint8Array([0xe9, 0x0a]), "latin1.txt: not UTF-8"],
    ["short.txt", "a b\n\nc d", "short.txt: 2 evaluation items, none has 3 words"],
  ];
  for (const [file, content, message] of cases) {
    await write(file, content);
    expect(await fault(file)).toBe(message);
  }
});
