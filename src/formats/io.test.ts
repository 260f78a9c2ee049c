import { execFileSync } from "node:child_process";
import { mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { CheckpointError, ResourceError, ShapeError } from "../errors.ts";
import { SafetensorsFile, type TensorToWrite, writeSafetensors } from "./io.ts";
import { layOut } from "./safetensors.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "olmoe-formats-"));
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

const at = (name: string) => join(folder, name);
const floats = (...values: number[]) => Float32Array.from(values);

async function withFile<T>(path: string, use: (file: SafetensorsFile) => Promise<T>): Promise<T> {
  const file = await SafetensorsFile.open(path);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

async function readAll(path: string, name: string): Promise<Float32Array> {
  return withFile(path, async (file) => {
    const target = new Float32Array(file.tensors.get(name)!.shape.reduce((product, size) => product * size, 1));
    await file.readInto(name, target);
    return target;
  });
}

describe("writeSafetensors and SafetensorsFile", () => {
  it("give back every type, shape and metadata", async () => {
    const tensors: TensorToWrite[] = [
      { name: "f32", dtype: "F32", shape: [2, 2], data: floats(1, -2, 3.5, 1e-40) },
      { name: "f16", dtype: "F16", shape: [3], data: floats(1, 65504, 2 ** -24) },
      { name: "bf16", dtype: "BF16", shape: [], data: floats(-1.5) },
      { name: "i32", dtype: "I32", shape: [2], data: Int32Array.of(-1, 2 ** 31 - 1) },
      { name: "f64", dtype: "F64", shape: [2], data: Float64Array.of(Math.PI, 1e300) },
      { name: "none", dtype: "F32", shape: [0, 5], data: floats() },
    ];
    await writeSafetensors(at("all.safetensors"), tensors, { metadata: { step: "12" } });
    await withFile(at("all.safetensors"), async (file) => {
      expect([...file.tensors.keys()]).toEqual(["f64", "f32", "none", "i32", "bf16", "f16"]);
      expect(file.metadata).toEqual(new Map([["step", "12"]]));
      expect(await file.readI32("i32")).toEqual(Int32Array.of(-1, 2 ** 31 - 1));
      expect(await file.readF64("f64")).toEqual(Float64Array.of(Math.PI, 1e300));
    });
    for (const { name, data } of tensors.filter(({ dtype }) => dtype !== "I32" && dtype !== "F64")) {
      expect(await readAll(at("all.safetensors"), name)).toEqual(data);
    }
  });

  it("convert tensors larger than one piece, and read from any element on", async () => {
    const data = Float32Array.from({ length: 3_000_001 }, (_, index) => index % 251);
    await writeSafetensors(at("large.safetensors"), [{ name: "x", dtype: "F16", shape: [data.length], data }]);
    expect(await readAll(at("large.safetensors"), "x")).toBeAllClose(data, { atol: 0 });
    const part = new Float32Array(1000);
    await withFile(at("large.safetensors"), (file) => file.readInto("x", part, { start: 2_500_000 }));
    expect(part).toEqual(data.subarray(2_500_000, 2_501_000));
  });

  it("round trip any f32 bits", async () => {
    const bits = fc.uint32Array({ maxLength: 50 });
    await fc.assert(
      fc.asyncProperty(bits, async (pattern) => {
        const data = new Float32Array(pattern.buffer, pattern.byteOffset, pattern.length);
        await writeSafetensors(at("bits.safetensors"), [{ name: "x", dtype: "F32", shape: [data.length], data }]);
        const back = await readAll(at("bits.safetensors"), "x");
        expect(new Uint32Array(back.buffer)).toEqual(new Uint32Array(pattern));
      }),
      { seed: 1, numRuns: 50 },
    );
  });

  it("read 64-bit integers within the range of 32", async () => {
    const { prefix } = layOut([{ name: "ids", dtype: "I64", shape: [2] }]);
    const file = (values: bigint[]) => Buffer.concat([prefix, new Uint8Array(BigInt64Array.from(values).buffer)]);
    await writeFile(at("ids.safetensors"), file([-5n, 7n]));
    expect(await withFile(at("ids.safetensors"), (ids) => ids.readI32("ids"))).toEqual(Int32Array.of(-5, 7));
    await writeFile(at("ids.safetensors"), file([-5n, 2n ** 31n]));
    await expect(withFile(at("ids.safetensors"), (ids) => ids.readI32("ids"))).rejects.toThrow(
      new CheckpointError(
        `${at("ids.safetensors")}: tensor "ids": element 1 is 2147483648, outside the range of an i32`,
      ),
    );
  });

  it("read data when its turn comes", async () => {
    const turns: string[] = [];
    const tensor = (name: string) => ({
      name,
      dtype: "F32" as const,
      shape: [1],
      get data() {
        turns.push(name);
        return floats(1);
      },
    });
    await writeSafetensors(at("turns.safetensors"), [tensor("b"), tensor("a")]);
    expect(turns).toEqual(["a", "b"]);
  });

  it("stop on an aborted signal and leave no file", async () => {
    const signal = AbortSignal.abort();
    const tensors: TensorToWrite[] = [{ name: "x", dtype: "F32", shape: [1], data: floats(1) }];
    await expect(writeSafetensors(at("aborted.safetensors"), tensors, { signal })).rejects.toThrow("aborted");
    expect((await readdir(folder)).filter((name) => name.startsWith("aborted"))).toEqual([]);
    await writeSafetensors(at("whole.safetensors"), tensors);
    await expect(
      withFile(at("whole.safetensors"), (file) => file.readInto("x", floats(0), { signal })),
    ).rejects.toThrow("aborted");
  });
});

describe("reading", () => {
  it("reports a file that becomes shorter after it was opened", async () => {
    const path = at("shrinks.safetensors");
    await writeSafetensors(path, [{ name: "x", dtype: "F32", shape: [4], data: floats(1, 2, 3, 4) }]);
    const size = (await readFile(path)).length;
    await withFile(path, async (file) => {
      await truncate(path, size - 6);
      await expect(file.readInto("x", new Float32Array(4))).rejects.toThrow(
        new CheckpointError(
          `${path}: the file ends at byte ${size - 6}, expected ${size}: it became shorter while it was read`,
          { hint: "another program writes to this file; try again when it is done" },
        ),
      );
    });
  });

  it("refuses a missing tensor, another type and a target that does not fit", async () => {
    const path = at("fit.safetensors");
    await writeSafetensors(path, [{ name: "x", dtype: "F32", shape: [4], data: floats(1, 2, 3, 4) }]);
    await withFile(path, async (file) => {
      await expect(file.readInto("y", floats(0))).rejects.toThrow(new CheckpointError(`${path}: no tensor "y"`));
      await expect(file.readI32("x")).rejects.toThrow(
        new CheckpointError(`${path}: tensor "x" has type F32, expected I32 or I64`),
      );
      const misfit = new ShapeError(`${path}: tensor "x" has 4 elements, the target takes 3 from element 2`);
      await expect(file.readInto("x", new Float32Array(3), { start: 2 })).rejects.toThrow(misfit);
      await expect(file.readInto("x", new Float32Array(3))).rejects.toThrow(ShapeError);
      await expect(file.readInto("x", new Float32Array(1), { start: -1 })).rejects.toThrow(ShapeError);
    });
  });

  it("refuses a missing file, a folder, and a pipe without waiting for its writer", async () => {
    await expect(SafetensorsFile.open(at("absent"))).rejects.toThrow(
      new CheckpointError(`${at("absent")}: no such file`),
    );
    await expect(SafetensorsFile.open(folder)).rejects.toThrow(
      new CheckpointError(`${folder}: a folder, expected a file`),
    );
    if (process.platform === "win32") return;
    execFileSync("mkfifo", [at("pipe")]);
    await expect(SafetensorsFile.open(at("pipe"))).rejects.toThrow(
      new CheckpointError(`${at("pipe")}: a device or pipe, expected a file`),
    );
  });
});

describe("a failed write", () => {
  const tensors: TensorToWrite[] = [{ name: "x", dtype: "F32", shape: [2], data: floats(1, 2) }];

  /** Makes one method of all file handles fail as the system would. */
  async function failing(method: "write" | "sync", code: string): Promise<void> {
    const file = await open(at("prototype"), "w");
    await file.close();
    const error = Object.assign(new Error(`${code}: it failed`), { code, syscall: method });
    vi.spyOn(Object.getPrototypeOf(file), method).mockRejectedValue(error);
  }

  it.each([
    ["ENOSPC", "no space left on the device", "free some space or choose another folder"],
    ["EDQUOT", "the disk quota is used up", "free some space or choose another folder"],
    ["EACCES", "permission denied", "check who owns the file and its folder (ls -ld)"],
    ["EROFS", "the file system is read-only", "choose another folder"],
    ["EUNKNOWN", "EUNKNOWN: it failed", "check the path and the disk"],
  ])("with %s says what to do and keeps the old file whole", async (code, fault, hint) => {
    const path = at(`${code}.safetensors`);
    await writeSafetensors(path, tensors);
    const before = await readFile(path);
    for (const method of ["write", "sync"] as const) {
      await failing(method, code);
      await expect(writeSafetensors(path, [])).rejects.toThrow(
        new ResourceError(`write ${path}: ${fault}`, { hint, cause: expect.anything() }),
      );
      vi.restoreAllMocks();
    }
    expect(await readFile(path)).toEqual(before);
    expect((await readdir(folder)).filter((name) => name.startsWith(code))).toEqual([`${code}.safetensors`]);
  });

  it("onto a folder or into a missing one is an error, and leaves nothing", async () => {
    await expect(writeSafetensors(folder, tensors)).rejects.toThrow(
      new ResourceError(`write ${folder}: it is a folder, expected a file`, {
        hint: "remove the folder or choose another name",
        cause: expect.anything(),
      }),
    );
    await expect(writeSafetensors(at("absent/x.safetensors"), tensors)).rejects.toThrow(
      new ResourceError(`write ${at("absent/x.safetensors")}: no such file or folder`, {
        hint: "check the path",
        cause: expect.anything(),
      }),
    );
    expect((await readdir(tmpdir())).filter((name) => name.startsWith(`${basename(folder)}.`))).toEqual([]);
  });

  it("for values that do not fit their shape names the tensor", async () => {
    await expect(
      writeSafetensors(at("misfit.safetensors"), [{ name: "x", dtype: "F32", shape: [3], data: floats(1, 2) }]),
    ).rejects.toThrow(new ShapeError(`${at("misfit.safetensors")}: tensor "x" has 2 values, expected [3]`));
  });
});
