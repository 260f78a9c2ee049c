import { mkdtemp, open, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { CheckpointError, ConfigError, ResourceError, ShapeError } from "../errors.ts";
import { GgufFile, type GgufTensorToWrite, writeGguf } from "./gguf.io.ts";
import type { GgufValue } from "./gguf.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "olmoe-gguf-"));
});
afterAll(() => rm(root, { recursive: true }));

const metadata = new Map<string, GgufValue>([["general.name", { type: "STRING", value: "x" }]]);
const tensor = (name: string, ...bytes: number[]): GgufTensorToWrite => ({
  name,
  type: "F16",
  shape: [bytes.length / 2],
  data: () => [Uint8Array.from(bytes.slice(0, 1)), Uint8Array.from(bytes.slice(1))],
});
const tensors = [tensor("a", 1, 2, 3, 4), tensor("b", 5, 6), tensor("c", 7, 8)];

async function everything(path: string): Promise<unknown> {
  const file = await GgufFile.open(path);
  const values: Record<string, number[]> = {};
  for (const [name, { byteLength }] of file.tensors) {
    const bytes = new Uint8Array(byteLength);
    await file.read(name, bytes);
    values[name] = Array.from(bytes);
  }
  await file.close();
  return { files: file.paths.length, name: file.metadata.get("general.name")?.value, values };
}

describe("a GGUF file on disk", () => {
  it("is read as it was written, in one file or several, with progress", async () => {
    const values = { a: [1, 2, 3, 4], b: [5, 6], c: [7, 8] };
    const progress: [number, number][] = [];
    await writeGguf(join(root, "one.gguf"), metadata, tensors, {
      onProgress: ({ bytes, totalBytes }) => progress.push([bytes, totalBytes]),
    });
    expect(await everything(join(root, "one.gguf"))).toEqual({ files: 1, name: "x", values });
    expect([progress[0], progress.at(-1)]).toEqual([
      [1, 8],
      [8, 8],
    ]);
    const paths = await writeGguf(join(root, "two.gguf"), metadata, tensors, { maxShardBytes: 4 });
    expect(paths).toEqual(["two-00001-of-00002.gguf", "two-00002-of-00002.gguf"].map((name) => join(root, name)));
    for (const path of paths) expect(await everything(path)).toEqual({ files: 2, name: "x", values });
  });

  it("is read in parts, and never beyond a tensor", async () => {
    const path = join(root, "parts.gguf");
    await writeGguf(path, metadata, tensors);
    const file = await GgufFile.open(path);
    const part = new Uint8Array(2);
    await file.read("a", part, 1);
    expect(Array.from(part)).toEqual([2, 3]);
    await expect(file.read("a", part, 3)).rejects.toThrow(
      new ShapeError(`${path}: tensor "a" has 4 bytes, the target takes 2 from 3 on`),
    );
    await expect(file.read("z", part)).rejects.toThrow(new CheckpointError(`${path}: no tensor "z"`));
    await file.close();
  });

  it("is not written for a tensor that gives more or fewer bytes than it has, or a shard size of 0", async () => {
    const path = join(root, "wrong.gguf");
    const wrong = (bytes: number) => [{ ...tensor("a", 1, 2), data: () => [new Uint8Array(bytes)] }];
    await expect(writeGguf(path, metadata, wrong(1))).rejects.toThrow(
      new ShapeError(`${path}: tensor "a" gave 1 bytes, expected 2`),
    );
    await expect(writeGguf(path, metadata, wrong(3))).rejects.toThrow(
      new ShapeError(`${path}: tensor "a" gave more than 2 bytes, expected 2`),
    );
    await expect(writeGguf(path, metadata, tensors, { maxShardBytes: 0 })).rejects.toThrow(
      new ConfigError("maxShardBytes: 0, must be at least 1"),
    );
    expect((await readdir(root)).filter((name) => name.startsWith("wrong"))).toEqual([]);
  });

  it.each(["write", "sync"] as const)("stays what it was where the disk fills on %s, split or not", async (method) => {
    const path = join(root, `${method}.gguf`);
    await writeGguf(path, metadata, tensors);
    const [first] = await writeGguf(path, metadata, tensors, { maxShardBytes: 4 });
    const before = await readFile(path);
    const prototype = await open(path);
    await prototype.close();
    for (const maxShardBytes of [undefined, 4]) {
      const error = Object.assign(new Error("ENOSPC: no space"), { code: "ENOSPC", syscall: method });
      vi.spyOn(Object.getPrototypeOf(prototype), method).mockRejectedValue(error);
      await expect(writeGguf(path, metadata, [tensor("new", 1, 2)], { maxShardBytes })).rejects.toThrow(
        new ResourceError(`write ${path}: no space left on the device`, {
          hint: "free some space or choose another folder",
          cause: expect.anything(),
        }),
      );
      vi.restoreAllMocks();
    }
    expect((await readFile(path)).equals(before)).toBe(true);
    expect(await everything(first as string)).toMatchObject({ files: 2 });
    expect((await readdir(root)).filter((name) => name.includes("tmp"))).toEqual([]);
  });
});
