import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { DataError } from "../errors.ts";
import { analyse } from "./analysis.ts";
import { forEachId, IdTables, mergeIds } from "./idTables.ts";
import { tokenIdRouting } from "./tokenIds.ts";
import { vocabularySpecialisation } from "./vocabulary.ts";

/** [id, occurrences, counts] of a table. */
function listOf(counts: ReturnType<IdTables["result"]>, table: number) {
  const list: unknown[] = [];
  forEachId(counts, table, (id, occurrences, row) => list.push([id, occurrences, [...row]]));
  return list;
}

describe("IdTables", () => {
  it("grows with the ids there are, and gives them in rising order", () => {
    const tables = new IdTables(1000, 1, 2);
    for (let id = 999; id >= 400; id--) {
      const row = tables.rowOf(id);
      tables.addOccurrence(row);
      tables.table(0)[2 * row + (id % 2)]! += 1;
    }
    const list = listOf(tables.result(), 0);
    expect(list).toHaveLength(600);
    expect([list[0], list[599]]).toEqual([
      [400, 1, [1, 0]],
      [999, 1, [0, 1]],
    ]);
    expect(() => tables.rowOf(1000)).toThrow(new DataError("trace: id 1000, the model has 1000 ids"));
  });

  it("adds several texts up", () => {
    const [one, other] = [
      [3, 5],
      [5, 7],
    ].map((ids) => {
      const tables = new IdTables(10, 2, 1);
      for (const id of ids) {
        const row = tables.rowOf(id);
        tables.addOccurrence(row);
        tables.table(1)[row]! += id;
      }
      return tables.result();
    });
    const merged = mergeIds([one!, other!]);
    expect(listOf(merged, 1)).toEqual([
      [3, 1, [3]],
      [5, 2, [10]],
      [7, 1, [7]],
    ]);
  });
});

it("counts an id beyond 2^16 occurrences", async () => {
  const many = 140_000;
  const tokens = tokensOf(
    Array.from({ length: many }, (_, token) => [token % 10 === 0 ? 1 : 0]),
    Array<number>(many).fill(4),
  );
  const trace = traceOf([[{ tokens }]], { numExperts: 2, slots: 1 });
  const [words, histograms] = await analyse(trace, [vocabularySpecialisation(), tokenIdRouting({ bins: 10 })]);
  expect(words.perLayer[0]!.experts[0]!.top).toEqual([{ id: 4, share: 0.9, occurrences: many }]);
  expect(histograms.histograms[0]!.mean).toBe(0.9);
});
