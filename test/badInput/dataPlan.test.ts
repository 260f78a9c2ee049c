/** Plans, recipes, manifests and token files that are damaged or do not fit: one message each. */
import { readFileSync, rmSync, utimesSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { dataSchema } from "../../src/config/data.ts";
import type { Plan } from "../../src/data/build/plan.ts";
import { TokenLoader } from "../../src/data/loader.ts";
import { openPreparedData, openTrainingSources } from "../../src/data/open.io.ts";
import { trainTokenizer } from "../../src/tokenizer/io.ts";
import { olmoe } from "../cli/harness.ts";
import { dataIn } from "../data/corpus.ts";
import { BuildFolder, TEXTS } from "./dataBuild.ts";

let folder: BuildFolder;
beforeEach(() => {
  folder = new BuildFolder();
  folder.writeTexts();
});
afterEach(() => folder.remove());

/** What `olmoe data` says where it fails: exit code and standard error. */
async function data(...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await olmoe(["data", ...argv]);
  return `${code} ${code === 0 ? stdout : stderr}`.replaceAll(folder.folder, "DIR");
}
const run = (...argv: string[]) => data("run", folder.at("out"), "--workers", "1", ...argv);
const merge = (...argv: string[]) => data("merge", folder.at("out"), ...argv);

async function plan(changes: object = {}): Promise<Plan> {
  const recipe = { ...folder.buildOptions(changes).recipe, stages: undefined };
  const place = folder.write("recipe.yaml", stringify(recipe));
  expect(await data("plan", place, "--out", folder.at("out"))).toBe(
    "0 DIR/out/plan.json: 16 files, 1.69 kB, in 1 tasks\n",
  );
  return JSON.parse(readFileSync(folder.at("out/plan.json"), "utf8"));
}

const AGAIN = "hint: make it again with `olmoe data plan`\n";

describe("a plan", () => {
  it("that is not there is asked for", async () => {
    const missing = "1 olmoe: DIR/out/plan.json: does not exist\nhint: make it with `olmoe data plan RECIPE`\n";
    expect(await run()).toBe(missing);
    expect(await merge()).toBe(missing);
  });

  it("that is damaged, of another version or not of its recipe is refused", async () => {
    const good = await plan();
    const [read] = good.reads;
    const cases: [value: object | string, fault: string][] = [
      ["{", "not JSON"],
      [{ ...good, version: 2 }, "not a plan, version: Invalid input: expected 1"],
      [{ ...good, reads: [{ ...read, source: 5 }] }, "reads source 5, the recipe has 1"],
      [{ ...good, resolved: [] }, "reads 0 sources, the recipe has 1"],
    ];
    for (const [value, fault] of cases) {
      folder.write("out/plan.json", typeof value === "string" ? value : JSON.stringify(value));
      expect(await run()).toBe(`1 olmoe: DIR/out/plan.json: ${fault}\n${AGAIN}`);
      expect(await merge()).toBe(`1 olmoe: DIR/out/plan.json: ${fault}\n${AGAIN}`);
    }
  });

  it("can not name a source or a file outside its folder", async () => {
    const good = await plan();
    const sources = [{ ...good.recipe.sources[0], name: "../.." }];
    folder.write("out/plan.json", JSON.stringify({ ...good, recipe: { ...good.recipe, sources } }));
    expect(await run()).toBe(
      '1 olmoe: DIR/out/plan.json: recipe: sources.0.name: "../..", must be lower-case letters, digits, - and _\nhint: see docs/data.md for every key\n',
    );
    folder.write("secret.txt", "not of this source");
    const files = [{ path: "../secret.txt", bytes: 18, fingerprint: "x" }];
    folder.write("out/plan.json", JSON.stringify({ ...good, reads: [{ source: 0, files }] }));
    expect(await run()).toBe(
      "1 olmoe: DIR/secret.txt: leads out of DIR/text, to DIR/secret.txt\nhint: exclude it, or make its target a source of its own\n",
    );
  });

  it("is run phase by phase, and merged when all is done", async () => {
    await plan();
    const notDone = (phase: string) =>
      `1 olmoe: DIR/out: ${phase}-00000 is not done\nhint: run it: olmoe data run DIR/out --phase ${phase}\n`;
    expect(await merge()).toBe(notDone("read"));
    expect(await run("--phase", "select")).toBe(notDone("choose"));
    for (const phase of ["pairs", "choose", "encode"]) expect(await run("--phase", phase)).toBe(notDone("read"));
    expect(await run("--phase", "read")).toBe("0 ");
    expect(await run("--phase", "choose")).toBe(notDone("copies"));
    for (const phase of ["pairs", "copies", "cuts", "choose", "select"]) await run("--phase", phase);
    expect(await merge()).toBe(notDone("encode"));
  });

  it.each(["0/2", "3/2", "two"])("has no share %s", async (task) => {
    await plan();
    expect(await run("--task", task)).toBe(
      `2 olmoe: --task: "${task}", expected i/n with i from 1 to n, such as 3/64\nhint: "olmoe data --help" shows the usage\n`,
    );
  });

  it("has no phase of another name", async () => {
    await plan();
    expect(await run("--phase", "reed")).toBe(
      '2 olmoe: --phase: "reed", expected one of read, pairs, copies, cuts, choose, select, encode\nhint: "olmoe data --help" shows the usage\n',
    );
  });

  it("is not run with another tokenizer file, or without it", async () => {
    folder.write("t.json", trainTokenizer(TEXTS, { vocabSize: 270 }).toJson());
    await plan({ tokenizer: { file: "t.json" } });
    folder.write("t.json", trainTokenizer(TEXTS, { vocabSize: 265 }).toJson());
    expect(await run()).toBe(
      `1 olmoe: DIR/t.json: has changed since DIR/out was planned\n${AGAIN.replace("it", "the plan")}`,
    );
    rmSync(folder.at("t.json"));
    expect(await run()).toBe("1 olmoe: DIR/t.json: does not exist\n");
  });

  it("that another one has replaced is not merged", async () => {
    await plan();
    await run();
    const otherPlan = (task: string) =>
      `1 olmoe: DIR/out: ${task}-00000 is of another plan\nhint: run it again: olmoe data run DIR/out\n`;
    await plan({ shardTokens: 100 });
    expect(await merge()).toBe(otherPlan("encode"));
    utimesSync(folder.at("text/3.txt"), 1, 1);
    await plan();
    expect(await merge()).toBe(otherPlan("read"));
    await run();
    expect(await merge()).toMatch(/^0 source /);
  });
});

describe("a recipe", () => {
  it.each([
    [
      { stages: { last: { sources: { s: { weight: 0 } } } } },
      "stages.last.sources: all sources have weight 0, nothing is left to train on",
    ],
    [
      { stages: { last: { sources: { x: { weight: 1 } } } } },
      "stages.last.sources.x: no such source, expected one of s",
    ],
    [{ filters: [{ kind: "pii", sources: ["x"] }] }, 'filters.0.sources: "x", no such source, expected some of s'],
    [
      { filters: [{ kind: "repetition" }] },
      "filters.0: repetition counts tokens, it needs tokenizer.file; train.instanceFilter masks repetitions without it",
    ],
  ])("is refused: %j", async (changes, fault) => {
    expect(await folder.failure(async () => folder.buildOptions(changes))).toBe(
      `E_CONFIG recipe: ${fault} [see docs/data.md for every key]`,
    );
  });

  it("that names files which are not there is refused before anything is read", async () => {
    for (const filter of [
      { kind: "contamination", files: ["none.txt"] },
      { kind: "module", file: "none.txt" },
    ]) {
      expect(await folder.failure(() => folder.build({ filters: [filter] }))).toBe(
        "E_DATA DIR/none.txt: does not exist",
      );
    }
  });
});

describe("token files", () => {
  const SHARD = "out/training/s/00000-00000.npy";
  let good: Buffer;
  beforeEach(async () => {
    await folder.build();
    good = readFileSync(folder.at(SHARD));
  });

  /** Goes through all of the data, as training does. */
  const trainOn = () =>
    folder.failure(async () => {
      const prepared = await openPreparedData(folder.at("out"));
      const { sources, close } = openTrainingSources(
        prepared,
        dataSchema.parse({ sources: [{ name: "s", path: "text" }] }),
      );
      const { eosTokenId } = prepared.tokenizer;
      try {
        new TokenLoader({
          sources,
          sequenceLength: 16,
          batchSize: Math.floor(good.length / 32),
          seed: 1,
          eosTokenId,
        }).next();
      } finally {
        close();
      }
    });

  const withHighId = () => {
    const bytes = Buffer.from(good);
    bytes.writeUInt16LE(60_000, 10);
    return bytes;
  };

  const FAULTS: [what: string, bytes: () => Uint8Array, fault: string, hint: string][] = [
    [
      "of an odd length",
      () => good.subarray(1),
      "1459 bytes, expected a multiple of 2 (uint16)",
      "the file is cut off, or was written with another integer type",
    ],
    [
      "with an id above the vocabulary",
      withHighId,
      "token 5 has id 60000, the vocabulary has 270 (0 to 269)",
      "the file was written with another tokenizer or another integer type",
    ],
  ];

  it.each(FAULTS)(
    "%s are refused when they are listed, and when they are trained on",
    async (_, bytes, fault, hint) => {
      expect(await trainOn()).toBe("no error");
      folder.write(SHARD, bytes());
      expect(await trainOn()).toBe(`E_DATA DIR/${SHARD}: ${fault} [${hint}]`);
      folder.write("tokens/a/x.npy", bytes());
      const index = () => data("index", folder.at("tokens"), "--tokenizer", folder.at("out/tokenizer.json"));
      expect(await index()).toBe(`1 olmoe: DIR/tokens/a/x.npy: ${fault}\nhint: ${hint}\n`);
      expect([...dataIn(folder.at("tokens")).keys()]).toEqual(["a/x.npy"]);
    },
  );

  it("with other bytes than their task has written are found by merge --verify, and made again", async () => {
    const before = dataIn(folder.at("out"));
    folder.write(SHARD, Buffer.from(good).fill(7, 0, 2));
    expect(await merge("--verify")).toMatch(
      /^1 olmoe: DIR\/out\/training\/s\/00000-00000\.npy: SHA-256 [0-9a-f]{64}, its task has written [0-9a-f]{64}\nhint: delete the file, run the task again \(olmoe data run DIR\/out\) and merge\n$/,
    );
    rmSync(folder.at(SHARD));
    expect(await merge()).toBe(
      "1 olmoe: DIR/out: encode-00000 is not done\nhint: run it: olmoe data run DIR/out --phase encode\n",
    );
    expect(await trainOn()).toBe(`E_DATA DIR/${SHARD}: does not exist`);
    await run();
    await merge("--verify");
    expect(dataIn(folder.at("out"))).toEqual(before);
  });

  it("are read inside the folder of their manifest only", async () => {
    const manifest = JSON.parse(readFileSync(folder.at("out/manifest.json"), "utf8"));
    const files = [{ ...manifest.files[0], file: "../x.npy" }];
    folder.write("out/manifest.json", JSON.stringify({ ...manifest, files }));
    expect(await trainOn()).toBe(
      "E_DATA DIR/out/manifest.json: not a manifest of prepared data, files.0.file: must be a .npy file inside the folder [delete the folder it is in, so that the data is prepared again]",
    );
  });

  it("are looked for in a folder that is there", async () => {
    const index = (name: string) => data("index", folder.at(name), "--tokenizer", folder.at("out/tokenizer.json"));
    expect(await index("none")).toBe("1 olmoe: DIR/none: does not exist\n");
    expect(await index("text")).toBe("1 olmoe: DIR/text: no .npy file\nhint: name the folder of the token files\n");
  });
});
