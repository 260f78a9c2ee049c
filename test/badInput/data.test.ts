/** Bad text, bad files and bad tokenizers: one error each, whose whole message is asserted. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { dataSchema, parseDataRecipe } from "../../src/config/data.ts";
import { openPreparedData, openTrainingSources } from "../../src/data/open.io.ts";
import { prepareData } from "../../src/data/prepare.io.ts";
import { readTokenFile } from "../../src/data/tokenFile.io.ts";
import { OlmoeError } from "../../src/errors.ts";
import { loadTokenizer, trainTokenizer } from "../../src/tokenizer/io.ts";
import { NPM_VARIABLES, startRegistry, type TestRegistry } from "../npmRegistry.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "olmoe-bad-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function write(name: string, content: string | Uint8Array): string {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

/** The error of an action as "code message [hint]", the temporary folder written as DIR. */
async function failure(action: () => unknown): Promise<string> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof OlmoeError)) throw error;
    const hint = error.hint === undefined ? "" : ` [${error.hint}]`;
    return `${error.code} ${error.message}${hint}`.replaceAll(folder, "DIR");
  }
  return "no error";
}

async function readAll(source: object): Promise<void> {
  await prepareData({
    recipe: parseDataRecipe({
      name: "bad",
      sources: [{ name: "s", ...source }],
      tokenizer: { vocabSize: 258 },
      heldOutBytes: 0,
    }),
    baseDirectory: folder,
    directory: path.join(folder, "out"),
    cacheDirectory: path.join(folder, "cache"),
  });
}

function prepare(tokenizer: object, sources: object[] = [{ name: "s", path: "text" }]) {
  return prepareData({
    recipe: parseDataRecipe({ name: "bad", seed: 1, sources, tokenizer }),
    baseDirectory: folder,
    directory: path.join(folder, "out"),
    cacheDirectory: path.join(folder, "cache"),
  });
}

describe("a source", () => {
  it("that does not exist is named with the place it was looked for", async () => {
    expect(await failure(() => readAll({ path: "none" }))).toBe(
      'E_DATA source "s": DIR/none does not exist [a relative path starts at DIR]',
    );
  });

  it("without a matching file names the globs", async () => {
    write("text/a.pdf", "x");
    expect(await failure(() => readAll({ path: "text", include: ["*.txt", "*.md"] }))).toBe(
      'E_DATA source "s": no file in DIR/text matches *.txt, *.md [change include or exclude of the source]',
    );
  });

  it("of empty files has no text", async () => {
    write("text/a.txt", "");
    write("text/b.txt", " \n");
    expect(await failure(() => readAll({ path: "text" }))).toBe(
      'E_DATA source "s": no text in the 2 files of text, all are empty',
    );
  });

  it("that is not UTF-8 throughout has no text, and the files are named", async () => {
    write("text/a.txt", Uint8Array.of(0xff, 0xfe, 0x00));
    write("text/b.txt", Uint8Array.of(0x63, 0xe9));
    expect(await failure(() => readAll({ path: "text" }))).toBe(
      'E_DATA source "s": no text in the 2 files of text, 2 could not be read\na.txt: not UTF-8\nb.txt: not UTF-8',
    );
  });

  it("with too many broken lines stops with the first ones", async () => {
    write("a.jsonl", `${'{"text":"good"}\n'.repeat(100)}${"{\n".repeat(11)}`);
    const first = Array.from({ length: 10 }, (_, index) => `a.jsonl:${index + 101}: not JSON`).join("\n");
    expect(await failure(() => readAll({ path: "a.jsonl" }))).toBe(
      `E_DATA source "s": 11 of 111 records are broken, at most 10 are skipped\n${first} [check format, include and textField of the source, or raise its maxBrokenShare]`,
    );
  });

  it("with another text field says so", async () => {
    write("a.jsonl", '{"content":"x"}\n');
    expect(await failure(() => readAll({ path: "a.jsonl" }))).toBe(
      'E_DATA source "s": no text in the 1 files of a.jsonl, 1 could not be read\na.jsonl:1: no text in field "text"',
    );
  });

  it("in a truncated gzip stream names the file", async () => {
    const whole = gzipSync(Array.from({ length: 1000 }, (_, index) => `{"text":"line ${index}"}\n`).join(""));
    write("a.jsonl.gz", whole.subarray(0, whole.length / 2));
    expect(await failure(() => readAll({ path: "a.jsonl.gz" }))).toBe("E_DATA DIR/a.jsonl.gz: gzip stream ends early");
  });

  it("in something else than gzip names the file", async () => {
    write("a.jsonl.gz", '{"text":"not compressed"}\n');
    expect(await failure(() => readAll({ path: "a.jsonl.gz" }))).toBe("E_DATA DIR/a.jsonl.gz: gzip stream is damaged");
  });

  it("behind a file instead of a folder names the path", async () => {
    write("a.txt", "x");
    expect(await failure(() => readAll({ path: "a.txt/b" }))).toBe(
      "E_DATA DIR/a.txt/b: a part of the path is not a folder",
    );
  });

  // The superuser reads everything.
  it.skipIf(process.getuid?.() === 0)("that may not be read is a matter of permission", async () => {
    chmodSync(write("a.txt", "x"), 0);
    expect(await failure(() => readAll({ path: "a.txt" }))).toBe(
      "E_RESOURCE DIR/a.txt: may not be read or written (EACCES)",
    );
  });

  it("of one document can not be divided", async () => {
    write("text/a.txt", "one short text");
    expect(await failure(() => prepare({ vocabSize: 300 }))).toBe(
      'E_DATA source "s": 1 documents of 14 bytes, none is at most a fifth of them and can be held out [add text, set maxDocumentChars so that long texts are cut, or heldOutBytes: 0 for none]',
    );
  });
});

describe("an npm package", () => {
  let registry: TestRegistry;
  beforeEach(async () => {
    for (const name of NPM_VARIABLES) vi.stubEnv(name, undefined);
    registry = await startRegistry(folder, { "a.txt": "text ".repeat(2000) });
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await registry.close();
  });
  const message = (npm: string) =>
    failure(() => readAll({ npm })).then((text) => text.replaceAll(registry.url, "URL/"));

  it("without a version is refused", async () => {
    const hint = 'write it like "three@0.180.0", or "three@latest" for whatever is newest';
    for (const npm of ["olmoe-test-text", "olmoe-test-text@^1.0.0", "file:../x", "../x@1.0.0"]) {
      expect(await message(npm)).toBe(
        `E_DATA npm package ${JSON.stringify(npm)}: expected a name with an exact version [${hint}]`,
      );
    }
  });

  it("that nobody knows is named with the registry", async () => {
    expect(await message("olmoe-test-none@1.0.0")).toBe("E_DATA npm package olmoe-test-none@1.0.0: not found at URL/");
  });

  it("without the version asked for says so", async () => {
    expect(await message("olmoe-test-text@2.0.0")).toBe(
      "E_DATA npm package olmoe-test-text@2.0.0: no such version at URL/",
    );
  });

  it("whose download is interrupted leaves nothing behind", async () => {
    registry.mode = "interrupted";
    expect(await message("olmoe-test-text@1.0.0")).toMatch(
      /^E_DATA npm package olmoe-test-text@1.0.0: download from URL\/ failed \([^()]+\) \[try again with a network connection; once fetched, the package stays in DIR\/cache\/npm\]$/,
    );
    expect(readdirSync(path.join(folder, "cache/npm"))).toEqual([]);
  });

  it("without a network is named with what to do", async () => {
    await registry.close();
    expect(await message("olmoe-test-text@1.0.0")).toBe(
      "E_DATA npm package olmoe-test-text@1.0.0: download from URL/ failed (ECONNREFUSED) [try again with a network connection; once fetched, the package stays in DIR/cache/npm]",
    );
  });
});

describe("a token file", () => {
  it("of an odd length is refused", async () => {
    const file = write("a.npy", Uint8Array.of(1, 0, 2));
    expect(await failure(async () => readTokenFile(file, "uint16", 10))).toBe(
      "E_DATA DIR/a.npy: 3 bytes, expected a multiple of 2 (uint16) [the file is cut off, or was written with another integer type]",
    );
  });

  it("with an id outside the vocabulary is refused", async () => {
    const file = write("a.npy", Uint8Array.of(1, 0, 10, 0));
    expect(await failure(async () => readTokenFile(file, "uint16", 10))).toBe(
      "E_DATA DIR/a.npy: token 1 has id 10, the vocabulary has 10 (0 to 9) [the file was written with another tokenizer or another integer type]",
    );
  });

  it("that is missing or a folder is refused", async () => {
    expect(await failure(async () => readTokenFile(path.join(folder, "a.npy"), "uint16", 10))).toBe(
      "E_DATA DIR/a.npy: does not exist",
    );
    expect(await failure(async () => readTokenFile(folder, "uint16", 10))).toBe(
      "E_DATA DIR: is a folder, expected a file",
    );
  });
});

describe("prepared data", () => {
  it("that was never finished has no manifest", async () => {
    expect(await failure(() => openPreparedData(folder))).toBe("E_DATA DIR/manifest.json: does not exist");
  });

  it("with a damaged manifest is refused", async () => {
    const hint = "delete the folder it is in, so that the data is prepared again";
    write("manifest.json", "{");
    expect(await failure(() => openPreparedData(folder))).toBe(`E_DATA DIR/manifest.json: not JSON [${hint}]`);
    write("manifest.json", '{"version":1}');
    expect(await failure(() => openPreparedData(folder))).toBe(
      `E_DATA DIR/manifest.json: not a manifest of prepared data, version: Invalid input: expected 2 [${hint}]`,
    );
  });

  it("with a file cut short is refused", async () => {
    for (let index = 0; index < 20; index++) write(`text/${index}.txt`, `text number ${index}, not long`);
    const prepared = await prepare({ vocabSize: 270 });
    const { tokens } = prepared.manifest.files[0]!;
    write("out/training/s/00000-00000.npy", new Uint8Array(20));
    const recipe = dataSchema.parse({ sources: [{ name: "s", path: "text" }] });
    expect(await failure(async () => openTrainingSources(prepared, recipe))).toBe(
      `E_DATA DIR/out/training/s/00000-00000.npy: 10 tokens, the manifest has ${tokens} [delete DIR/out, so that the data is prepared again]`,
    );
  });
});

describe("a tokenizer", () => {
  it("that is missing is named", async () => {
    const hint = "name a tokenizer.json or a folder that holds one";
    expect(await failure(() => loadTokenizer(path.join(folder, "none.json")))).toBe(
      `E_TOKENIZER DIR/none.json: file does not exist [${hint}]`,
    );
    expect(await failure(() => loadTokenizer(folder))).toBe(
      `E_TOKENIZER DIR/tokenizer.json: file does not exist [${hint}]`,
    );
  });

  it("that is something else is refused", async () => {
    const cases: [string, string][] = [
      ["{", "not JSON"],
      ["[]", "not a tokenizer.json, model.vocab is missing"],
      [
        '{"model":{"type":"WordPiece","vocab":{}}}',
        "model WordPiece with decoder undefined, expected BPE with ByteLevel",
      ],
      ['{"model":{"type":"BPE","vocab":{"a":-1}},"decoder":{"type":"ByteLevel"}}', 'token "a" has id -1'],
      ['{"model":{"type":"BPE","vocab":{"a":1e9}},"decoder":{"type":"ByteLevel"}}', 'token "a" has id 1000000000'],
      [
        '{"model":{"type":"BPE","vocab":{"a":0}},"decoder":{"type":"ByteLevel"}}',
        "no token <|endoftext|>, needed to end documents",
      ],
      [
        '{"added_tokens":[{"id":0}],"model":{"type":"BPE","vocab":{}},"decoder":{"type":"ByteLevel"}}',
        "added_tokens has an entry without id and content",
      ],
    ];
    for (const [json, fault] of cases) {
      const file = write("tokenizer.json", json);
      expect(await failure(() => loadTokenizer(file))).toBe(`E_TOKENIZER DIR/tokenizer.json: ${fault}`);
    }
  });

  it("whose merges do not fit its vocabulary is refused", async () => {
    const value = JSON.parse(trainTokenizer(["abc abc"], { vocabSize: 260 }).toJson());
    value.model.merges.push("nothing here");
    const file = write("tokenizer.json", JSON.stringify(value));
    expect(await failure(() => loadTokenizer(file))).toMatch(
      /^E_TOKENIZER DIR\/tokenizer.json: not a tokenizer.json, /,
    );
  });

  it("can not be larger than its text allows", async () => {
    for (let index = 0; index < 20; index++) write(`text/${index}.txt`, `text number ${index}`);
    expect(await failure(() => prepare({ vocabSize: 4096 }))).toMatch(
      /^E_TOKENIZER tokenizer: the text gives (\d+) entries, vocabSize is 4096 \[lower tokenizer.vocabSize to at most \1, or add text\]$/,
    );
  });
});
