import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { trainTokenizer } from "../../src/tokenizer/io.ts";
import { olmoe, TEXT, temporaryFolder } from "./harness.ts";

const folder = await temporaryFolder();
const [text, lines, out] = ["text.txt", "lines.jsonl", "made/tokenizer.json"].map((name) => join(folder, name)) as [
  string,
  string,
  string,
];
await writeFile(text, TEXT);
await writeFile(lines, `${JSON.stringify({ text: "the bat" })}\n\n${JSON.stringify({ text: "the \u00fc" })}\n`);

describe("olmoe tokenizer", () => {
  it("trains on text and JSONL files", async () => {
    const argv = ["tokenizer", "train", text, lines, "--vocab-size", "280", "--out", out];
    expect(await olmoe(argv)).toEqual({
      code: 0,
      stdout: `wrote ${out}: 280 entries from 418 B of text\n`,
      stderr: "",
    });
    const expected = trainTokenizer([TEXT, "the bat", "the \u00fc"], { vocabSize: 280 });
    expect(await readFile(out, "utf8")).toBe(expected.toJson());
  });

  it("encodes an argument or standard input, and decodes the ids", async () => {
    const encoded = await olmoe(["tokenizer", "encode", out, "the cat \u00e9"]);
    expect(encoded).toMatchObject({ code: 0, stderr: '"t" "he" " cat" " " "<0xC3>" "<0xA9>"\n' });
    expect(await olmoe(["tokenizer", "encode", out], "the cat \u00e9")).toEqual(encoded);
    const ids = encoded.stdout.trim().split(" ");
    expect(await olmoe(["tokenizer", "decode", out, ...ids])).toEqual({
      code: 0,
      stdout: "the cat \u00e9\n",
      stderr: "",
    });
    const { stdout } = await olmoe(["tokenizer", "encode", join(folder, "made"), "the cat", "--json"]);
    expect(JSON.parse(stdout)).toEqual({ ids: ids.slice(0, 3).map(Number), tokens: ["t", "he", " cat"] });
  });

  it("names what is wrong", async () => {
    const train = (file: string, size: string) =>
      olmoe(["tokenizer", "train", file, "--vocab-size", size, "--out", out]);
    const failed = async (outcome: Promise<unknown>, code: number, stderr: string) =>
      expect(await outcome).toEqual({ code, stdout: "", stderr });
    const usage = 'hint: "olmoe tokenizer --help" shows the usage\n';
    await failed(train(text, "257"), 2, `olmoe: --vocab-size: "257", expected a whole number from 258 on\n${usage}`);
    await failed(train(join(folder, "no.txt"), "300"), 1, `olmoe: ${join(folder, "no.txt")}: does not exist\n`);
    await writeFile(join(folder, "bad.jsonl"), '{"text": "a"}\n{"txt": "b"}\n');
    const bad = join(folder, "bad.jsonl");
    await failed(train(bad, "300"), 1, `olmoe: ${bad}:2: no text in field "text"\n`);
    await failed(
      olmoe(["tokenizer", "decode", out, "280"]),
      2,
      `olmoe: tokenizer decode: id 280, the tokenizer has ids 0..279\n${usage}`,
    );
    await failed(
      olmoe(["tokenizer", "encode", out]),
      2,
      "olmoe: tokenizer encode: no text\nhint: give it as an argument or on standard input\n",
    );
  });
});
