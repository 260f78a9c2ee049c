/** `olmoe convert` with targets that can not be, and conversions that do not end. */
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { convertModel } from "../../src/formats/convert.io.ts";
import { saveModel } from "../../src/formats/model.io.ts";
import { Parameters } from "../../src/model/parameters.ts";
import { config, messageOf, wholeModel, writeModel } from "./ggufModel.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(joinPath(tmpdir(), "olmoe-bad-convert-"));
});
afterAll(() => rm(root, { recursive: true }));

describe("olmoe convert", () => {
  it("refuses a full folder, itself as the target, and a name that is no GGUF file's", async () => {
    const folder = joinPath(root, "hf");
    const parameters = new Parameters(createReferenceBackend(), config, { trainable: false });
    await saveModel(folder, parameters);
    await mkdir(joinPath(root, "empty"));
    expect(await messageOf(() => convertModel(folder, folder))).toBe(`${folder}: input and output are the same`);
    await writeModel(joinPath(root, "whole.gguf"), wholeModel());
    expect(await messageOf(() => convertModel(joinPath(root, "whole.gguf"), folder))).toBe(
      `${folder}: the folder is not empty, expected a new one`,
    );
    expect(await messageOf(() => convertModel(folder, joinPath(root, "x.bin"), { to: "gguf" }))).toBe(
      `${joinPath(root, "x.bin")}: the name of a GGUF file, must end in ".gguf"`,
    );
    expect(await messageOf(() => convertModel(folder, joinPath(root, "x"), { to: "olmo", maxShardBytes: 1 }))).toBe(
      "maxShardBytes: OLMo's unsharded checkpoint is one file",
    );
    await convertModel(folder, joinPath(root, "empty"));
  });

  it("leaves nothing behind where it is stopped or a value does not fit", async () => {
    const folder = joinPath(root, "large");
    const parameters = new Parameters(createReferenceBackend(), config, { trainable: false });
    parameters.get("model.embed_tokens.weight").value.data[3] = 70_000;
    await saveModel(folder, parameters);
    await expect(convertModel(folder, joinPath(root, "f16.gguf"), { type: "f16" })).rejects.toThrow(
      `${folder}: model.embed_tokens.weight: element 3 is 70000, not finite as F16`,
    );
    const signal = AbortSignal.abort();
    await expect(convertModel(folder, joinPath(root, "stopped"), { signal })).rejects.toThrow("aborted");
    await expect(convertModel(folder, joinPath(root, "stopped.gguf"), { signal })).rejects.toThrow("aborted");
    expect((await readdir(root)).filter((name) => /f16|stopped|tmp/.test(name))).toEqual([]);
  });
});
