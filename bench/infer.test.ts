import { describe, expect, it } from "vitest";
import { cacheBytes, distinctExperts, weightBytes } from "./inferBytes.ts";
import { mappedBytes, statusBytes } from "./procfs.ts";
import { randomModelConfig as config, randomTensors, vocabulary } from "./randomModel.ts";
import { bestOf, decodeRate, togetherRate } from "./timeline.ts";

describe("bytes of a pass", () => {
  it("count all matrices once, and of the experts those that are chosen", () => {
    const parts = [
      { name: "token_embd.weight", shape: [10, 4], byteLength: 160 },
      { name: "blk.0.attn_q.weight", shape: [4, 4], byteLength: 64 },
      { name: "blk.0.ffn_gate_exps.weight", shape: [64, 2, 4], byteLength: 64 * 32 },
      { name: "output.weight", shape: [10, 4], byteLength: 160 },
    ];
    expect(weightBytes(parts, config, 1)).toBe(16 + 64 + 8 * 32 + 160);
    expect(weightBytes(parts, config, 3, 20)).toBe(3 * 16 + 64 + 20 * 32 + 160);
  });

  it("are 697 MB for a token of the released size in Q4_0", () => {
    // 16 layers of (attention 9,437,184 + experts 28,311,552 + router 524,288 + norms 32,768), the last norm, the output
    // matrix in Q6_K and a row of the embedding.
    const layer = 9_437_184 + 28_311_552 + 524_288 + 32_768;
    expect(weightBytes(randomTensors("q4_0", config, vocabulary), config, 1)).toBe(
      16 * layer + 8192 + 84_510_720 + 1152,
    );
  });

  it("expect eight tokens to choose 42 of 64 experts", () => {
    expect(distinctExperts(config, 1)).toBe(8);
    expect(distinctExperts(config, 8)).toBeCloseTo(42.01, 2);
  });

  it("add keys and values of all layers for each position", () => {
    expect(cacheBytes(config, 4000, 2)).toBe(16 * 2 * 2048 * 2 * 4000);
  });
});

describe("rates of generations", () => {
  it("count the tokens while all of them run", () => {
    // Both run from 200 to 500 ms: three tokens of the first, two of the second.
    expect(
      togetherRate([
        [100, 200, 300, 400, 500],
        [200, 350, 500, 650],
      ]),
    ).toBeCloseTo(5 / 0.3, 10);
  });

  it("count the passes between the first and the last token of one", () => {
    expect(decodeRate([1000, 1020, 1040])).toBeCloseTo(50, 10);
  });

  it("do not exist where generations follow one another", () => {
    const message = "internal: 2 generations never ran together";
    expect(() =>
      togetherRate([
        [1, 2],
        [3, 4],
      ]),
    ).toThrow(message);
    expect(() => togetherRate([[1, 2], []])).toThrow(message);
  });
});

it("the best of a row is found with its margin above another", () => {
  const rows = Float32Array.of(9, 9, 9, 0.5, 2, 1.25);
  expect(bestOf(rows, 3, 3, 2)).toEqual({ id: 1, margin: 0.75 });
  expect(bestOf(rows, 3, 3, 1)).toEqual({ id: 1, margin: 0 });
});

describe("what Linux says of a process", () => {
  it("is read as bytes", () => {
    expect(statusBytes("Name:\tnode\nVmHWM:\t    1234 kB\nRssAnon:\t 5 kB\n", "VmHWM")).toBe(1234 * 1024);
    expect(() => statusBytes("Name:\tnode\n", "VmHWM")).toThrow("internal: /proc/self/status has no VmHWM");
  });

  it("counts the mappings of one file only", () => {
    const mapping = (range: string, path: string, kilobytes: number) =>
      `${range} r--p 00000000 fe:00 12 ${path}\nSize:  100 kB\nRss:  ${kilobytes} kB\nPss:  1 kB\nVmFlags: rd mr\n`;
    const smaps =
      mapping("7f00-7f10", "/models/a.gguf", 40) +
      mapping("7f10-7f20", "", 7) +
      mapping("7f20-7f30", "/models/a.gguf", 2) +
      mapping("7f30-7f40", "/other/models/a.gguf", 11);
    expect(mappedBytes(smaps, "/models/a.gguf")).toBe(42 * 1024);
  });
});
