/** Bad files in whole builds: each is one message or a counted record, and what was built before is there again after it. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, utimesSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { makePlan } from "../../src/data/build/plan.io.ts";
import { runPlan } from "../../src/data/build/run.io.ts";
import type { Manifest } from "../../src/data/manifest.ts";
import { openPreparedData } from "../../src/data/open.io.ts";
import { writePlan } from "../../src/data/prepare.io.ts";
import { trainTokenizer } from "../../src/tokenizer/io.ts";
import { dataIn, MAIN } from "../data/corpus.ts";
import { setup } from "../policy/repository.ts";
import { BuildFolder, TEXTS } from "./dataBuild.ts";

let folder: BuildFolder;
beforeEach(() => {
  folder = new BuildFolder();
  folder.writeTexts();
});
afterEach(() => folder.remove());

const LINES = TEXTS.map((text, index) => `${JSON.stringify({ id: `${index}`, text })}\n`).join("");
const fileSource = (path: string) => ({ sources: [{ name: "s", path }] });
const message = (changes: object) => folder.failure(() => folder.build(changes));

/** What the manifest of a build says of its source. */
async function counts(changes: object = {}) {
  const [source] = (await folder.build(changes)).manifest.sources as [Manifest["sources"][number]];
  const { documents, empty, broken, faults } = source;
  return { documents, empty, broken, faults };
}

const NOT_FINISHED =
  "E_DATA DIR/out: has a plan but no manifest, its build is not finished [build it again, or: olmoe data run DIR/out && olmoe data merge DIR/out]";

describe("a build that fails", () => {
  it("while it looks for files leaves the one before it whole", async () => {
    await folder.build();
    const before = dataIn(folder.at("out"));
    folder.write("secret.txt", "not of this source");
    symlinkSync(folder.at("secret.txt"), folder.at("text/link.txt"));
    expect(await message({})).toBe(
      "E_DATA DIR/text/link.txt: leads out of DIR/text, to DIR/secret.txt [exclude it, or make its target a source of its own]",
    );
    expect(dataIn(folder.at("out"))).toEqual(before);
    await openPreparedData(folder.at("out"));
  });

  it.each([
    ["an empty gzip file", "", "is empty, expected a gzip stream"],
    ["a gzip file cut off", gzipSync(LINES).subarray(0, 300), "gzip stream ends early"],
    ["a gzip file with a wrong byte", gzipSync(LINES).fill(0x55, 200, 260), "gzip stream is damaged"],
  ])(
    "in %s says that nothing is there to be opened, and the files before it give the same bytes",
    async (_, bytes, fault) => {
      await folder.build();
      const before = dataIn(folder.at("out"));
      const bad = folder.write("text/bad.jsonl.gz", bytes);
      expect(await message({})).toBe(`E_DATA DIR/text/bad.jsonl.gz: ${fault}`);
      expect(await folder.failure(() => openPreparedData(folder.at("out")))).toBe(NOT_FINISHED);
      rmSync(bad);
      await folder.build();
      expect(dataIn(folder.at("out"))).toEqual(before);
    },
  );
});

describe("a source", () => {
  it("with empty files and a folder that is named like a file counts and passes them", async () => {
    folder.write("text/empty.txt", "");
    folder.write("text/empty.jsonl", "");
    mkdirSync(folder.at("text/folder.txt"));
    expect(await counts()).toEqual({ documents: 16, empty: 1, broken: 0, faults: [] });
  });

  it("that is an empty folder where a file was meant names the globs", async () => {
    mkdirSync(folder.at("a.jsonl"));
    expect(await message({ sources: [{ name: "s", path: "a.jsonl", include: ["*.jsonl"] }] })).toBe(
      'E_DATA source "s": no file in DIR/a.jsonl matches *.jsonl [change include or exclude of the source]',
    );
  });

  it("with lines that are not text counts and passes them", async () => {
    const broken = Buffer.concat([Buffer.from('{"text":"'), Buffer.of(0xff), Buffer.from('"}\n{"text":"\\ud800"}\n')]);
    folder.write("a.jsonl", Buffer.concat([Buffer.from(LINES), broken]));
    const faults = ["a.jsonl:17: not UTF-8", "a.jsonl:18: text has half a surrogate pair"];
    expect(await counts(fileSource("a.jsonl"))).toEqual({ documents: 16, empty: 0, broken: 2, faults });
  });

  it("with a line of 33 MiB counts and passes it", async () => {
    const long = [Buffer.from(`${LINES}{"text":"`), Buffer.alloc(33 * 2 ** 20, 97), Buffer.from('"}\n')];
    folder.write("a.jsonl.gz", gzipSync(Buffer.concat(long)));
    const faults = ["a.jsonl.gz:17: longer than 33554432 bytes"];
    expect(await counts(fileSource("a.jsonl.gz"))).toEqual({ documents: 16, empty: 0, broken: 1, faults });
  });

  it("with JSON that is nested 100,000 levels deep counts and passes it", async () => {
    const deep = (open: string, close: string) => `${open.repeat(1e5)}1${close.repeat(1e5)}`;
    const bombs = [`{"text":"a","metadata":${deep('{"a":', "}")}}`, `{"text":${deep("[", "]")}}`, "[".repeat(1e6)];
    folder.write("a.jsonl", `${LINES}${bombs.join("\n")}\n`);
    expect(await counts(fileSource("a.jsonl"))).toEqual({
      documents: 16,
      empty: 0,
      broken: 3,
      faults: [
        "a.jsonl:17: nested deeper than 64 levels",
        'a.jsonl:18: no text in field "text"',
        "a.jsonl:19: not JSON",
      ],
    });
  });

  it("that is one file of 65 MiB of text without lines names it", async () => {
    folder.write("a.txt.gz", gzipSync(Buffer.alloc(65 * 2 ** 20, 97)));
    expect(await message(fileSource("a.txt.gz"))).toBe(
      'E_DATA source "s": no text in the 1 files of a.txt.gz, 1 could not be read\na.txt.gz: larger than 67108864 bytes',
    );
  });

  it("of a million equal documents of one byte becomes one, within 512 MB of objects", { timeout: 240_000 }, () => {
    setup();
    folder.write("a.jsonl", '{"text":"a"}\n'.repeat(1e6));
    folder.write("tokenizer.json", trainTokenizer(TEXTS, { vocabSize: 270 }).toJson());
    const recipe = {
      name: "million",
      ...fileSource("a.jsonl"),
      tokenizer: { file: "tokenizer.json" },
      heldOutBytes: 0,
    };
    const place = folder.write("recipe.yaml", stringify(recipe));
    const argv = [
      "--max-old-space-size=512",
      MAIN,
      "data",
      "build",
      place,
      "--out",
      folder.at("out"),
      "--workers",
      "1",
    ];
    const { status, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8" });
    expect(status, stderr).toBe(0);
    const manifest: Manifest = JSON.parse(readFileSync(folder.at("out/manifest.json"), "utf8"));
    expect(manifest.sources).toMatchObject([{ documents: 1_000_000, keptDocuments: 1, keptBytes: 1 }]);
    expect(manifest.files).toMatchObject([{ tokens: 2, documents: 1 }]);
  });
});

describe("where the data goes", () => {
  it("may not be a file", async () => {
    folder.write("out", "a file");
    expect(await message({})).toBe("E_DATA DIR/out: is a file, expected a folder");
  });

  // A link to the device that is always full stands where the file will be written.
  it.skipIf(process.platform !== "linux").each([
    ["documents/s/00000.jsonl.gz", "partial", "DIR/out/documents/s/00000.jsonl.gz: disk is full"],
    ["attributes/filters/s/00000.jsonl.gz", "partial", "DIR/out/attributes/filters/s/00000.jsonl.gz: disk is full"],
    ["work/sketches/s/00000.exact", "partial", "DIR/out/work/sketches/s/00000.exact: disk is full"],
    ["work/choices/s/00000.jsonl.gz", "partial", "DIR/out/work/choices/s/00000.jsonl.gz: disk is full"],
    ["training/s/00000-00000.npy", "partial", "DIR/out/training/s/00000-00000.npy: disk is full"],
    ["training/s/00000-00000.csv.gz", "partial", "DIR/out/training/s/00000-00000.csv.gz: disk is full"],
    ["heldout/s/00000.npy", "partial", "DIR/out/heldout/s/00000.npy: disk is full"],
    [
      "work/tasks/read-00000.json",
      "tmp",
      "write DIR/out/work/tasks/read-00000.json: no space left on the device [free some space or choose another folder]",
    ],
    [
      "tokenizer.json",
      "tmp",
      "write DIR/out/tokenizer.json: no space left on the device [free some space or choose another folder]",
    ],
    [
      "plan.json",
      "tmp",
      "write DIR/out/plan.json: no space left on the device [free some space or choose another folder]",
    ],
  ])(
    "may be on a full disk (skipped where /dev/full is not known): %s is named, and built later",
    async (file, ending, text) => {
      const place = folder.write(`out/${file}.${process.pid}.${ending}`, "");
      rmSync(place);
      symlinkSync("/dev/full", place);
      expect(await message({})).toBe(`E_RESOURCE ${text}`);
      rmSync(place, { force: true });
      await folder.build();
      await folder.build({}, "whole");
      expect(dataIn(folder.at("out"))).toEqual(dataIn(folder.at("whole")));
    },
  );
});

describe("a text that is changed while data is built", () => {
  it("is noticed", async () => {
    const file = folder.at("text/3.txt");
    const options = folder.buildOptions();
    await writePlan(options.directory, await makePlan(options));
    utimesSync(file, 1, 1);
    expect(await folder.failure(() => runPlan(options))).toBe(
      "E_DATA DIR/text/3.txt: has changed since it was listed [build again, or make the plan again with `olmoe data plan`]",
    );
    rmSync(file);
    expect(await folder.failure(() => runPlan(options))).toBe("E_DATA DIR/text/3.txt: does not exist");
  });
});
