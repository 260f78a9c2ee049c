import fc from "fast-check";
import { expect, it } from "vitest";
import { KeyTable } from "./keyTable.ts";

it("numbers keys as they come, as a Map does, and grows", () => {
  const word = fc.nat({ max: 12 });
  fc.assert(
    fc.property(fc.array(fc.tuple(word, word), { maxLength: 300 }), (keys) => {
      const table = new KeyTable(2, 1, 0);
      const numbers = new Map<string, number>();
      for (const [index, key] of keys.entries()) {
        const number = numbers.get(key.join()) ?? numbers.size;
        const words = Uint32Array.of(9, ...key);
        expect(table.find(words, 1)).toBe(numbers.get(key.join()) ?? -1);
        expect(table.add(words, 1)).toBe(number);
        if (!numbers.has(key.join())) table.set(number, 2, index);
        numbers.set(key.join(), number);
      }
      const first = (key: string) => keys.findIndex((other) => other.join() === key);
      expect(table.size).toBe(numbers.size);
      for (const [key, number] of numbers) {
        expect(`${table.get(number, 0)},${table.get(number, 1)}`).toBe(key);
        expect(table.get(number, 2)).toBe(first(key));
      }
    }),
    { numRuns: 50, seed: 6198 },
  );
});
