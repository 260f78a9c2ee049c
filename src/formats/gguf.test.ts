import { describe, expect, it } from "vitest";
import { type GgufValue, layOutGguf, parseGguf } from "./gguf.ts";

/** One value of every type, and arrays of them. */
const metadata = new Map<string, GgufValue>([
  ["u8", { type: "UINT8", value: 255 }],
  ["i8", { type: "INT8", value: -128 }],
  ["u16", { type: "UINT16", value: 65_535 }],
  ["i16", { type: "INT16", value: -32_768 }],
  ["u32", { type: "UINT32", value: 4_294_967_295 }],
  ["i32", { type: "INT32", value: -2_147_483_648 }],
  ["f32", { type: "FLOAT32", value: Math.fround(1e-5) }],
  ["bool", { type: "BOOL", value: true }],
  ["text", { type: "STRING", value: "caf\u00e9 \u{1F600} \u0000" }],
  ["u64", { type: "UINT64", value: 2n ** 64n - 1n }],
  ["i64", { type: "INT64", value: -(2n ** 63n) }],
  ["f64", { type: "FLOAT64", value: Math.PI }],
  ["u8s", { type: "ARRAY", of: "UINT8", value: Uint8Array.of(1, 2) }],
  ["i16s", { type: "ARRAY", of: "INT16", value: Int16Array.of(-1, 2) }],
  ["f64s", { type: "ARRAY", of: "FLOAT64", value: Float64Array.of(0.1) }],
  ["bools", { type: "ARRAY", of: "BOOL", value: Uint8Array.of(1, 0) }],
  ["i64s", { type: "ARRAY", of: "INT64", value: BigInt64Array.of(-1n) }],
  ["texts", { type: "ARRAY", of: "STRING", value: ["", "a", "\u00e9", "\u{1F600}b", "\u4f60"] }],
  [
    "nested",
    {
      type: "ARRAY",
      of: "ARRAY",
      value: [
        { type: "ARRAY", of: "STRING", value: ["x"] },
        { type: "ARRAY", of: "UINT8", value: new Uint8Array(0) },
      ],
    },
  ],
]);

const tensors = [
  { name: "a", type: "F32", shape: [3, 5] },
  { name: "b", type: "Q4_K", shape: [2, 3, 256] },
  { name: "c", type: "BF16", shape: [1] },
  { name: "d", type: "F16", shape: [] },
] as const;

function fileOf(entries: ReadonlyMap<string, GgufValue>): Uint8Array {
  const { prefix, fileBytes } = layOutGguf(entries, tensors);
  const file = new Uint8Array(fileBytes);
  file.set(prefix);
  return file;
}

describe("a GGUF file", () => {
  it("is read as it was laid out, with values of every type", () => {
    const file = fileOf(metadata);
    const header = parseGguf(file, file.byteLength, "m");
    if ("neededBytes" in header) throw new Error("not whole");
    expect([...header.metadata]).toEqual([...metadata]);
    const start = layOutGguf(metadata, tensors).prefix.byteLength;
    expect([header.version, header.alignment, ...header.tensors]).toEqual([
      3,
      32,
      ["a", { type: "F32", shape: [3, 5], byteOffset: start, byteLength: 60 }],
      ["b", { type: "Q4_K", shape: [2, 3, 256], byteOffset: start + 64, byteLength: 864 }],
      ["c", { type: "BF16", shape: [1], byteOffset: start + 928, byteLength: 2 }],
      ["d", { type: "F16", shape: [], byteOffset: start + 960, byteLength: 2 }],
    ]);
    expect(file.byteLength).toBe(start + 992);
  });

  it("is read piece by piece as far as it goes, and from any place in a larger array", () => {
    const file = fileOf(metadata);
    const whole = parseGguf(file, file.byteLength, "m");
    for (let bytes = 0; ; ) {
      const part = parseGguf(file.subarray(0, bytes), file.byteLength, "m");
      if (!("neededBytes" in part)) {
        expect(part).toEqual(whole);
        break;
      }
      expect(part.neededBytes).toBeGreaterThan(bytes);
      bytes = part.neededBytes;
    }
    const shifted = new Uint8Array(file.byteLength + 3);
    shifted.set(file, 3);
    expect(parseGguf(shifted.subarray(3), file.byteLength, "m")).toEqual(whole);
  });

  it("has the alignment that its metadata says", () => {
    const aligned = new Map<string, GgufValue>([["general.alignment", { type: "UINT32", value: 256 }]]);
    const file = fileOf(aligned);
    const header = parseGguf(file, file.byteLength, "m");
    expect("tensors" in header && Array.from(header.tensors.values(), ({ byteOffset }) => byteOffset)).toEqual([
      256, 512, 1536, 1792,
    ]);
  });

  it("holds the vocabulary of a large model", () => {
    const value = Array.from({ length: 50_304 }, (_, id) => `\u0120token${id}`);
    const file = fileOf(new Map([["tokens", { type: "ARRAY", of: "STRING", value }]]));
    const header = parseGguf(file, file.byteLength, "m");
    expect("metadata" in header && header.metadata.get("tokens")?.value).toEqual(value);
  });

  it("is not laid out with what the format or its readers can not hold", () => {
    const lay = (entries: [string, GgufValue][], list: Parameters<typeof layOutGguf>[1] = []) => {
      return () => layOutGguf(new Map(entries), list);
    };
    const one = tensors[0];
    expect(lay([["k", { type: "UINT8", value: 256 }]])).toThrow(
      'gguf: metadata "k": "256" is outside the range of UINT8',
    );
    expect(lay([["k", { type: "INT32", value: 0.5 }]])).toThrow(
      'gguf: metadata "k": "0.5" is outside the range of INT32',
    );
    expect(lay([], [one, one])).toThrow('gguf: tensor "a": the name is used twice');
    expect(lay([], [{ ...one, name: "n".repeat(64) }])).toThrow("a name of 64 bytes, expected 1 to 63");
    expect(lay([], [{ ...one, shape: [1, 2, 3, 4, 5] }])).toThrow(
      'gguf: tensor "a": shape [1, 2, 3, 4, 5] can not be stored as F32',
    );
    expect(lay([], [{ name: "a", type: "Q8_0", shape: [2, 40] }])).toThrow(
      'gguf: tensor "a": shape [2, 40] can not be stored as Q8_0',
    );
  });
});
