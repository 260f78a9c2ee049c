/** Headers of GGUF files that can not be: one clear error each, whether parsed from bytes or from a file. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GgufFile } from "../../src/formats/gguf.io.ts";
import { parseGguf } from "../../src/formats/gguf.ts";
import { array, entry, type FileParts, ggufFile, join, TYPES, tensor, text, u8, u32, u64 } from "./ggufBytes.ts";
import { messageOf } from "./ggufModel.ts";

const F32 = 0;
const Q4_0 = 2;
const Q4_K = 12;
const name = (content: string) => entry(content, TYPES.u8, u8(1));
/** A file of one tensor "x" of 8 values. */
const one = (row: Uint8Array, values = 32) => ({ tensors: [row], values });
const nested = (depth: number): Uint8Array[] =>
  depth === 0 ? [u32(TYPES.u8), u64(0)] : [u32(TYPES.array), u64(1), ...nested(depth - 1)];

const headers: [what: string, file: FileParts | Uint8Array, message: string][] = [
  ["an empty file", new Uint8Array(0), "m: magic number: ends at byte 4, the file has 0"],
  ["three bytes", new Uint8Array(3), "m: magic number: ends at byte 4, the file has 3"],
  [
    "another format",
    new TextEncoder().encode("PK\x03\x04 and so on"),
    "m: magic number: 0x04034b50, expected 0x46554747: not a GGUF file",
  ],
  ["a magic number alone", new TextEncoder().encode("GGUF"), "m: version: ends at byte 8, the file has 4"],
  ["version 1", { version: 1 }, "m: version: 1, expected 2 or 3"],
  ["version 4", { version: 4 }, "m: version: 4, expected 2 or 3"],
  [
    "the other byte order",
    { version: 0x03000000 },
    "m: version: stored with its bytes the other way round (big-endian), which is not read",
  ],
  ["no counts", ggufFile({}).subarray(0, 12), "m: number of tensors: ends at byte 16, the file has 12"],
  [
    "2^64 - 1 tensors",
    { tensorCount: 2n ** 64n - 1n },
    "m: number of tensors: 18446744073709551615 tensors, the file has 8 bytes after their number",
  ],
  [
    "a tensor and no table",
    { tensorCount: 1 },
    "m: number of tensors: 1 tensors, the file has 8 bytes after their number",
  ],
  [
    "2^63 keys",
    { keyCount: 2n ** 63n },
    "m: number of metadata keys: 9223372036854775808 keys, the file has 0 bytes after their number",
  ],
  [
    "100,000 keys, of zeros",
    { keyCount: 100_000, values: 2_000_000 },
    "m: number of metadata keys: 100000 keys, at most 65536 are allowed",
  ],
  [
    "100,000 tensors, of zeros",
    { tensorCount: 100_000, values: 3_000_000 },
    "m: number of tensors: 100000 tensors, at most 65536 are allowed",
  ],
  ["a key without a name", { metadata: [name("")], values: 32 }, "m: metadata key 0: an empty name"],
  [
    "a key longer than the file",
    { metadata: [join(text("abcdef", 100))] },
    "m: metadata key 0: 100 bytes of text, the file has 6 bytes after their number",
  ],
  [
    "a key of 2^64 - 1 bytes",
    { metadata: [join(text("abcdef", 2n ** 64n - 1n))] },
    "m: metadata key 0: 18446744073709551615 bytes of text, the file has 6 bytes after their number",
  ],
  [
    "a key of 70,000 bytes",
    { metadata: [name("k".repeat(70_000))] },
    "m: metadata key 0: 70000 bytes of text, at most 65535 are allowed",
  ],
  [
    "a key that is not UTF-8",
    { metadata: [entry(Uint8Array.of(0xc3, 0x28), TYPES.u8, u8(1))] },
    "m: metadata key 0: not valid UTF-8",
  ],
  ["the same key twice", { metadata: [name("a"), name("a")] }, 'm: metadata "a": the key is used twice'],
  ["an unknown type", { metadata: [entry("a", 13, u64(0))] }, 'm: metadata "a": type 13, expected 0 to 12'],
  [
    "a value behind the end",
    { metadata: [entry("a", TYPES.u64, u32(1))] },
    'm: metadata "a": ends at byte 45, the file has 41',
  ],
  [
    "a boolean of 2",
    { metadata: [entry("a", TYPES.bool, u8(2), u64(0))] },
    'm: metadata "a": a boolean of 2, expected 0 or 1',
  ],
  [
    "text longer than the file",
    { metadata: [entry("a", TYPES.text, text("hello", 6))] },
    'm: metadata "a": 6 bytes of text, the file has 5 bytes after their number',
  ],
  [
    "text that is not UTF-8",
    { metadata: [entry("a", TYPES.text, text(Uint8Array.of(0xff, 0xfe)))] },
    'm: metadata "a": not valid UTF-8',
  ],
  [
    "an array of an unknown type",
    { metadata: [array("a", 99, 1, u64(0))] },
    'm: metadata "a": type 99, expected 0 to 12',
  ],
  [
    "an array longer than the file",
    { metadata: [array("a", TYPES.u32, 3, u32(1), u32(2))] },
    'm: metadata "a": 3 elements, the file has 8 bytes after their number',
  ],
  [
    "an array of 2^62 numbers",
    { metadata: [array("a", TYPES.u64, 2n ** 62n, u64(1))] },
    'm: metadata "a": 4611686018427387904 elements, the file has 8 bytes after their number',
  ],
  [
    "an array of 2^60 texts",
    { metadata: [array("a", TYPES.text, 2n ** 60n, text("x"))] },
    'm: metadata "a": 1152921504606846976 texts, the file has 9 bytes after their number',
  ],
  [
    "a text in an array that is longer than the file",
    { metadata: [array("a", TYPES.text, 2, text("x"), text("y", 2n ** 40n))] },
    'm: metadata "a": ends at byte 1099511627842, the file has 67',
  ],
  [
    "a text in an array that is not UTF-8",
    { metadata: [array("a", TYPES.text, 2, text("x"), text(Uint8Array.of(0x80)))] },
    'm: metadata "a"[1]: not valid UTF-8',
  ],
  [
    "a character that is cut between two texts",
    { metadata: [array("a", TYPES.text, 2, text(Uint8Array.of(0xc3)), text(Uint8Array.of(0xa9)))] },
    'm: metadata "a"[0]: not valid UTF-8',
  ],
  [
    "an array of booleans with a 7",
    { metadata: [array("a", TYPES.bool, 2, u8(1), u8(7))] },
    'm: metadata "a": a boolean of 7, expected 0 or 1',
  ],
  [
    "arrays five deep",
    { metadata: [entry("a", TYPES.array, ...nested(4))] },
    'm: metadata "a"[0][0][0]: arrays nested more than 4 deep',
  ],
  [
    "100,000 arrays in an array",
    { metadata: [array("a", TYPES.array, 100_000)], values: 1_300_000 },
    'm: metadata "a": 100000 arrays within arrays, at most 65536 are allowed in all',
  ],
  [
    "an alignment of 0",
    { metadata: [entry("general.alignment", TYPES.u32, u32(0))] },
    'm: metadata "general.alignment": 0, expected a power of two up to 1048576',
  ],
  [
    "an alignment of 48",
    { metadata: [entry("general.alignment", TYPES.u32, u32(48))] },
    'm: metadata "general.alignment": 48, expected a power of two up to 1048576',
  ],
  [
    "an alignment of 2^31",
    { metadata: [entry("general.alignment", TYPES.u32, u32(2 ** 31))] },
    'm: metadata "general.alignment": 2147483648, expected a power of two up to 1048576',
  ],
  [
    "an alignment that is text",
    { metadata: [entry("general.alignment", TYPES.text, text("32"))] },
    'm: metadata "general.alignment": type STRING, expected UINT32',
  ],
  ["a tensor without a name", one(tensor("", [8], F32, 0)), "m: name of tensor 0: an empty name"],
  ["five dimensions", one(tensor("x", [1, 1, 1, 1, 8], F32, 0)), 'm: tensor "x": 5 dimensions, at most 4 are allowed'],
  [
    "2^32 - 1 dimensions",
    one(join(text("x"), u32(2 ** 32 - 1), u64(0))),
    'm: tensor "x": 4294967295 dimensions, at most 4 are allowed',
  ],
  ["a dimension of 0", one(tensor("x", [8, 0], F32, 0)), 'm: tensor "x": shape [0, 8], has a dimension of 0'],
  [
    "a negative dimension",
    one(tensor("x", [-1, 8], F32, 0)),
    'm: tensor "x": shape [8, 18446744073709551615], has more than 2^53 values',
  ],
  [
    "dimensions whose product is 0 in 64 bits",
    one(tensor("x", [2n ** 32n, 2n ** 32n], F32, 0)),
    'm: tensor "x": shape [4294967296, 4294967296], has more than 2^53 values',
  ],
  ["an unknown type of tensor", one(tensor("x", [8], 77, 0)), 'm: tensor "x": type 77, which is not read'],
  ["a type that is gone", one(tensor("x", [32], 4, 0)), 'm: tensor "x": type 4, which is not read'],
  ["a type that is not read", one(tensor("x", [256], 21, 0)), 'm: tensor "x": type IQ3_S (21), which is not read'],
  [
    "a row that ends within a block",
    one(tensor("x", [40, 2], Q4_0, 0)),
    'm: tensor "x": shape [2, 40], rows of Q4_0 are multiples of 32 values',
  ],
  [
    "a row that ends within a larger block",
    one(tensor("x", [128, 2], Q4_K, 0)),
    'm: tensor "x": shape [2, 128], rows of Q4_K are multiples of 256 values',
  ],
  [
    "an offset that is not aligned",
    one(tensor("x", [8], F32, 4), 64),
    'm: tensor "x": begins at byte 4 of the values, expected a multiple of 32',
  ],
  ["values behind the end", one(tensor("x", [8], F32, 32)), 'm: tensor "x": ends at byte 128, the file has 96'],
  [
    "an offset of 2^64 - 32",
    one(tensor("x", [8], F32, 2n ** 64n - 32n)),
    'm: tensor "x": ends at byte 18446744073709551680, the file has 96',
  ],
  [
    "a tensor larger than the file",
    one(tensor("x", [2 ** 20, 2 ** 20], F32, 0)),
    'm: tensor "x": ends at byte 4398046511200, the file has 128',
  ],
  ["a file cut short", { ...one(tensor("x", [8], F32, 0)), cut: 1 }, 'm: tensor "x": ends at byte 96, the file has 95'],
  [
    "the same name twice",
    { tensors: [tensor("x", [8], F32, 0), tensor("x", [8], F32, 32)], values: 64 },
    'm: tensor "x": the name is used twice',
  ],
  [
    "two tensors in one place",
    { tensors: [tensor("x", [8], F32, 0), tensor("y", [8], F32, 0)], values: 64 },
    'm: tensor "y": overlaps "x", which ends behind its first byte',
  ],
  [
    "a tensor inside another",
    { tensors: [tensor("x", [8], F32, 32), tensor("y", [32], F32, 0)], values: 128 },
    'm: tensor "x": overlaps "y", which ends behind its first byte',
  ],
  [
    "a table cut short",
    { tensorCount: 2, tensors: [tensor("x", [8], F32, 0)], values: 32 },
    "m: name of tensor 1: an empty name",
  ],
];

const bytesOf = (file: FileParts | Uint8Array) => (file instanceof Uint8Array ? file : ggufFile(file));

let root: string;
beforeAll(async () => {
  root = await mkdtemp(joinPath(tmpdir(), "olmoe-bad-gguf-"));
});
afterAll(() => rm(root, { recursive: true }));

describe("a GGUF header", () => {
  it.each(headers)("with %s is refused", async (_, file, message) => {
    const bytes = bytesOf(file);
    expect(await messageOf(() => parseGguf(bytes, bytes.byteLength, "m"))).toBe(message);
    const path = joinPath(root, "header.gguf");
    await writeFile(path, bytes);
    expect(await messageOf(() => GgufFile.open(path))).toBe(message.replace(/^m:/, `${path}:`));
  });

  it("that is no more than its own counts is read", () => {
    const bytes = ggufFile({});
    expect(parseGguf(bytes, bytes.byteLength, "m")).toEqual({
      version: 3,
      alignment: 32,
      metadata: new Map(),
      tensors: new Map(),
    });
  });

  it("of a large file asks for more bytes, and takes no more room than the file has", () => {
    const bytes = ggufFile({ metadata: [array("a", TYPES.text, 1000)], keyCount: 1 });
    expect(parseGguf(bytes, 5_000_000_000, "m")).toEqual({ neededBytes: bytes.byteLength + 8 });
    const lying = ggufFile({ metadata: [array("a", TYPES.text, 500_000_000)], keyCount: 1 });
    expect(() => parseGguf(lying, 5_000_000_000, "m")).toThrow(
      'm: metadata "a": 500000000 texts, a header has at most 100000000 bytes',
    );
  });
});
