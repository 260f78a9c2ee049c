/** Order and filters of data against OLMo's and Dolma's own tools. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { olmoEpochOrder } from "../../src/data/olmoOrder.ts";
import { findRepetitions, isRepetitive } from "../../src/data/repetition.ts";
import { parityPath, parityPresent } from "./fixtures.ts";

const read = (name: string) => JSON.parse(readFileSync(parityPath(name), "utf8"));

describe.skipIf(!parityPresent)("OLMo's loader (skipped where the reference values are absent)", () => {
  it("masks the instances that OLMo masks, for the same sequences", () => {
    for (const { remark, ids, pass, sequences } of read("dolma/instance-filter.json").cases) {
      const found = findRepetitions(ids).map(({ start, end, period, times }) => [start, end, period, times]);
      expect(found, remark).toEqual(sequences);
      expect(!isRepetitive(ids), remark).toBe(pass);
    }
  });

  it("goes through instances in numpy's order, for each process", () => {
    for (const { seed, epoch, instances, world_size, drop_last, ranks } of read("dolma/epoch-order.json").orders) {
      const order = olmoEpochOrder({ instances, seed, epoch, worldSize: world_size, dropLast: drop_last });
      expect(order.map((rank) => [...rank])).toEqual(ranks);
    }
  });
});
