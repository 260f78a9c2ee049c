import { describe, expect, it } from "vitest";
import { parseModelConfig } from "../src/config/model.ts";
import { PRESETS } from "../src/config/presets.ts";
import { matmulFlopsPerToken } from "./flops.ts";
import {
  type Contender,
  formatMachine,
  formatTable,
  interleave,
  loadWarning,
  type Machine,
  type Summary,
  summarize,
  toRow,
} from "./harness.ts";

const machine: Machine = {
  cpu: "Example",
  cores: 2,
  instructionSets: ["AVX2+FMA"],
  memoryGiB: 8,
  node: "v20.19.0",
  load: 0.5,
};

/** A contender that returns the given rates in turn and writes its name into `log`. */
function scripted(name: string, rates: readonly number[], log: string[] = []): Contender {
  let round = 0;
  return {
    name,
    run: () => {
      log.push(name);
      return rates[round++]!;
    },
  };
}

describe("summarize", () => {
  it("takes the middle of an odd number of values, whatever their order", () => {
    expect(summarize([30, 10, 20])).toEqual({ median: 20, min: 10, max: 30 });
  });

  it("takes the mean of the two middle values of an even number", () => {
    expect(summarize([4, 1, 2, 100])).toEqual({ median: 3, min: 1, max: 100 });
  });

  it("sorts by value and not by text", () => {
    expect(summarize([9, 10, 100])).toEqual({ median: 10, min: 9, max: 100 });
  });

  it("refuses no values and values that are not finite", () => {
    expect(() => summarize([])).toThrow("internal: statistics need finite values, got []");
    expect(() => summarize([1, Number.NaN])).toThrow("internal: statistics need finite values, got [1, NaN]");
  });
});

describe("interleave", () => {
  it("runs the contenders in turn and leaves the warm-up out of the statistics", async () => {
    const log: string[] = [];
    const contenders = [scripted("a", [1000, 1, 3, 2], log), scripted("b", [0, 20, 10, 30], log)];
    const { summaries, otherLoad } = await interleave(contenders, { repetitions: 3, restMs: 0 });
    expect(log).toEqual(["a", "b", "a", "b", "a", "b", "a", "b"]);
    expect(Object.fromEntries(summaries)).toEqual({
      a: { median: 2, min: 1, max: 3 },
      b: { median: 20, min: 10, max: 30 },
    });
    expect(otherLoad).toBeGreaterThanOrEqual(0);
    expect(otherLoad).toBeLessThanOrEqual(1);
  });

  it("stops when the signal is aborted", async () => {
    const log: string[] = [];
    const controller = new AbortController();
    const stopping: Contender = {
      name: "b",
      run: () => {
        controller.abort(new Error("enough"));
        return 1;
      },
    };
    const contenders = [scripted("a", [1, 1], log), stopping];
    const options = { repetitions: 5, restMs: 0, signal: controller.signal };
    await expect(interleave(contenders, options)).rejects.toThrow("aborted");
    expect(log).toEqual(["a"]);
  });
});

describe("rows", () => {
  const parts = { bench: "gemm", unit: "GFLOP/s", machine, ours: "ours", limit: "limit" };
  const flat = (value: number) => ({ median: value, min: value, max: value });
  const measured = (otherLoad: number, summaries: readonly [string, Summary][]) => ({
    summaries: new Map(summaries),
    otherLoad,
  });
  const compared = toRow(
    { ...parts, case: "first" },
    measured(0.02, [
      ["ours", { median: 150, min: 140, max: 160 }],
      ["limit", flat(200)],
      ["pytorch", flat(120)],
    ]),
  );
  const alone = toRow(
    { ...parts, case: "second" },
    measured(0.5, [
      ["ours", flat(12.345)],
      ["limit", flat(50)],
    ]),
  );

  it("hold our median and spread, the peers, the ratios and the limit", () => {
    expect(compared).toEqual({
      bench: "gemm",
      case: "first",
      value: 150,
      unit: "GFLOP/s",
      min: 140,
      max: 160,
      peers: { pytorch: 120 },
      ratios: { pytorch: 1.25 },
      limit: 200,
      otherLoad: 0.02,
      machine,
    });
  });

  it("can not be made without our own figure", () => {
    expect(() => toRow({ ...parts, case: "none" }, measured(0, [["limit", flat(1)]]))).toThrow(
      'internal: a row needs "ours" and "limit", got limit',
    );
  });

  it("align as a table, with a dash where there was no peer", () => {
    expect(formatTable([compared, alone])).toBe(
      [
        "case    median  min .. max    unit     limit  share  other load  pytorch",
        "first   150     140 .. 160    GFLOP/s  200    75 %   2 %         120 (1.25x)",
        "second  12.3    12.3 .. 12.3  GFLOP/s  50.0   25 %   50 %        -",
      ].join("\n"),
    );
  });

  it("are marked when other programs ran beside them", () => {
    expect(loadWarning([compared])).toBeUndefined();
    expect(loadWarning([compared, alone])).toBe(
      "1 of 2 rows are not to be used: other programs took over 10 % of the CPUs. Stop them and measure again.",
    );
  });

  it("come from a machine that is described in one line", () => {
    expect(formatMachine(machine)).toBe("Example, 2 cores (AVX2+FMA), 8 GiB, Node v20.19.0, load average 0.50");
  });
});

describe("matmulFlopsPerToken", () => {
  it("counts only the chosen experts, and twice the forward pass for the backward pass", () => {
    const config = parseModelConfig(PRESETS.small);
    // 8 x (4 x 256^2 + 256 x 64 + 8 x 3 x 256 x 128 + 256 x 257) + 256 x 8192 = 11,143,168 multiply-adds.
    expect(matmulFlopsPerToken(config, 256)).toEqual({
      perToken: 66_859_008,
      arithmetic:
        "6 x (8 layers x (projections 262144 + router 16384 + experts 786432 + attention 65792) + output 2097152) = 66.9 MFLOP",
    });
  });
});
