import { describe, expect, it } from "vitest";
import { GroupedCounts, groupOf, groupsFor, intervalText } from "./sequenceGroups.ts";

describe("groups of sequences", () => {
  it("are as many as fit into memory, or one", () => {
    const pairs = (experts: number) => groupsFor(16 * 4 * (experts + 1) ** 2);
    expect([pairs(64), pairs(256), pairs(384), groupsFor(0)]).toEqual([32, 31, 1, 32]);
  });

  it("get one sequence of every round each, the first ones in order", () => {
    for (const groups of [1, 20, 32]) {
      const rounds = Array.from({ length: 9 }, (_, round) =>
        Array.from({ length: groups }, (_, place) => groupOf(round * groups + place, groups)),
      );
      const all = Array.from({ length: groups }, (_, group) => group);
      expect(rounds[0]).toEqual(all);
      expect(rounds.map((round) => round.toSorted((a, b) => a - b))).toEqual(rounds.map(() => all));
    }
  });

  it("get sequences of all sources, however these take turns", () => {
    for (const sources of [2, 4, 5, 8, 16, 31, 32, 33]) {
      const of = Array.from({ length: 32 }, () => new Set<number>());
      for (let sequence = 0; sequence < 32 * 200; sequence++) of[groupOf(sequence, 32)]!.add(sequence % sources);
      expect(of.map((set) => set.size)).toEqual(of.map(() => sources));
    }
  });

  it("count beyond 32 bits", () => {
    const counts = new GroupedCounts({ groups: 2, tables: 2, cells: 2, perToken: 2 ** 30 });
    for (const sequence of [0, 1, 0, 0, 3]) {
      counts.add({ sequence, tokens: 1 }, (table, index) => {
        table[index]! += 2 ** 30;
        table[1 - index]! += 1;
      });
    }
    const { units, grouped } = counts.result();
    expect(grouped).toBe(true);
    // Sequence 3 is the second of the second round, which begins with the second group.
    const told = units.map((unit) => [unit.tokens, [...unit.table(0)], [...unit.table(1)]]);
    expect(told).toEqual([
      [4, [2 ** 32, 4], [4, 2 ** 32]],
      [1, [2 ** 30, 1], [1, 2 ** 30]],
    ]);
    expect([...counts.sum(0)]).toEqual([5 * 2 ** 30, 5]);
  });

  it("are told with their number", () => {
    expect([intervalText([32], true), intervalText([7, 3], false)]).toEqual([
      "Intervals: 95 %, bootstrap over 32 groups of sequences",
      "Intervals: 95 %, bootstrap over 3 to 7 sequences",
    ]);
  });
});
