import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { temporaryFolder, writeTinyModel } from "../../test/cli/harness.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { CheckpointError } from "../errors.ts";
import { openStored } from "./stored.io.ts";
import { openStoredFiles } from "./storedFiles.ts";

const NAMES = ["config.json", "model.safetensors", "tokenizer.json"];
const folder = await temporaryFolder();
const files = new Map<string, Uint8Array>();
const backend = createReferenceBackend();

beforeAll(async () => {
  await writeTinyModel(folder);
  for (const name of NAMES) files.set(name, new Uint8Array(await readFile(join(folder, name))));
});

const changed = (name: string, bytes: Uint8Array | undefined) => {
  const others = new Map(files);
  if (bytes === undefined) others.delete(name);
  else others.set(name, bytes);
  return openStoredFiles(others, backend);
};
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

describe("a model of files in memory", () => {
  it("is what the folder of these files is", async () => {
    const [memory, disk] = [await openStoredFiles(files, backend), await openStored(folder, backend)];
    expect(memory.config).toEqual(disk.config);
    expect(memory.text).toEqual(disk.text);
    expect(memory.types).toEqual(disk.types);
    memory.dispose();
    disk.dispose();
  });

  it("takes its chat template from tokenizer_config.json, or from a file of its own", async () => {
    const config = json({ chat_template: "one", bos_token: { content: "<|endoftext|>" } });
    const first = await changed("tokenizer_config.json", config);
    expect(first.text).toMatchObject({ chatTemplate: "one", roles: { bos: 0 } });
    const template = new TextEncoder().encode("two");
    const both = new Map([...files, ["tokenizer_config.json", config], ["chat_template.jinja", template]]);
    expect((await openStoredFiles(both, backend)).chatTemplate).toBe("two");
  });

  it("has no text side without a tokenizer", async () => {
    expect((await changed("tokenizer.json", undefined)).text).toBeUndefined();
  });

  it("says what is missing, damaged or of another model", async () => {
    const hint = "give a .gguf file, or config.json, model.safetensors and tokenizer.json together";
    await expect(changed("config.json", undefined)).rejects.toThrow(
      new CheckpointError("model files: no config.json among them (model.safetensors, tokenizer.json)", { hint }),
    );
    await expect(changed("model.safetensors", undefined)).rejects.toThrow(
      new CheckpointError("model files: no model.safetensors among them (config.json, tokenizer.json)", { hint }),
    );
    await expect(changed("config.json", new Uint8Array([0xff]))).rejects.toThrow(CheckpointError);
    await expect(changed("tokenizer_config.json", json([]))).rejects.toThrow(
      new CheckpointError("tokenizer_config.json: expected an object"),
    );
    const weights = files.get("model.safetensors") as Uint8Array;
    await expect(changed("model.safetensors", weights.subarray(0, 1000))).rejects.toThrow(CheckpointError);
    const config = JSON.parse(new TextDecoder().decode(files.get("config.json")));
    await expect(changed("config.json", json({ ...config, num_hidden_layers: 1 }))).rejects.toThrow(
      /^model files: \d+ tensors not wanted \(model\.layers\.1\./,
    );
  });
});
