import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { NPM_VARIABLES, startRegistry, type TestRegistry } from "../../../test/npmRegistry.ts";
import { dataSchema } from "../../config/data.ts";
import { DataError } from "../../errors.ts";
import type { Document } from "../document.ts";
import { listSource } from "./files.io.ts";
import { newReadReport, readDocuments } from "./sources.io.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "olmoe-sources-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function write(name: string, content: string | Uint8Array): void {
  mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  writeFileSync(path.join(folder, name), content);
}

async function read(source: object) {
  const [recipe] = dataSchema.parse({ sources: [{ name: "s", ...source }] }).sources;
  const report = newReadReport();
  const documents: Document[] = [];
  const options = { baseDirectory: folder, cacheDirectory: path.join(folder, "cache"), report };
  const { files, resolved, source: pinned } = await listSource(recipe!, options);
  for await (const { document } of readDocuments(files, pinned, options)) documents.push(document);
  return { documents, report, resolved };
}

const brief = (documents: readonly Document[]) => documents.map(({ id, text, line }) => [id, text, line]);

describe("a folder", () => {
  it("is read in the order of its paths, empty documents left out", async () => {
    write("text/b.txt", "second\r\nline\r\n");
    write("text/a/z.md", "first");
    write("text/c.txt", "  \n");
    write("text/d.txt", "first");
    write("text/e.png", "not matched");
    const { documents, report, resolved } = await read({ path: "text" });
    expect(brief(documents)).toEqual([
      ["a/z.md", "first", 1],
      ["b.txt", "second\nline", 1],
      ["d.txt", "first", 1],
    ]);
    expect(resolved).toBe("text");
    expect(report).toEqual({ files: 4, empty: 1, faults: { records: 4, broken: 0, first: [] } });
  });

  it("is read by include and exclude", async () => {
    write("src/a.js", "a");
    write("src/a.test.js", "t");
    write("b.js", "b");
    const { documents } = await read({ path: ".", include: ["src/**/*.js"], exclude: ["**/*.test.js"] });
    expect(brief(documents)).toEqual([["src/a.js", "a", 1]]);
  });

  it("gives long texts in pieces", async () => {
    write("a.txt", `${"x".repeat(80)}\n\n${"y".repeat(80)}`);
    const { documents } = await read({ path: "a.txt", maxDocumentChars: 100 });
    expect(brief(documents)).toEqual([
      ["a.txt#1", "x".repeat(80), 1],
      ["a.txt#2", "y".repeat(80), 1],
    ]);
  });
});

describe("JSONL", () => {
  it("gives a document for each line, from gzip too, with its id or its place", async () => {
    write("a.jsonl", '{"text":"one","id":"first"}\n\n{"text":"two\\r\\n."}\r\n{"text":"three","id":7}');
    write("b.jsonl.gz", gzipSync('{"text":"four"}\n'));
    const { documents } = await read({ path: "." });
    expect(brief(documents)).toEqual([
      ["first", "one", 1],
      ["a.jsonl:3", "two\r\n.", 3],
      ["7", "three", 4],
      ["b.jsonl.gz:1", "four", 1],
    ]);
  });

  it("takes its text from the field named", async () => {
    write("a.jsonl", '{"text":"no","content":"yes"}');
    expect(brief((await read({ path: "a.jsonl", textField: "content" })).documents)).toEqual([["a.jsonl:1", "yes", 1]]);
  });

  it("skips and reports a few broken lines", async () => {
    const broken = ['{"text":', "[1]", '{"text":5}', '{"text":"\\ud800"}', '{"toString":1}'];
    write("a.jsonl", Buffer.concat([Buffer.from(['{"text":"one"}', ...broken, ""].join("\n")), Buffer.of(0xff)]));
    const { documents, report } = await read({ path: "a.jsonl" });
    expect(documents.length).toBe(1);
    const first = [
      `a.jsonl:2: not JSON`,
      `a.jsonl:3: not a JSON object`,
      `a.jsonl:4: no text in field "text"`,
      `a.jsonl:5: text has half a surrogate pair`,
      `a.jsonl:6: no text in field "text"`,
      `a.jsonl:7: not UTF-8`,
    ];
    expect(report).toEqual({ files: 1, empty: 0, faults: { records: 7, broken: 6, first } });
  });
});

describe("an npm package", () => {
  let registry: TestRegistry;
  beforeEach(async () => {
    for (const name of NPM_VARIABLES) vi.stubEnv(name, undefined);
    registry = await startRegistry(folder, { "text/a.txt": "a text" });
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await registry.close();
  });

  it("is fetched once from the registry of npm's settings, and then read without it", async () => {
    const source = { npm: "olmoe-test-text@1.0.0", include: ["text/*.txt"] };
    const first = await read(source);
    expect(brief(first.documents)).toEqual([["text/a.txt", "a text", 1]]);
    expect(first.resolved).toBe("olmoe-test-text@1.0.0");
    await registry.close();
    expect(await read(source)).toEqual(first);
    expect(registry.downloads).toBe(1);
  });

  it("resolves latest to a version and records it", async () => {
    const { resolved } = await read({ npm: "olmoe-test-text@latest", include: ["text/*.txt"] });
    expect(resolved).toBe("olmoe-test-text@1.0.0");
    expect(readdirSync(path.join(folder, "cache/npm"))).toEqual(["olmoe-test-text-1.0.0"]);
  });

  it("is listed with its version, which stands for the content of its files", async () => {
    const [recipe] = dataSchema.parse({ sources: [{ name: "s", npm: "olmoe-test-text@latest" }] }).sources;
    const options = { baseDirectory: folder, cacheDirectory: path.join(folder, "cache") };
    const { files, resolved, source } = await listSource(recipe!, options);
    expect([resolved, source.npm]).toEqual(["olmoe-test-text@1.0.0", "olmoe-test-text@1.0.0"]);
    expect(files).toEqual([{ path: "text/a.txt", bytes: 6, fingerprint: "olmoe-test-text@1.0.0" }]);
  });

  it("leaves nothing behind when a download is interrupted, and is whole the next time", async () => {
    const source = { npm: "olmoe-test-text@1.0.0", include: ["text/*.txt"] };
    registry.mode = "interrupted";
    await expect(read(source)).rejects.toThrow(DataError);
    expect(readdirSync(path.join(folder, "cache/npm"))).toEqual([]);
    registry.mode = "whole";
    expect((await read(source)).documents.length).toBe(1);
  });
});
