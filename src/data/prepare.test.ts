import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { dataSchema, tokenizerSchema } from "../config/data.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import { documentsOf } from "./document.ts";
import { heldOutWindows } from "./heldOut.ts";
import { TokenLoader } from "./loader.ts";
import { openHeldOut, openPreparedData, openTrainingSources } from "./open.io.ts";
import { type PrepareProgress, prepareData } from "./prepare.io.ts";
import { readSource } from "./sources/sources.io.ts";
import { readTokenFile, writeTokenFile } from "./tokenFile.io.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "olmoe-prepare-"));
  for (const kind of ["odd", "even"]) {
    mkdirSync(path.join(folder, kind));
    for (let index = 0; index < 30; index++) {
      const words = Array.from({ length: 60 }, (_, word) => `${kind}${(index * 7 + word * word) % 31}`);
      writeFileSync(path.join(folder, kind, `${index}.txt`), words.join(" "));
    }
  }
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const recipe = dataSchema.parse({
  heldOutBytes: 1500,
  sources: [
    { name: "odd", path: "odd" },
    { name: "even", path: "even", weight: 3 },
  ],
});

function prepare(more: object = {}, directory = "out") {
  return prepareData({
    recipe,
    tokenizer: tokenizerSchema.parse({ vocabSize: 280 }),
    baseDirectory: folder,
    directory: path.join(folder, directory),
    cacheDirectory: path.join(folder, "cache"),
    seed: 3,
    ...more,
  });
}

/** Every file of a folder with its content. */
function contents(directory: string): [string, string][] {
  const names = readdirSync(path.join(folder, directory), { recursive: true, withFileTypes: true });
  return names
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort()
    .map((file) => [path.relative(path.join(folder, directory), file), readFileSync(file, "base64")]);
}

describe("prepareData", () => {
  it("writes token files, spans, held-out text, the tokenizer and a manifest, the same bytes each time", async () => {
    const { manifest, reused } = await prepare();
    expect(reused).toBe(false);
    const files = contents("out");
    expect(files.map(([name]) => name)).toEqual([
      "heldout/even.csv.gz",
      "heldout/even.jsonl",
      "heldout/even.npy",
      "heldout/odd.csv.gz",
      "heldout/odd.jsonl",
      "heldout/odd.npy",
      "manifest.json",
      "tokenizer.json",
      "training/even.csv.gz",
      "training/even.npy",
      "training/odd.csv.gz",
      "training/odd.npy",
    ]);
    // 60 words make about 340 and 400 bytes: five and four texts reach the 1,500 bytes to hold out.
    expect(manifest.files.map(({ file, documents }) => [file, documents])).toEqual([
      ["training/odd.npy", 25],
      ["heldout/odd.npy", 5],
      ["training/even.npy", 26],
      ["heldout/even.npy", 4],
    ]);
    expect(manifest.sources.map(({ name, documents }) => [name, documents])).toEqual([
      ["odd", 30],
      ["even", 30],
    ]);
    await prepare({}, "again");
    expect(contents("again")).toEqual(files);
  });

  it("closes each document with one end of text, and the spans name them", async () => {
    const { directory, manifest, tokenizer } = await prepare();
    const tokens = await readTokenFile(path.join(directory, "training/odd.npy"), manifest.dtype, 280);
    const table = gunzipSync(readFileSync(path.join(directory, "training/odd.csv.gz")))
      .toString()
      .trimEnd();
    let last = 0;
    for (const line of table.split("\r\n")) {
      const [start, end, id, file, number] = line.split(",");
      expect([Number(start), file, number]).toEqual([last, id, "1"]);
      last = Number(end);
      const ids = tokens.subarray(Number(start), last);
      expect(tokenizer.decode(ids)).toBe(`${readFileSync(path.join(folder, "odd", id!), "utf8")}<|endoftext|>`);
    }
    expect(last).toBe(tokens.length);
  });

  it("uses what is there again, and not after a change of recipe, seed, text or file size", async () => {
    await prepare();
    const again = await prepare();
    expect(again.reused).toBe(true);
    expect(
      (await prepare({ recipe: { ...recipe, sources: recipe.sources.map((s) => ({ ...s, weight: 9 })) } })).reused,
    ).toBe(true);
    expect((await prepare({ seed: 4 })).reused).toBe(false);
    expect((await prepare({ recipe: { ...recipe, heldOutBytes: 700 } })).reused).toBe(false);
    await prepare();
    utimesSync(path.join(folder, "odd/1.txt"), 1, 1);
    expect((await prepare()).reused).toBe(false);
    writeFileSync(path.join(again.directory, "training/odd.npy"), "x");
    expect((await prepare()).reused).toBe(false);
    expect((await prepare()).reused).toBe(true);
  });

  it("leaves no manifest when it is stopped, and starts over", async () => {
    const controller = new AbortController();
    const onProgress = ({ stage }: PrepareProgress) => {
      if (stage === "encode") controller.abort();
    };
    await expect(prepare({ signal: controller.signal, onProgress })).rejects.toThrow("aborted");
    expect(existsSync(path.join(folder, "out/manifest.json"))).toBe(false);
    expect((await prepare()).reused).toBe(false);
  });

  it("reports each stage with its source", async () => {
    const stages: string[] = [];
    await prepare({
      onProgress: ({ stage, source = "" }: PrepareProgress) => stages.push(`${stage} ${source}`.trim()),
    });
    expect([...new Set(stages)]).toEqual(["read odd", "read even", "tokenizer", "encode odd", "encode even"]);
  });

  it("takes a tokenizer from a file", async () => {
    const first = await prepare();
    const file = path.join(first.directory, "tokenizer.json");
    const second = await prepare({ tokenizer: tokenizerSchema.parse({ file }) }, "second");
    expect(second.manifest.tokenizer).toEqual(first.manifest.tokenizer);
    expect(second.manifest.files).toEqual(first.manifest.files);
  });
});

describe("prepared data", () => {
  it("opens again for training and for held-out text", async () => {
    const prepared = await openPreparedData((await prepare()).directory);
    const { eosTokenId } = prepared.tokenizer;
    const sources = await openTrainingSources(prepared, recipe);
    const loader = new TokenLoader({ sources, sequenceLength: 32, batchSize: 4, seed: 1, eosTokenId });
    expect(loader.next().sources).toEqual(Int32Array.of(1, 0, 1, 1));
    const [odd] = await openHeldOut(prepared);
    expect(odd!.textBytes).toBe(odd!.documents.reduce((sum, { text }) => sum + text.length, 0));
    const text = odd!.documents.map((document) => `${document.text}<|endoftext|>`).join("");
    expect(prepared.tokenizer.decode(odd!.tokens)).toBe(text);
    expect(heldOutWindows(odd!.tokens, { sequenceLength: 32, eosTokenId }).targets).toBe(odd!.tokens.length);
    for (const { id } of odd!.documents) {
      const table = gunzipSync(readFileSync(path.join(prepared.directory, "training/odd.csv.gz"))).toString();
      expect(table.includes(`,${id},`)).toBe(false);
    }
  });
});

const shared = new URL("../../../shared/", import.meta.url);
const dolma = new URL("reference/parity/dolma/", shared);

// Needs the frozen output of `dolma tokens`, which lies beside the repository.
describe.skipIf(!existsSync(dolma))("the files of dolma tokens", () => {
  interface Expected {
    documents: { id: string | null; src: string; line: number; ids: number[] | null }[];
    runs: { files: { npy: string; tokens: number; documents: number }[] }[];
  }
  const location = new URL("data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json", shared).pathname;

  it("hold the same ids for every document that this reads", async () => {
    const expected: Expected = JSON.parse(readFileSync(new URL("expected.json", dolma), "utf8"));
    const tokenizer = await loadTokenizer(location);
    const source = dataSchema.parse({ sources: [{ name: "s", path: dolma.pathname, include: ["documents/*.gz"] }] })
      .sources[0]!;
    const actual = new Map<string, number[]>();
    const whole = { ...source, maxDocumentChars: 1e6 };
    for await (const document of readSource(whole, { baseDirectory: folder, cacheDirectory: folder })) {
      const base = path.join(folder, "one");
      await writeTokenFile(base, [document], { tokenizer, dtype: "uint16" });
      const tokens = await readTokenFile(`${base}.npy`, "uint16", tokenizer.vocabSize);
      actual.set(`${document.path}:${document.line}`, Array.from(tokens));
    }
    // Line 16 of part 1 has a number as id, which dolma skips and this reads.
    actual.delete("documents/part-1.jsonl.gz:16");
    const wanted = expected.documents.filter(({ ids }) => ids !== null);
    expect(actual).toEqual(new Map(wanted.map(({ src, line, ids }) => [`${src}:${line}`, ids])));
  });

  it("are read", async () => {
    const expected: Expected = JSON.parse(readFileSync(new URL("expected.json", dolma), "utf8"));
    for (const { npy, tokens, documents } of expected.runs.flatMap(({ files }) => files)) {
      const read = await readTokenFile(new URL(npy, dolma).pathname, "uint16", 50280);
      expect([read.length, read.filter((id) => id === 50279).length >= documents]).toEqual([tokens, true]);
    }
  });

  it("are written with the same spans for the same order of documents", async () => {
    const tokenizer = await loadTokenizer(location);
    const spans = gunzipSync(readFileSync(new URL("tokens-one/part-0-00000.csv.gz", dolma))).toString();
    const places = spans
      .trimEnd()
      .split("\r\n")
      .map((line) => line.split(","));
    const documents = places.flatMap(([, , id, src, line]) => {
      const lines = gunzipSync(readFileSync(new URL(src!, dolma)))
        .toString()
        .split("\n");
      const { text } = JSON.parse(lines[Number(line) - 1]!);
      return documentsOf({ id: id!, text, source: "s", path: src!, line: Number(line) }, 1e6);
    });
    const base = path.join(folder, "one");
    await writeTokenFile(base, documents, { tokenizer, dtype: "uint16" });
    expect(gunzipSync(readFileSync(`${base}.csv.gz`)).toString()).toBe(spans);
    expect(readFileSync(`${base}.npy`)).toEqual(readFileSync(new URL("tokens-one/part-0-00000.npy", dolma)));
  });
});
