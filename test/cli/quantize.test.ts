import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openBackend } from "../../src/backend/io.ts";
import { GgufFile } from "../../src/formats/gguf.io.ts";
import { olmoe, startOlmoe, TEXT, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const model = join(root, "model");
await writeTinyModel(model);
// Kernels that have to be compiled first would take the time of a test.
(await openBackend()).close();
const out = join(root, "model.gguf");
const timeless = (text: string) => text.replace(/ in [\d.]+ \S+\n$/, " in TIME\n");
const quantize = (...argv: string[]) => olmoe(["quantize", ...argv, "--backend", "reference"]);

/** Types and bytes of all tensors of a file. */
async function storedTensors(path: string): Promise<Record<string, string>> {
  const file = await GgufFile.open(path);
  const tensors: Record<string, string> = {};
  for (const [name, { type, byteLength }] of file.tensors) {
    const bytes = Buffer.alloc(byteLength);
    await file.read(name, bytes);
    tensors[name] = `${type} ${bytes.toString("base64")}`;
  }
  await file.close();
  return tensors;
}

describe("olmoe quantize", () => {
  it("shows what became of each tensor and of all", async () => {
    const { code, stdout, stderr } = await quantize(model, out, "--type", "q8_0");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = timeless(stdout).split("\n");
    expect(lines.slice(0, 5)).toEqual([
      "tensor                      type            size     error   largest",
      "output.weight               F32 to Q8_0  9.52 kB   0.517 %   0.00346",
      "output_norm.weight          F32            128 B     exact         0",
      "token_embd.weight           F32 to Q8_0  9.52 kB   0.511 %   0.00352",
      "blk.0.attn_k.weight         F32 to Q8_0  1.09 kB   0.497 %   0.00322",
    ]);
    expect(lines.slice(28)).toEqual([
      "27 tensors                               64.7 kB   0.473 %   0.00355",
      "",
      "206 kB before, 10.06 bits a weight now",
      `wrote ${out} in TIME`,
      "",
    ]);
  });

  it("is undone by olmoe convert, as far as that goes: the same values, and quantised again the same file", async () => {
    const [folder, again] = [join(root, "decoded"), join(root, "again.gguf")];
    await quantize(model, out, "--type", "q8_0");
    const { stderr } = await olmoe(["convert", out, folder]);
    expect(stderr).toBe(
      `notice: ${out}: quantised weights (Q8_0) are decoded to f32; what quantising lost is not restored\n`,
    );
    const { stdout } = await quantize(folder, again, "--type", "q8_0");
    expect(stdout).toContain(`\nwrote ${again} in `);
    expect(await storedTensors(again)).toEqual(await storedTensors(out));
  });

  it("measures the perplexity of a text before and after", async () => {
    const file = join(root, "text.txt");
    await writeFile(file, TEXT);
    const { code, stdout, stderr } = await quantize(model, out, "--type", "q8_0", "--perplexity", file);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const measured = async (path: string) => {
      const { stdout } = await olmoe(["perplexity", path, file, "--json", "--backend", "reference"]);
      return JSON.parse(stdout);
    };
    const [before, after] = [await measured(model), await measured(out)];
    expect(before.perToken).not.toBe(after.perToken);
    expect(stdout.split("\n").slice(30, 33)).toEqual([
      "206 kB before, 10.06 bits a weight now",
      `perplexity per token  ${before.perToken.toFixed(4)} before, ${after.perToken.toFixed(4)} now`,
      `bits per byte         ${before.bitsPerByte.toFixed(4)} before, ${after.bitsPerByte.toFixed(4)} now`,
    ]);
    const json = await quantize(model, out, "--type", "q8_0", "--perplexity", file, "--json");
    const { bitsPerByte } = JSON.parse(json.stdout).perplexity.after;
    expect(bitsPerByte).toBe(after.bitsPerByte);
  });

  it("gives programs the same facts", async () => {
    const { stdout } = await quantize(model, out, "--type", "q4_0", "--json");
    const facts = JSON.parse(stdout);
    expect(Object.keys(facts)).toEqual([
      "path",
      "tensors",
      "inputBytes",
      "bytes",
      "bitsPerWeight",
      "relativeError",
      "worst",
    ]);
    expect(facts.tensors).toHaveLength(27);
    expect(Object.keys(facts.tensors[0])).toEqual(["name", "shape", "from", "type", "bytes", "relativeError", "worst"]);
  });

  it.each([
    [
      "no type",
      [model, out],
      2,
      "required option '--type <type>' not specified",
      '"olmoe quantize --help" shows the usage',
    ],
    [
      "an unknown type",
      [model, out, "--type", "q7_k"],
      2,
      "option '--type <type>' argument 'q7_k' is invalid. Allowed choices are q2_k, q3_k_s, q3_k_m, q3_k_l, q4_0, q4_1, " +
        "q4_k_s, q4_k_m, q5_0, q5_1, q5_k_s, q5_k_m, q6_k, q8_0, f16, bf16.",
      '"olmoe quantize --help" shows the usage',
    ],
    [
      "one path",
      [model, "--type", "q8_0"],
      2,
      "missing required argument 'out'",
      '"olmoe quantize --help" shows the usage',
    ],
    [
      "a model that is not there",
      [join(root, "absent.gguf"), out, "--type", "q8_0"],
      1,
      `${join(root, "absent.gguf")}: no such file`,
      "check the path",
    ],
    [
      "a text that is not there",
      [model, out, "--type", "q8_0", "--perplexity", join(root, "absent.txt")],
      1,
      `${join(root, "absent.txt")}: does not exist`,
      undefined,
    ],
    [
      "a folder as target",
      [model, root, "--type", "q8_0"],
      1,
      `${root}: the name of a GGUF file, must end in ".gguf"`,
      undefined,
    ],
    [
      "a target in a folder that is not there",
      [model, join(root, "absent", "x.gguf"), "--type", "q8_0"],
      1,
      `write ${join(root, "absent", "x.gguf")}: no such file or folder`,
      "check the path",
    ],
  ])("refuses %s", async (_, argv, code, message, hint) => {
    expect(await quantize(...argv)).toEqual({
      code,
      stdout: "",
      stderr: `olmoe: ${message}\n${hint === undefined ? "" : `hint: ${hint}\n`}`,
    });
  });

  it("leaves no target where it is interrupted", async () => {
    const large = join(root, "large");
    await writeTinyModel(large, { hiddenSize: 512, intermediateSize: 512, numExperts: 16 });
    const child = startOlmoe([
      "quantize",
      large,
      join(root, "interrupted.gguf"),
      "--type",
      "q4_k_m",
      "--backend",
      "reference",
    ]);
    await new Promise<void>((resolve) => {
      const poll = setInterval(async () => {
        if (!(await readdir(root)).some((name) => name.startsWith("interrupted.gguf"))) return;
        clearInterval(poll);
        child.kill("SIGINT");
        resolve();
      }, 5);
    });
    const code = await new Promise((resolve) => child.on("exit", resolve));
    expect(code).toBe(130);
    expect((await readdir(root)).filter((name) => name.startsWith("interrupted"))).toEqual([]);
  });
});
