import { mkdirSync, symlinkSync, unlinkSync, utimesSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { brief, recipeOf, SourceFolder } from "../../../test/sourceFiles.ts";
import { listSource } from "./files.io.ts";
import { readSourceFile } from "./sources.io.ts";

let files: SourceFolder;
beforeEach(() => {
  files = new SourceFolder();
});
afterEach(() => files.remove());

const list = (source: object) => listSource(recipeOf(source), files.options);

describe("listSource", () => {
  it("gives files in the order of their names, with size and time", async () => {
    for (const [name, text] of [
      ["t/b.txt", "bb"],
      ["t/B.txt", ""],
      ["t/a/z.txt", "z"],
      ["t/a.txt", "aaa"],
    ] as const) {
      utimesSync(files.write(name, text), 1, 2);
    }
    expect(await list({ path: "t" })).toEqual({
      files: [
        { path: "B.txt", bytes: 0, fingerprint: "0-2000" },
        { path: "a.txt", bytes: 3, fingerprint: "3-2000" },
        { path: "a/z.txt", bytes: 1, fingerprint: "1-2000" },
        { path: "b.txt", bytes: 2, fingerprint: "2-2000" },
      ],
      resolved: "t",
      source: recipeOf({ path: "t" }),
    });
  });

  it("takes a file by its path, whatever include says", async () => {
    files.write("a.dat", "x");
    expect((await list({ path: "a.dat" })).files.map((file) => file.path)).toEqual(["a.dat"]);
  });

  it("follows links to files of the folder, and no link to a folder", async () => {
    files.write("t/a.txt", "x");
    symlinkSync("a.txt", path.join(files.folder, "t/b.txt"));
    symlinkSync(".", path.join(files.folder, "t/loop"));
    symlinkSync("..", path.join(files.folder, "t/up"));
    expect((await list({ path: "t", include: ["**"] })).files.map((file) => file.path)).toEqual(["a.txt", "b.txt"]);
  });

  it("refuses a link that leads out of the folder, and one that leads nowhere", async () => {
    files.write("secret.txt", "x");
    mkdirSync(path.join(files.folder, "t"));
    const link = path.join(files.folder, "t/a.txt");
    symlinkSync("../secret.txt", link);
    expect(await files.failure(() => list({ path: "t" }))).toBe(
      "E_DATA DIR/t/a.txt: leads out of DIR/t, to DIR/secret.txt [exclude it, or make its target a source of its own]",
    );
    unlinkSync(link);
    symlinkSync("none.txt", link);
    expect(await files.failure(() => list({ path: "t" }))).toBe("E_DATA DIR/t/a.txt: does not exist");
  });
});

describe("readSourceFile", () => {
  const read = async (name: string, fingerprint: string) => {
    const records = [];
    const file = { path: name, bytes: 1, fingerprint };
    for await (const record of readSourceFile(file, recipeOf({ path: "t" }), files.options)) records.push(record);
    return records;
  };

  it("refuses a file that has changed, is gone, or is outside", async () => {
    const file = files.write("t/a.txt", "x");
    utimesSync(file, 1, 2);
    files.write("secret.txt", "x");
    expect(brief(await read("a.txt", "1-2000"))).toEqual([["a.txt", "x", 1]]);
    expect(await files.failure(() => read("a.txt", "1-1000"))).toBe(
      "E_DATA DIR/t/a.txt: has changed since it was listed [build again, or make the plan again with `olmoe data plan`]",
    );
    expect(await files.failure(() => read("b.txt", "1-1000"))).toBe("E_DATA DIR/t/b.txt: does not exist");
    expect(await files.failure(() => read("../secret.txt", "1-2000"))).toBe(
      "E_DATA DIR/secret.txt: leads out of DIR/t, to DIR/secret.txt [exclude it, or make its target a source of its own]",
    );
  });

  it("reads a million documents of one byte, one at a time", async () => {
    files.write("t/a.jsonl", '{"text":"x"}\n'.repeat(1_000_000));
    const { files: listed, source } = await list({ path: "t" });
    let documents = 0;
    for await (const record of readSourceFile(listed[0]!, source, files.options)) {
      documents += "document" in record && record.document.text === "x" ? 1 : 0;
    }
    expect(documents).toBe(1_000_000);
  });

  it("stops at an abort, and lets go of a file that is not read to its end", async () => {
    files.write("t/a.jsonl", '{"text":"x"}\n'.repeat(100_000));
    const { files: listed, source } = await list({ path: "t" });
    for await (const _ of readSourceFile(listed[0]!, source, files.options)) break;
    const stop = new AbortController();
    const reading = async () => {
      for await (const _ of readSourceFile(listed[0]!, source, { ...files.options, signal: stop.signal })) stop.abort();
    };
    await expect(reading()).rejects.toThrow("This operation was aborted");
  });
});
