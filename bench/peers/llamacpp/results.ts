/** What llama.cpp's programs print, read strictly: a field that is missing is an error and not a NaN in a table. */
import { UnsupportedError } from "../../../src/errors.ts";

/** One test of `llama-bench -o json`. */
export interface LlamaBenchTest {
  readonly promptTokens: number;
  readonly newTokens: number;
  /** Tokens in the cache before the test. */
  readonly depth: number;
  readonly threads: number;
  /** "q4_0" and so on, as llama.cpp describes the file. */
  readonly modelType: string;
  /** Tokens per second of each repetition. */
  readonly rates: readonly number[];
}

/** One line of `llama-batched-bench --output-format jsonl`. */
export interface BatchedBenchTest {
  readonly sequences: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  /** Tokens per second of all sequences together. */
  readonly promptRate: number;
  readonly newTokenRate: number;
}

function wrong(program: string, text: string, expected: string): UnsupportedError {
  return new UnsupportedError(
    `peer llama.cpp: ${program} printed ${JSON.stringify(text.slice(0, 200))}, expected ${expected}`,
    { hint: "pass --no-peers to measure without it" },
  );
}

type Json = Readonly<Record<string, unknown>>;

function number(program: string, test: Json, key: string): number {
  const value = test[key];
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw wrong(program, JSON.stringify(test), `a number "${key}"`);
}

/** @throws UnsupportedError for text that is not llama-bench's JSON. */
export function parseLlamaBench(text: string): LlamaBenchTest[] {
  const program = "llama-bench";
  let tests: unknown;
  try {
    tests = JSON.parse(text);
  } catch {
    throw wrong(program, text, "JSON");
  }
  if (!Array.isArray(tests)) throw wrong(program, text, "an array of tests");
  return tests.map((test: Json) => {
    const rates = test.samples_ts;
    if (!Array.isArray(rates) || rates.length === 0 || !rates.every((rate) => Number.isFinite(rate) && rate > 0)) {
      throw wrong(program, JSON.stringify(test), 'positive numbers "samples_ts"');
    }
    return {
      promptTokens: number(program, test, "n_prompt"),
      newTokens: number(program, test, "n_gen"),
      depth: number(program, test, "n_depth"),
      threads: number(program, test, "n_threads"),
      modelType: String(test.model_type),
      rates: rates as number[],
    };
  });
}

/** Reads the lines that are JSON; others are progress. @throws UnsupportedError when there is none. */
export function parseBatchedBench(text: string): BatchedBenchTest[] {
  const program = "llama-batched-bench";
  const lines = text.split("\n").filter((line) => line.trimStart().startsWith("{"));
  if (lines.length === 0) throw wrong(program, text, "lines of JSON");
  return lines.map((line) => {
    let test: Json;
    try {
      test = JSON.parse(line) as Json;
    } catch {
      throw wrong(program, line, "a line of JSON");
    }
    return {
      sequences: number(program, test, "pl"),
      promptTokens: number(program, test, "pp"),
      newTokens: number(program, test, "tg"),
      promptRate: number(program, test, "speed_pp"),
      newTokenRate: number(program, test, "speed_tg"),
    };
  });
}
