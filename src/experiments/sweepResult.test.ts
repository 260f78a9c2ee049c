import { describe, expect, it } from "vitest";
import { resolveModel } from "../config/presets.ts";
import type { EvalMetrics, Metrics } from "../train/metrics.io.ts";
import { describeDifferences, sweepTable } from "./sweepReport.ts";
import { differences, finalEvaluation, type RunResult, runResult, variantResult } from "./sweepResult.ts";

const PARAMETERS = { total: 4_475_008, active: 1_722_496 };

/** A run that ended at `last`, on a straight line from 5 bits at no token to it at 100. */
function run(name: string, seed: number, last: number): RunResult {
  const curve = [0, 25, 50, 75, 100].map((tokens) => [tokens, 5 + ((last - 5) * tokens) / 100] as const);
  const common = { tokens: 100, seconds: 4, sources: { a: last }, parameters: PARAMETERS };
  return { name, seed, bitsPerByte: last, curve, ...common };
}

const variant = (name: string, ...lasts: number[]) =>
  variantResult(
    { name, label: name, set: {} },
    lasts.map((last, index) => run(`${name}-seed${index}`, index, last)),
    [],
  );

describe("a run's result", () => {
  const evaluated = (step: number, bits: number, tokens: number, complete = false): EvalMetrics => {
    const scores = { tokens, nats_per_token: 1, bits_per_byte: bits };
    return { type: "eval", step, ...scores, tokens: 10 * step, sources: { a: scores, b: scores }, complete };
  };
  const facts = { name: "x", seed: 3, config: resolveModel({ preset: "nano" }) };

  it("has the last evaluation, and a curve of equal texts", () => {
    const lines: Metrics[] = [evaluated(1, 3, 50), evaluated(2, 2, 50), evaluated(3, 1.5, 50, true)];
    const final = finalEvaluation(lines, 3)!;
    expect(runResult(facts, lines, final)).toEqual({
      name: "x",
      seed: 3,
      tokens: 30,
      seconds: 0,
      bitsPerByte: 1.5,
      sources: { a: 1.5, b: 1.5 },
      curve: [
        [10, 3],
        [20, 2],
        [30, 1.5],
      ],
      parameters: PARAMETERS,
    });
    // The evaluation at the end is of more text than those before.
    const partly = [...lines.slice(0, 2), evaluated(3, 1.5, 80, true)];
    expect(runResult(facts, partly, final).curve).toEqual([
      [10, 3],
      [20, 2],
    ]);
    expect(runResult(facts, [final], final).curve).toEqual([[30, 1.5]]);
  });

  it("is there for runs that are done only", () => {
    expect(finalEvaluation([evaluated(3, 1, 50)], 3)).toBeUndefined();
    expect(finalEvaluation([evaluated(3, 1, 50, true)], 4)).toBeUndefined();
  });
});

describe("variants of a sweep", () => {
  it("are compared with the first: by how much, whether by chance, and how many tokens sooner", () => {
    const result = { name: "s", variants: [variant("moe", 1, 1.2), variant("dense", 3, 2.8), variant("wide", 1.15)] };
    const [dense, wide] = differences(result);
    expect([dense?.better.name, dense?.worse.name, dense?.overlap]).toEqual(["moe", "dense", false]);
    expect(dense?.difference).toBeCloseTo(1.8, 12);
    // The mean goes from 5 to 1.1 in 100 tokens: it is at 2.9 after 100 x 2.1 / 3.9.
    expect(dense?.reachedAt).toBeCloseTo(53.846, 3);
    expect([wide?.better.name, wide?.overlap]).toEqual(["moe", true]);
    expect(describeDifferences(result)).toEqual([
      "moe is 1.8000 bits per byte below dense; the ranges of their runs do not overlap. It is at the last loss of dense after 53.8 of 100 tokens (1.86 times fewer).",
      "moe is 0.0500 bits per byte below wide; with a single run the difference may be chance. It is at the last loss of wide after 98.7 of 100 tokens (1.01 times fewer).",
    ]);
  });

  it("have one row each, also where runs failed", () => {
    const failed = [{ name: "bad-seed0", error: "x" }];
    const bad = variantResult({ name: "bad", label: "bad", set: {} }, [], failed);
    const result = { name: "s", variants: [variant("moe", 1, 2), bad] };
    expect(sweepTable(result)).toEqual([
      ["variant", "parameters", "active", "runs", "tokens each", "bits per byte", "least .. most", "rate", "time each"],
      ["moe", "4.48 M", "1.72 M", "2", "100", "1.5000", "1.0000 .. 2.0000", "25 tokens/s", "4 s"],
      ["bad", "-", "-", "0 of 1", "-", "-", "-", "-", "-"],
    ]);
    expect(differences(result)).toEqual([]);
    expect(differences({ name: "s", variants: [bad] })).toEqual([]);
  });
});
