import { describe, expect, it } from "vitest";
import { UnsupportedError } from "../src/errors.ts";
import { parseBatchedBench, parseLlamaBench } from "./peers/llamacpp/results.ts";
import { buildFlags } from "./peers/llamacpp/setup.ts";

const test = {
  build_commit: "unknown",
  model_type: "olmoe A1.7B Q4_0",
  n_threads: 2,
  n_prompt: 512,
  n_gen: 0,
  n_depth: 0,
  avg_ts: 60.5,
  samples_ts: [60, 61],
};

describe("llama-bench's JSON", () => {
  it("gives the tokens per second of each repetition", () => {
    expect(parseLlamaBench(JSON.stringify([test]))).toEqual([
      { promptTokens: 512, newTokens: 0, depth: 0, threads: 2, modelType: "olmoe A1.7B Q4_0", rates: [60, 61] },
    ]);
  });

  it("is refused where it is something else", () => {
    const hint = "pass --no-peers to measure without it";
    const refusals: [string, string][] = [
      ["error: no such model", 'llama-bench printed "error: no such model", expected JSON'],
      ["{}", 'llama-bench printed "{}", expected an array of tests'],
    ];
    for (const [text, message] of refusals) {
      expect(() => parseLlamaBench(text)).toThrow(new UnsupportedError(`peer llama.cpp: ${message}`, { hint }));
    }
    for (const samples of [undefined, [], [0], ["60"]]) {
      const text = JSON.stringify([{ ...test, samples_ts: samples }]);
      expect(() => parseLlamaBench(text)).toThrow('expected positive numbers "samples_ts"');
    }
    expect(() => parseLlamaBench(JSON.stringify([{ ...test, n_gen: null }]))).toThrow('expected a number "n_gen"');
  });
});

describe("llama-batched-bench's lines", () => {
  const line = {
    n_kv_max: 2048,
    pp: 128,
    tg: 128,
    pl: 8,
    t_pp: 16,
    speed_pp: 64,
    t_tg: 10,
    speed_tg: 102.4,
    speed: 78.7,
  };

  it("give the rates of all sequences together, whatever else is printed", () => {
    expect(parseBatchedBench(`\nloading\n${JSON.stringify(line)}\n\n`)).toEqual([
      { sequences: 8, promptTokens: 128, newTokens: 128, promptRate: 64, newTokenRate: 102.4 },
    ]);
  });

  it("are refused where there are none or a rate is missing", () => {
    expect(() => parseBatchedBench("nothing\n")).toThrow(
      'peer llama.cpp: llama-batched-bench printed "nothing\\n", expected lines of JSON',
    );
    expect(() => parseBatchedBench('{"pl": 8,')).toThrow("expected a line of JSON");
    expect(() => parseBatchedBench(JSON.stringify({ ...line, speed_tg: undefined }))).toThrow(
      'expected a number "speed_tg"',
    );
  });
});

it("llama.cpp is built for this processor, or for the instruction set that is asked for", () => {
  expect(buildFlags(undefined)).toEqual(["-DGGML_NATIVE=ON"]);
  expect(buildFlags("avx2")).toContain("-DGGML_AVX2=ON");
  expect(buildFlags("avx2")).not.toContain("-DGGML_AVX512=ON");
  expect(buildFlags("avx512")).toContain("-DGGML_AVX512_VNNI=ON");
  expect(() => buildFlags("x86-64")).toThrow("peer llama.cpp: no build for x86-64, expected amx, avx512, avx2 or neon");
});
