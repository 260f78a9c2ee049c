/** Order and filters of data against OLMo's and Dolma's own tools. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { TokenLoader } from "../../src/data/loader.ts";
import { olmoEpochOrder } from "../../src/data/olmoOrder.ts";
import { findRepetitions, isRepetitive, OLMOE_REPETITION } from "../../src/data/repetition.ts";
import { readTokenFile } from "../../src/data/tokenFile.io.ts";
import { numpyShuffledOrder } from "../../src/util/numpyRandom.ts";
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

  it("cuts token files into OLMo's instances, masks the same, and knows where documents start", () => {
    for (const name of ["one", "small", "two"]) {
      const expected = read(`dolma/memmap-${name}.json`);
      const files = expected.files.map((file: string) => readTokenFile(parityPath(`dolma/${file}`), "uint16", 50280));
      const loader = new TokenLoader({
        sources: [{ name, weight: 1, files }],
        sequenceLength: expected.chunk_size,
        batchSize: 1,
        seed: 6198,
        eosTokenId: 50279,
        order: "olmo",
        instanceFilter: OLMOE_REPETITION,
      });
      for (const index of numpyShuffledOrder(expected.count, 6198)) {
        const { ids, instance_mask, doc_lens } = expected.instances[index];
        const batch = loader.next();
        const starts = [...new Set(batch.kvStart), ids.length];
        expect([...batch.ids]).toEqual(ids);
        expect(batch.masked).toBe(instance_mask ? 0 : 1);
        expect([...batch.labels]).toEqual(instance_mask ? [...ids.slice(1), -100] : ids.map(() => -100));
        expect(starts.slice(1).map((start, place) => start - starts[place]!)).toEqual(doc_lens);
      }
    }
  });

  it("goes through instances in numpy's order, for each process", () => {
    for (const { seed, epoch, instances, world_size, drop_last, ranks } of read("dolma/epoch-order.json").orders) {
      const order = olmoEpochOrder({ instances, seed, epoch, worldSize: world_size, dropLast: drop_last });
      expect(order.map((rank) => [...rank])).toEqual(ranks);
    }
  });
});
