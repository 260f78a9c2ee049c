import { describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { decodeF32, layOut, parseSafetensors } from "./safetensors.ts";

describe("layOut", () => {
  it("writes the bytes of the reference library: widest type first, then names, padded to 8 bytes", () => {
    const { prefix, tensors } = layOut([
      { name: "b", dtype: "F32", shape: [2, 3] },
      { name: "half", dtype: "BF16", shape: [1] },
      { name: "a", dtype: "F32", shape: [] },
    ]);
    const json =
      '{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},' +
      '"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},' +
      '"half":{"dtype":"BF16","shape":[1],"data_offsets":[28,30]}}';
    expect(new TextDecoder().decode(prefix.subarray(8))).toBe(json.padEnd(Math.ceil(json.length / 8) * 8));
    expect([...prefix.subarray(0, 8)]).toEqual([prefix.length - 8, 0, 0, 0, 0, 0, 0, 0]);
    expect(tensors.map(({ name }) => name)).toEqual(["a", "b", "half"]);
  });

  it("writes an empty file with metadata", () => {
    const { prefix } = layOut([], { format: "pt" });
    expect(new TextDecoder().decode(prefix.subarray(8))).toBe('{"__metadata__":{"format":"pt"}}');
    expect(parseSafetensors(prefix, "empty").metadata).toEqual(new Map([["format", "pt"]]));
  });

  it("keeps names that are numbers or have a meaning in JavaScript", () => {
    const names = ["10", "9", "__proto__", "constructor"];
    const { prefix } = layOut(names.map((name) => ({ name, dtype: "U8", shape: [0] })));
    expect([...parseSafetensors(prefix, "names").tensors.keys()]).toEqual(expect.arrayContaining(names));
  });

  it("refuses two tensors of one name", () => {
    const tensor = { name: "a", dtype: "F32", shape: [1] } as const;
    expect(() => layOut([tensor, tensor])).toThrow(
      new CheckpointError('safetensors: tensor "a": the name is used twice or reserved'),
    );
    expect(() => layOut([{ ...tensor, name: "__metadata__" }])).toThrow(
      new CheckpointError('safetensors: tensor "__metadata__": the name is used twice or reserved'),
    );
  });
});

describe("parseSafetensors", () => {
  it("gives each tensor's place in the file", () => {
    const { prefix } = layOut([
      { name: "a", dtype: "F16", shape: [2, 2] },
      { name: "ids", dtype: "I64", shape: [1] },
    ]);
    const file = new Uint8Array(prefix.length + 16);
    file.set(prefix);
    expect([...parseSafetensors(file, "x").tensors]).toEqual([
      ["ids", { dtype: "I64", shape: [1], byteOffset: prefix.length, byteLength: 8 }],
      ["a", { dtype: "F16", shape: [2, 2], byteOffset: prefix.length + 8, byteLength: 8 }],
    ]);
  });

  it("reads a file that lies at an odd offset of a larger buffer", () => {
    const { prefix } = layOut([{ name: "a", dtype: "F32", shape: [0] }]);
    const outer = new Uint8Array(prefix.length + 3);
    outer.set(prefix, 3);
    expect([...parseSafetensors(outer.subarray(3), "x").tensors.keys()]).toEqual(["a"]);
  });
});

it("decodes f32, f16 and bf16 bytes", () => {
  const target = new Float32Array(2);
  decodeF32(new Uint8Array([0, 0, 128, 63, 0, 0, 0, 192]), "F32", target);
  expect([...target]).toEqual([1, -2]);
  decodeF32(new Uint8Array([0, 0x3c, 0, 0xc0]), "F16", target);
  expect([...target]).toEqual([1, -2]);
  decodeF32(new Uint8Array([0x80, 0x3f, 0, 0xc0]), "BF16", target);
  expect([...target]).toEqual([1, -2]);
});
