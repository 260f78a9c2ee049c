import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { dataSchema } from "../../src/config/data.ts";
import { TokenLoader } from "../../src/data/loader.ts";
import type { Manifest } from "../../src/data/manifest.ts";
import { openPreparedData, openTrainingSources } from "../../src/data/open.io.ts";
import { createRandom } from "../../src/util/random.ts";
import { dataIn } from "../data/corpus.ts";
import { parityPath, parityPresent } from "../parity/fixtures.ts";
import { tinyRecipe } from "../tinyRecipe.ts";
import { writeTexts } from "../tinyRun.ts";
import { olmoe, temporaryFolder } from "./harness.ts";

const root = await temporaryFolder();
const at = (...names: string[]) => join(root, ...names);
const data = async (...argv: string[]) => {
  const { code, stdout, stderr } = await olmoe(["data", ...argv]);
  return { code, stdout: stdout.replaceAll(root, "ROOT"), stderr: stderr.replaceAll(root, "ROOT") };
};
const { train: _, model: __, data: fields, ...own } = tinyRecipe();
const recipe = { ...own, ...fields };
const place = at("recipe.yaml");

beforeAll(async () => {
  writeTexts(root);
  await writeFile(place, stringify(recipe));
  expect(await data("build", place, "--out", at("data"))).toMatchObject({ code: 0 });
});

describe("olmoe data build", () => {
  it("prints what each source came to, and the second time that it is there", async () => {
    const { code, stdout, stderr } = await data("build", place, "--out", at("data"));
    expect({ code, stderr }).toEqual({ code: 0, stderr: "ROOT/data: done already\n" });
    expect(stdout).toBe(
      [
        "source  files  documents     text  broken  kept  text kept  training tokens   share",
        "prose      40         40  21.3 kB       0    40    21.3 kB           4.77 k  30.2 %",
        "code       40         40  12.4 kB       0    40    12.4 kB           5.51 k  35.0 %",
        "list       40         40  6.04 kB       0    40    6.04 kB           2.11 k  13.4 %",
        "number     40         40  4.53 kB       0    40    4.53 kB           3.37 k  21.4 %",
        "",
        "source  filter  documents  dropped             text  dropped          spans masked",
        "prose   exact          40        0  0.00 %  21.3 kB      0 B  0.00 %             0",
        "code    exact          40        0  0.00 %  12.4 kB      0 B  0.00 %             0",
        "list    exact          40        0  0.00 %  6.04 kB      0 B  0.00 %             0",
        "number  exact          40        0  0.00 %  4.53 kB      0 B  0.00 %             0",
        "",
        "15.8 k training tokens of a vocabulary of 320, in ROOT/data",
        "",
      ].join("\n"),
    );
  });

  it.each([
    [60, 1024],
    [500, 2048],
  ])("takes a folder of %i notes, with a vocabulary of %i", async (notes, vocabSize) => {
    const random = createRandom(1, "notes");
    const draw = (count: number) => uniformInt(random, 0, count - 1);
    const word = () => Array.from({ length: 3 + draw(5) }, () => "etaoinshrdlucmfw"[draw(16)]).join("");
    const words = Array.from({ length: 900 }, word);
    const folder = at(`${notes} Notes!`);
    mkdirSync(folder);
    for (let index = 0; index < notes; index++) {
      writeFileSync(join(folder, `${index}.md`), Array.from({ length: 110 }, () => words[draw(900)]).join(" "));
    }
    const set = ["--set", "heldOutBytes=8000", "--workers", "1"];
    const { code, stdout, stderr } = await data("build", folder, "--out", at(`notes-${notes}`), "--json", ...set);
    expect(code, stderr).toBe(0);
    const manifest: Manifest = JSON.parse(stdout);
    expect(manifest.sources.map(({ name, documents }) => [name, documents])).toEqual([[`${notes}-notes`, notes]]);
    expect(manifest.tokenizer.vocabSize).toBe(vocabSize);
  });

  it("changes fields of the recipe", async () => {
    const { stdout } = await data("build", place, "--out", at("set"), "--json", "--set", "tokenizer.vocabSize=300");
    expect(JSON.parse(stdout).tokenizer.vocabSize).toBe(300);
  });
});

describe("olmoe data plan, run and merge", () => {
  it("give the bytes of a build", async () => {
    expect(await data("plan", place, "--out", at("planned"))).toEqual({
      code: 0,
      stdout: "ROOT/planned/plan.json: 160 files, 44.3 kB, in 4 tasks\n",
      stderr: "",
    });
    expect(await data("run", at("planned"), "--workers", "1")).toMatchObject({ code: 0, stdout: "" });
    const { code, stdout } = await data("merge", at("planned"), "--verify", "--json");
    expect([code, JSON.parse(stdout)]).toEqual([0, JSON.parse(readFileSync(at("data/manifest.json"), "utf8"))]);
    expect(dataIn(at("planned"))).toEqual(dataIn(at("data")));
  });
});

describe("olmoe data inspect", () => {
  it("shows documents with their places", async () => {
    const { stdout } = await data(
      "inspect",
      at("data"),
      "--source",
      "list",
      "--from",
      "2",
      "--count",
      "1",
      "--tokens",
      "4",
    );
    expect(stdout).toBe(
      "document 2: 75 tokens, training/list/00002-00000.npy 85..160  14.txt  (14.txt:1)\n" +
        "-| and|:| while|\n  ... 71 more, --tokens shows them\n\n",
    );
  });

  it("gives ids, tokens and places to programs, of what is held out, too", async () => {
    const { stdout } = await data("inspect", at("data"), "--heldout", "--count", "1", "--json");
    const [piece] = JSON.parse(stdout);
    const { tokenizer } = await openPreparedData(at("data"));
    const text = `${readFileSync(at("text/prose/19.txt"), "utf8")}<|endoftext|>`;
    expect([tokenizer.decode(piece.ids), piece.tokens.join("")]).toEqual([text, text]);
    const { ids: ____, tokens: _____, ...rest } = piece;
    const from = { id: "19.txt", path: "19.txt", line: 1 };
    expect(rest).toEqual({ number: 0, file: "heldout/prose/00000.npy", start: 0, end: 126, repetition: "", ...from });
  });

  it("shows sequences as the trainer takes them, and says which are masked", async () => {
    mkdirSync(at("again"));
    for (let index = 0; index < 12; index++)
      writeFileSync(at("again", `${index}.txt`), `${index} ${"na ".repeat(200)}`);
    const set = ["--set", "heldOutBytes=0", "--set", "tokenizer.vocabSize=262"];
    expect(await data("build", at("again"), "--out", at("repeated"), ...set)).toMatchObject({ code: 0 });
    const { stdout } = await data("inspect", at("repeated"), "--length", "128", "--count", "1", "--tokens", "3");
    expect(stdout).toBe(
      "sequence 0: 128 tokens, training/again/00000-00000.npy 0..128\n  0 document borders\n" +
        "  masked in training: 1 tokens 127 times in a row at 1\n0| na| na|\n  ... 125 more, --tokens shows them\n\n",
    );
  });

  it("says where there is nothing, and names the sources", async () => {
    expect(await data("inspect", at("data"), "--from", "1000")).toEqual({
      code: 0,
      stdout: "nothing from number 1000 on\n",
      stderr: "",
    });
    expect(await data("inspect", at("data"), "--source", "poems")).toEqual({
      code: 2,
      stdout: "",
      stderr: `olmoe: --source: "poems", ROOT/data has prose, code, list, number\nhint: "olmoe data --help" shows the usage\n`,
    });
  });
});

describe("olmoe data stats", () => {
  it("writes a page, and counts for programs", async () => {
    const { code, stdout } = await data("stats", at("data"));
    expect([code, stdout.split("\n").at(-2)]).toEqual([0, "page        ROOT/data/stats.html"]);
    const page = readFileSync(at("data/stats.html"), "utf8");
    expect(page.match(/<svg/g)?.length).toBe(2);
    const counts = JSON.parse((await data("stats", at("data"), "--json")).stdout);
    const { files } = (await openPreparedData(at("data"))).manifest;
    const sum = (source: string, split: string) =>
      files
        .filter((file) => file.source === source && file.split === split)
        .reduce((total, { tokens }) => total + tokens, 0);
    for (const { name, trainingTokens, heldOutTokens, documents, lengths } of counts) {
      expect([trainingTokens, heldOutTokens, documents]).toEqual([sum(name, "training"), sum(name, "heldout"), 40]);
      expect(lengths.reduce((total: number, count: number) => total + count, 0)).toBe(40);
    }
    rmSync(at("data/stats.html"));
    await data("stats", at("data"), "--out", at("page.html"));
    expect([existsSync(at("page.html")), existsSync(at("data/stats.html"))]).toEqual([true, false]);
  });
});

describe("olmoe train --data", () => {
  const train = (...argv: string[]) =>
    olmoe(["train", at("train.yaml"), "--out", at("run"), "--backend", "reference", "--set", "train.steps=2", ...argv]);

  it("trains on a folder that was built, whatever the recipe's own sources", async () => {
    const { tokenizer: ____, ...rest } = tinyRecipe();
    await writeFile(at("train.yaml"), stringify(rest));
    const { code, stderr } = await train("--data", at("data"));
    expect(code, stderr).toBe(0);
    expect(existsSync(at("run/data/training"))).toBe(false);
  });
});

describe.skipIf(!parityPresent)("olmoe data index (skipped where the files of dolma tokens are absent)", () => {
  const tokenizer = new URL("../../../shared/data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json", import.meta.url)
    .pathname;

  it("lists what dolma tokens has written, which is then loaded as it is", async () => {
    await cp(parityPath("dolma/tokens-small"), at("dolma/small"), { recursive: true });
    const { code, stdout } = await data("index", at("dolma"), "--tokenizer", tokenizer, "--json");
    const manifest: Manifest = JSON.parse(stdout);
    const expected = JSON.parse(readFileSync(parityPath("dolma/memmap-small.json"), "utf8"));
    const tokens = manifest.files.reduce((sum, file) => sum + file.tokens, 0);
    expect([code, manifest.dtype, manifest.recipe, manifest.sources.map(({ name }) => name), tokens]).toEqual([
      0,
      "uint16",
      null,
      ["small"],
      2788,
    ]);
    const prepared = await openPreparedData(at("dolma"));
    const { sources, close } = openTrainingSources(
      prepared,
      dataSchema.parse({ sources: [{ name: "small", path: "." }] }),
    );
    const { eosTokenId } = prepared.tokenizer;
    const loader = new TokenLoader({
      sources,
      sequenceLength: expected.chunk_size,
      batchSize: expected.count,
      seed: 1,
      eosTokenId,
    });
    const { ids } = loader.next();
    close();
    const rows = Array.from({ length: expected.count }, (_, row) =>
      [...ids.subarray(row * expected.chunk_size, (row + 1) * expected.chunk_size)].join(),
    );
    expect(rows.sort()).toEqual(expected.instances.map((instance: { ids: number[] }) => instance.ids.join()).sort());
  });
});
