import { describe, expect, it } from "vitest";
import { checkFaults, countRecord, type Faults, NO_FAULTS } from "./faults.ts";

/** Counts of `records`, of which the first `broken` are that. */
function counted(records: number, broken: number, file = "a"): Faults {
  let faults = NO_FAULTS;
  for (let line = 1; line <= records; line++) {
    faults = line <= broken ? countRecord(faults, `${file}:${line}: not JSON`) : countRecord(faults);
  }
  return faults;
}

describe("faults", () => {
  it("are counted, the first ten kept", () => {
    expect(counted(3, 1)).toEqual({ records: 3, broken: 1, first: ["a:1: not JSON"] });
    expect(counted(20, 12).first).toEqual(Array.from({ length: 10 }, (_, index) => `a:${index + 1}: not JSON`));
  });

  it("stop a run above ten and above the share that is allowed", () => {
    const passes = (records: number, broken: number) => {
      checkFaults({ records, broken, first: [] }, "source", 0.01);
      return true;
    };
    expect(passes(10, 10) && passes(1100, 11) && passes(1_000_000, 10_000)).toBe(true);
    expect(() => checkFaults(counted(11, 11), "source", 0.01)).toThrow(
      "source: 11 of 11 records are broken, at most 10 are skipped\na:1: not JSON\na:2: not JSON",
    );
    expect(() => checkFaults({ records: 1099, broken: 11, first: [] }, "source", 0.01)).toThrow(
      "source: 11 of 1099 records are broken, at most 10 are skipped",
    );
  });
});
