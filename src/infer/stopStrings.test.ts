import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { StopStrings } from "./stopStrings.ts";

/** Looks at the text one character longer each time: the first stop string to be complete, the longest of several. */
function bruteForce(text: string, stops: readonly string[]): { text: string; stop?: string } {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    const stop = ending.sort((a, b) => b.length - a.length)[0];
    if (stop !== undefined) return { text: text.slice(0, end - stop.length), stop };
  }
  return { text };
}

/** Characters at the end of a text that could begin a stop string. */
function mostHeld(text: string, stops: readonly string[]): number {
  const held = Array.from({ length: text.length + 1 }, (_, length) => length).filter((length) =>
    stops.some((stop) => stop.length > length && stop.startsWith(text.slice(text.length - length))),
  );
  return held.at(-1) ?? 0;
}

describe("stop strings", () => {
  const word = (min: number, max: number) =>
    fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: min, maxLength: max });

  it("end a text where a search of the whole would, whatever its pieces, and hold back as little as can be", () => {
    const cases = fc.record({
      pieces: fc.array(word(0, 6), { maxLength: 12 }),
      stops: fc.array(word(1, 5), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(cases, ({ pieces, stops }) => {
        const matcher = new StopStrings(stops);
        let seen = "";
        let shown = "";
        for (const piece of pieces) {
          seen += piece;
          const { text, stop } = matcher.push(piece);
          shown += text;
          const expected = bruteForce(seen, stops);
          if (stop !== undefined) {
            expect({ text: shown, stop }).toEqual(expected);
            return;
          }
          expect(expected.stop).toBeUndefined();
          expect(shown).toBe(seen.slice(0, seen.length - mostHeld(seen, stops)));
        }
        expect(shown + matcher.flush()).toBe(seen);
      }),
      { numRuns: 3000, seed: 1 },
    );
  });

  it("take the longest of several that end in one place, and the first to end", () => {
    expect(new StopStrings(["b", "ab"]).push("cab")).toEqual({ text: "c", stop: "ab" });
    expect(new StopStrings(["abcd", "bc"]).push("abcd")).toEqual({ text: "a", stop: "bc" });
  });

  it("do not split a character", () => {
    const matcher = new StopStrings(["\u{1F600}!"]);
    expect(matcher.push("a\u{1F600}")).toEqual({ text: "a" });
    expect(matcher.push("\u{1F601}")).toEqual({ text: "\u{1F600}\u{1F601}" });
  });

  it("are refused where they are empty or half a character", () => {
    expect(() => new StopStrings(["a", ""])).toThrow(
      new ConfigError('stop: "", expected a text of at least one character'),
    );
    expect(() => new StopStrings(["\ud83d"])).toThrow(
      new ConfigError('stop: "\\ud83d", expected a text of at least one character'),
    );
  });
});
