import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { verdictOf } from "../../../test/filters.ts";
import { loadModuleFilter } from "./module.io.ts";

let folder: string;
let number = 0;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "filters-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** A module with this content. */
async function load(source: string) {
  const file = path.join(folder, `own${number++}.mjs`);
  await writeFile(file, source);
  return { file, loading: loadModuleFilter("own", file) };
}

const withTag = (tag: string) => `export default { tag: () => (${tag}), judge: () => ({}) };`;
const withVerdict = (verdict: string) => `export default { tag: () => ({}), judge: () => (${verdict}) };`;

it("runs the example of a classifier", async () => {
  const example = fileURLToPath(new URL("../../../examples/filters/classifier.mjs", import.meta.url));
  const filter = await loadModuleFilter("advertising", example);
  expect(filter.name).toBe("advertising");
  expect(await verdictOf(filter, "The miller was there because of the rain, which was heavy.")).toEqual({});
  expect(await verdictOf(filter, "Buy now! Free shipping, click here.")).toEqual({
    drop: "probability 1.000, at most 0.5",
  });
});

it("passes the document on, and waits for a tagger that takes its time", async () => {
  const { loading } = await load(`export default {
    async tag({ text, source }) { return { length: [[0, text.length, source.length]] }; },
    judge: ({ length }) => ({ replace: [{ start: 0, end: length[0][1], text: String(length[0][2]) }] }),
  };`);
  expect(await verdictOf(await loading, "abc")).toEqual({ replace: [{ start: 0, end: 3, text: "3" }] });
});

it("says what is wrong with a module", async () => {
  const fault = async (source: string) => {
    const { file, loading } = await load(source);
    return loading.catch((error: Error) => error.message.replace(file, "FILE"));
  };
  const expected = "expected an object with functions tag and judge";
  expect(await fault("export const tag = 1;")).toBe(`FILE: default export is undefined, ${expected}`);
  expect(await fault("export default { tag() {} };")).toBe(`FILE: default export has tag, ${expected}`);
  expect(await fault("export default {};")).toBe(`FILE: default export has nothing, ${expected}`);
  expect(await fault("throw new Error('no model');")).toBe("FILE: can not be loaded, no model");
  await expect(loadModuleFilter("own", path.join(folder, "none.mjs"))).rejects.toThrow(/none\.mjs: can not be loaded/);
});

it("says what is wrong with attributes", async () => {
  const fault = async (tag: string) => {
    const { file, loading } = await load(withTag(tag));
    return verdictOf(await loading, "abc").catch((error: Error) => error.message.replace(file, "FILE"));
  };
  expect(await fault("null")).toBe(
    "FILE: tag of document a: returns null, expected attributes: lists of spans by name",
  );
  const expected = "expected [start, end, score] inside the text's 3 characters";
  for (const spans of ["[[0,4,1]]", "[[2,1,1]]", "[[0,1]]", '[[0,1,"x"]]', "[[0.5,1,1]]", "7"]) {
    expect(await fault(`{ x: ${spans} }`)).toBe(`FILE: tag of document a: x is ${spans}, ${expected}`);
  }
});

it("says what is wrong with a verdict", async () => {
  const fault = async (verdict: string) => {
    const { file, loading } = await load(withVerdict(verdict));
    return verdictOf(await loading, "abc").catch((error: Error) => error.message.replace(file, "FILE"));
  };
  const expected = "expected {}, { drop: reason } or { replace: [{ start, end, text }] }";
  for (const verdict of [
    "true",
    "null",
    '{"drop":1}',
    '{"replace":[{}]}',
    '{"replace":[{"start":2,"end":1,"text":""}]}',
  ]) {
    expect(await fault(verdict)).toBe(`FILE: judge returns ${verdict}, ${expected}`);
  }
});
