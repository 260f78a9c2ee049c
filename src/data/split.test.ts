import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DataError } from "../errors.ts";
import { chooseHeldOut, type HeldOutUnit, LowestHashes } from "./split.ts";

const unit = (hash: number, bytes: number, task = 0): HeldOutUnit => ({ hash, bytes, task, documents: [hash] });
const of = (units: readonly HeldOutUnit[], heldOutBytes: number) => ({
  source: "s",
  heldOutBytes,
  documents: units.length,
  bytes: units.reduce((sum, { bytes }) => sum + bytes, 0),
});

describe("chooseHeldOut", () => {
  it("takes the lowest by hash until there is enough, whatever their order", () => {
    const units = [unit(5, 100), unit(1, 100), unit(9, 600), unit(3, 100), unit(7, 100)];
    expect(chooseHeldOut(units, of(units, 150)).map(({ hash }) => hash)).toEqual([1, 3]);
  });

  it("takes at most a fifth, and leaves out what would be more", () => {
    const units = [unit(1, 150), unit(2, 90), unit(3, 760)];
    expect(chooseHeldOut(units, of(units, 1000)).map(({ hash }) => hash)).toEqual([1]);
    const others = [unit(1, 900), unit(2, 100)];
    expect(chooseHeldOut(others, of(others, 1000)).map(({ hash }) => hash)).toEqual([2]);
  });

  it("takes nothing where nothing is asked for, and refuses what can not be divided", () => {
    const units = [unit(1, 60), unit(2, 40)];
    expect(chooseHeldOut(units, of(units, 0))).toEqual([]);
    expect(() => chooseHeldOut(units, of(units, 50))).toThrow(
      new DataError('source "s": 2 documents of 100 bytes, none is at most a fifth of them and can be held out', {
        hint: "add text, set maxDocumentChars so that long texts are cut, or heldOutBytes: 0 for none",
      }),
    );
  });
});

describe("LowestHashes", () => {
  it("holds the lowest up to its quota, as sorting all of them would", () => {
    const items = fc.array(fc.record({ hash: fc.nat(1000), bytes: fc.integer({ min: 1, max: 50 }) }), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(items, fc.integer({ min: 1, max: 300 }), (all, quota) => {
        const lowest = new LowestHashes(quota);
        for (const item of all) lowest.add(item);
        const sorted = all.toSorted((one, other) => one.hash - other.hash);
        let bytes = 0;
        const end = sorted.findIndex((item) => {
          bytes += item.bytes;
          return bytes >= quota;
        });
        expect(lowest.lowest()).toEqual(end === -1 ? sorted : sorted.slice(0, end + 1));
      }),
    );
  });
});
