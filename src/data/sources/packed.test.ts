/** Streams packed by the tools themselves: small ones are written here as base64, larger ones are built block by block. */
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { brief, SourceFolder } from "../../../test/sourceFiles.ts";
import { decodeBzip2 } from "./bzip2.ts";
import { decodeZstd } from "./zstd.ts";

let files: SourceFolder;
beforeEach(() => {
  files = new SourceFolder();
});
afterEach(() => files.remove());

const LINES = '{"text":"one"}\n{"text":"two"}\n';
const decoded = (base64: string) => Buffer.from(base64, "base64");
/** LINES by zstd 1.5 with its checksum, and by bzip2 1.0.8. */
const PACKED = {
  gz: gzipSync(LINES),
  zst: decoded("KLUv/SQe3QAAqHsidGV4dCI6Im9uZSJ9CnR3byJ9CgEAUsw6kOLf7g=="),
  bz2: decoded("QlpoOTFBWSZTWWrOF2cAAA1ZgAAQEAAAEAIBhMogADEA000CVNHqbSepBihWNmWLyhWlZDh8XckU4UJBqzhdnA=="),
};
/** The letter x 200,000 times: by zstd and bzip2. */
const LONG = {
  zst: decoded("KLUv/aRADQMAVAAAEHh4AQD7/znAAgNqCHhvcHp6"),
  bz2: decoded("QlpoOTFBWSZTWZbz1pQAAYoEgIAEAEAACCAAMMwFKacYIWwELxdyRThQkJbz1pQ="),
};
const NAMES = { gz: "gzip", zst: "zstd", bz2: "bzip2" } as const;
const endings = ["gz", "zst", "bz2"] as const;

async function unpacked(decode: typeof decodeZstd, bytes: Uint8Array, chunkBytes = bytes.length): Promise<string> {
  const chunks = async function* () {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  };
  const parts: Uint8Array[] = [];
  for await (const part of decode(chunks())) parts.push(part);
  return Buffer.concat(parts).toString();
}

describe.each(endings)("a .%s stream", (ending) => {
  const name = `a.jsonl.${ending}`;
  const failure = () => files.failure(() => files.read({ path: name }));

  it("is read whole where it has several members", async () => {
    files.write(name, Buffer.concat([PACKED[ending], PACKED[ending]]));
    expect(brief(await files.read({ path: name }))).toEqual([
      [`${name}:1`, "one", 1],
      [`${name}:2`, "two", 2],
      [`${name}:3`, "one", 3],
      [`${name}:4`, "two", 4],
    ]);
  });

  it("that is cut off anywhere is one error", async () => {
    for (let length = 1; length < PACKED[ending].length; length++) {
      files.write(name, PACKED[ending].subarray(0, length));
      expect(await failure()).toMatch(
        new RegExp(`^E_DATA DIR/${name}: ${NAMES[ending]} stream (ends early|is damaged)$`),
      );
    }
  });

  it("with a wrong checksum or something behind it is one error", async () => {
    const bytes = Buffer.from(PACKED[ending]);
    const place = bytes.length - (ending === "gz" ? 8 : ending === "zst" ? 1 : 3);
    bytes[place] = (bytes[place] as number) ^ 0x10;
    files.write(name, bytes);
    expect(await failure()).toBe(`E_DATA DIR/${name}: ${NAMES[ending]} stream is damaged`);
    files.write(name, Buffer.concat([PACKED[ending], Buffer.from("something else")]));
    expect(await failure()).toBe(`E_DATA DIR/${name}: ${NAMES[ending]} stream is damaged`);
  });

  it("that is empty or something else is one error", async () => {
    files.write(name, "");
    expect(await failure()).toBe(`E_DATA DIR/${name}: is empty, expected a ${NAMES[ending]} stream`);
    files.write(name, LINES);
    expect(await failure()).toBe(`E_DATA DIR/${name}: ${NAMES[ending]} stream is damaged`);
  });
});

describe.each([
  ["zstd", decodeZstd, PACKED.zst, LONG.zst],
  ["bzip2", decodeBzip2, PACKED.bz2, LONG.bz2],
] as const)("the decoder of %s", (_, decode, short, long) => {
  it("does not care how the bytes arrive", async () => {
    for (const chunkBytes of [1, 2, 7]) expect(await unpacked(decode, short, chunkBytes)).toBe(LINES);
  });

  it("undoes long runs", async () => {
    expect(await unpacked(decode, long)).toBe("x".repeat(200_000));
  });
});

describe("zstd", () => {
  const frame = (...bytes: number[]) => Buffer.from([0x28, 0xb5, 0x2f, 0xfd, ...bytes]);
  const failed = (bytes: Buffer) => unpacked(decodeZstd, bytes).catch((error: Error) => [error.message, error.cause]);

  it("passes over frames of other programs", async () => {
    const skippable = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    expect(await unpacked(decodeZstd, Buffer.concat([skippable, PACKED.zst, skippable]))).toBe(LINES);
  });

  it("refuses a window above 128 MiB, a dictionary and an unknown block", async () => {
    expect(await failed(frame(0, 0x90, 1, 0, 0))).toEqual(["zstd stream is damaged", "window of 268435456 bytes"]);
    expect(await failed(frame(1, 0x50, 7, 1, 0, 0))).toEqual(["zstd stream is damaged", "needs a dictionary"]);
    expect(await failed(frame(0, 0x50, 7, 0, 0))).toEqual(["zstd stream is damaged", undefined]);
  });
});
