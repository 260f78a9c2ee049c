import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bitsPerByte, heldOutWindows } from "./heldOut.ts";

describe("heldOutWindows", () => {
  it("starts with an end of text and fills the last window without labels", () => {
    expect(heldOutWindows([5, 6, 0, 7, 0], { sequenceLength: 3, eosTokenId: 0 })).toEqual({
      windows: 2,
      sequenceLength: 3,
      ids: Int32Array.of(0, 5, 6, 0, 7, 0),
      labels: Int32Array.of(5, 6, 0, 7, 0, -100),
      kvStart: Int32Array.of(0, 1, 1, 0, 1, 1),
      targets: 5,
    });
  });

  it("makes every token a target exactly once, after the token before it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 9 })),
        fc.integer({ min: 1, max: 7 }),
        (tokens, sequenceLength) => {
          const { ids, labels, targets } = heldOutWindows(tokens, { sequenceLength, eosTokenId: 0 });
          expect(Array.from(labels).filter((label) => label !== -100)).toEqual(tokens);
          expect(targets).toBe(tokens.length);
          expect(Array.from(ids).slice(0, tokens.length)).toEqual([0, ...tokens].slice(0, tokens.length));
        },
      ),
      { seed: 4 },
    );
  });
});

describe("bitsPerByte", () => {
  it("is 8 for bytes guessed at random", () => {
    expect(bitsPerByte(100 * Math.log(256), 100)).toBeCloseTo(8, 12);
  });
});
