/** A build into a folder that holds another one gives what a build into an empty folder gives. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { trainTokenizer } from "../../src/tokenizer/io.ts";
import { BuildFolder, TEXTS } from "../badInput/dataBuild.ts";
import { dataIn } from "./corpus.ts";

let folder: BuildFolder;
beforeEach(() => {
  folder = new BuildFolder();
  folder.writeTexts();
});
afterEach(() => folder.remove());

/** Builds a recipe, then another over it, and compares that with a build of its own. */
async function expectLikeNew(before: object, after: object, change = () => {}): Promise<void> {
  await folder.build(before);
  change();
  expect((await folder.build(after)).reused).toBe(false);
  await folder.build(after, "new");
  expect(dataIn(folder.at("out"))).toEqual(dataIn(folder.at("new")));
}

describe("a build over another one", () => {
  const tokenizer = (texts: readonly string[]) => trainTokenizer(texts, { vocabSize: 262 }).toJson();
  const repetition = { filters: [{ kind: "repetition" }], tokenizer: { file: "t.json" } };

  it("with another limit of a filter", async () => {
    const filters = (minWords: number) => ({ deduplicate: { exact: false }, filters: [{ kind: "length", minWords }] });
    folder.write("text/short.txt", "A short text that is there.");
    await expectLikeNew(filters(3), filters(8));
  });

  it("with fewer masks", async () => {
    const pii = (maxMasked: number) => ({ deduplicate: { exact: false }, filters: [{ kind: "pii", maxMasked }] });
    folder.write("text/mail.txt", "Write to someone@example.com or to anyone@example.com about it.");
    await expectLikeNew(pii(5), pii(1));
  });

  it("with a tokenizer file of the same name", async () => {
    folder.write("t.json", tokenizer(TEXTS));
    await expectLikeNew(repetition, repetition, () => folder.write("t.json", tokenizer(["zebra ".repeat(40)])));
  });

  it("with other evaluation texts in a file of the same name", async () => {
    const filters = { filters: [{ kind: "contamination", files: ["eval.txt"], ngram: 4 }] };
    folder.write("eval.txt", "something else that is nowhere to be found\n");
    await expectLikeNew(filters, filters, () => folder.write("eval.txt", `${TEXTS[3]}\n`));
  });

  it("with other and fewer files", async () => {
    await expectLikeNew({ shardTokens: 100, taskBytes: 300 }, { shardTokens: 1000 });
  });

  it("with other sources", async () => {
    for (const [index, text] of TEXTS.entries()) folder.write(`other/${index}.txt`, `Other ${text}`);
    const both = ["text", "other"].map((path) => ({ name: path, path }));
    await expectLikeNew({ sources: both }, { sources: both.slice(1) });
  });
});
