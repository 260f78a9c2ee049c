import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { olmoe, startOlmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const model = join(root, "model");
await writeTinyModel(model);
const timeless = (text: string) => text.replace(/ in [\d.]+ \S+\n$/, " in TIME\n");

describe("olmoe convert", () => {
  it("writes a GGUF file and a folder from it, and says what is in them", async () => {
    const [gguf, back] = [join(root, "model.gguf"), join(root, "back")];
    const first = await olmoe(["convert", model, gguf, "--type", "bf16"]);
    expect({ ...first, stdout: timeless(first.stdout) }).toEqual({
      code: 0,
      stderr: "",
      stdout: `from     ${model}, Hugging Face folder
to       ${gguf}, GGUF
tensors  27: 16 BF16, 11 F32
values   105 kB in TIME
`,
    });
    const second = await olmoe(["convert", gguf, back, "--type", "f32"]);
    expect({ ...second, stdout: timeless(second.stdout) }).toEqual({
      code: 0,
      stderr: "",
      stdout: `from     ${gguf}, GGUF
to       ${back}, Hugging Face folder
tensors  69: 69 F32
values   206 kB in TIME
`,
    });
    expect((await readdir(back)).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
  });

  it("keeps the chat template and the tokens with a role", async () => {
    const folder = join(root, "chat");
    await writeTinyModel(folder);
    const settings = { bos_token: "<|endoftext|>", pad_token: { content: "<|padding|>" }, chat_template: "{{ x }}" };
    await writeFile(join(folder, "tokenizer_config.json"), JSON.stringify(settings));
    await olmoe(["convert", folder, join(root, "chat.gguf")]);
    await olmoe(["convert", join(root, "chat.gguf"), join(root, "chat-back")]);
    expect(JSON.parse(await readFile(join(root, "chat-back", "tokenizer_config.json"), "utf8"))).toEqual({
      tokenizer_class: "PreTrainedTokenizerFast",
      bos_token: "<|endoftext|>",
      eos_token: "<|endoftext|>",
      pad_token: "<|padding|>",
      clean_up_tokenization_spaces: false,
      model_max_length: 64,
      chat_template: "{{ x }}",
    });
  });

  it("gives programs the same facts, and splits where it is asked to", async () => {
    const path = join(root, "split.gguf");
    const { stdout } = await olmoe(["convert", model, path, "--max-shard-bytes", "150000", "--json"]);
    expect(JSON.parse(stdout)).toEqual({
      from: "huggingface",
      to: "gguf",
      paths: [join(root, "split-00001-of-00002.gguf"), join(root, "split-00002-of-00002.gguf")],
      bytes: 51_488 * 4,
      tensors: 27,
      types: { F32: 27 },
    });
  });

  it("fails with advice for wrong usage and models that are not there", async () => {
    expect(await olmoe(["convert", model, "x", "--type", "q4_0"])).toEqual({
      code: 2,
      stdout: "",
      stderr: `olmoe: option '--type <type>' argument 'q4_0' is invalid. Allowed choices are f32, f16, bf16.
hint: "olmoe convert --help" shows the usage
`,
    });
    expect(await olmoe(["convert", join(root, "absent.gguf"), join(root, "x")])).toEqual({
      code: 1,
      stdout: "",
      stderr: `olmoe: ${join(root, "absent.gguf")}: no such file\nhint: check the path\n`,
    });
  });

  it("leaves no target where it is interrupted", async () => {
    const large = join(root, "large");
    await writeTinyModel(large, { hiddenSize: 512, intermediateSize: 512, numExperts: 8 });
    const child = startOlmoe(["convert", large, join(root, "interrupted.gguf")]);
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
