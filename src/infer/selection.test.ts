import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cut, expOfMinus, largest } from "./selection.ts";

describe("largest", () => {
  it("gives the places of a full sort, ties to the lower place", () => {
    const values = fc.array(fc.integer({ min: -5, max: 5 }), { maxLength: 50 });
    fc.assert(
      fc.property(values, fc.nat(60), (list, count) => {
        const sorted = list.map((_, place) => place).sort((a, b) => list[b]! - list[a]! || a - b);
        expect([...largest(Float32Array.from(list), count)]).toEqual(sorted.slice(0, count));
      }),
    );
  });
});

describe("cut", () => {
  it("ends where a full sort ends, also for keys far apart, equal or infinite", () => {
    const key = fc.oneof(
      fc.integer({ min: 0, max: 6 }),
      fc.double({ min: 0, max: 500, noNaN: true }),
      fc.constant(Infinity),
    );
    const item = fc.record({ key, mass: fc.integer({ min: 1, max: 8 }) });
    fc.assert(
      fc.property(
        fc.array(item, { minLength: 1, maxLength: 50 }),
        fc.integer({ min: 1, max: 400 }),
        (items, needed) => {
          const keys = Float64Array.from(items, (each) => each.key);
          const masses = Float64Array.from(items, ({ mass }) => mass);
          const sorted = items
            .map((_, place) => place)
            .sort((a, b) => (keys[a] === keys[b] ? a - b : keys[a]! - keys[b]!));
          let held = 0;
          const count = sorted.findIndex((place) => {
            held += masses[place]!;
            return held >= needed;
          });
          const expected = new Set(count < 0 ? sorted : sorted.slice(0, count + 1));
          const { last, ties } = cut(keys, masses, items.length, needed);
          let left = ties;
          const kept = items.flatMap((each, place) =>
            each.key < last || (each.key === last && left-- > 0) ? [place] : [],
          );
          expect(new Set(kept)).toEqual(expected);
        },
      ),
      { seed: 5, numRuns: 300 },
    );
  });
});

it("expOfMinus is within 3e-10 of exp", () => {
  let worst = 0;
  for (let distance = 0; distance < 80; distance += 0.0037) {
    worst = Math.max(worst, Math.abs(expOfMinus(distance) / Math.exp(-distance) - 1));
  }
  expect(worst).toBeLessThan(3e-10);
  expect([expOfMinus(0), expOfMinus(Infinity)]).toEqual([1, 0]);
});
