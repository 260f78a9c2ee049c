import { describe, expect, it } from "vitest";
import { checkFaults, countRecord, type Faults, mergeFaults, NO_FAULTS } from "./faults.ts";

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

  it("of parts merge to those of the whole", () => {
    const parts = [counted(5, 3), NO_FAULTS, counted(10, 8, "b")];
    const first = ["a:1", "a:2", "a:3", "b:1", "b:2", "b:3", "b:4", "b:5", "b:6", "b:7"];
    expect(mergeFaults(parts)).toEqual({ records: 15, broken: 11, first: first.map((place) => `${place}: not JSON`) });
    expect(mergeFaults([])).toEqual(NO_FAULTS);
  });

  it("stop a run above ten and above one in a hundred", () => {
    const passes = (records: number, broken: number) => {
      checkFaults({ records, broken, first: [] }, "source");
      return true;
    };
    expect(passes(10, 10) && passes(1100, 11) && passes(1_000_000, 10_000)).toBe(true);
    expect(() => checkFaults(counted(11, 11), "source")).toThrow(
      "source: 11 of 11 records are broken, at most 10 are skipped\na:1: not JSON\na:2: not JSON",
    );
    expect(() => checkFaults({ records: 1099, broken: 11, first: [] }, "source")).toThrow(
      "source: 11 of 1099 records are broken, at most 10 are skipped",
    );
  });
});
