import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError, OlmoeError } from "../errors.ts";
import { createRandom } from "../util/random.ts";
import { type SamplingOptions, sampleToken } from "./sampling.ts";

const DRAWS = 20_000;

/** Share of each token among many draws. */
function shares(logits: number[], options: SamplingOptions): number[] {
  const random = createRandom(7, "test");
  const counts = new Float64Array(logits.length);
  for (let draw = 0; draw < DRAWS; draw++) {
    const id = sampleToken(Float32Array.from(logits), options, random);
    counts[id] = (counts[id] as number) + 1;
  }
  return [...counts].map((count) => count / DRAWS);
}

/** Logits of these probabilities. */
const logs = (...probabilities: number[]) => probabilities.map((probability) => Math.log(probability));

describe("sampleToken", () => {
  it("takes the largest logit at temperature 0, ties to the lower id", () => {
    const random = createRandom(1, "test");
    const pick = (...logits: number[]) => sampleToken(Float32Array.from(logits), { temperature: 0 }, random);
    expect([pick(1, 3, 3, 2), pick(-5), pick(-Infinity, -4, -4)]).toEqual([1, 0, 1]);
  });

  it("draws each token as often as its probability says", () => {
    expect(shares(logs(0.5, 0.2, 0.3), { temperature: 1 })).toBeAllClose([0.5, 0.2, 0.3], { atol: 0.015 });
  });

  it("divides logits by the temperature", () => {
    // Squared and renormalised: 0.25, 0.04, 0.09 of 0.38.
    const expected = [0.25 / 0.38, 0.04 / 0.38, 0.09 / 0.38];
    expect(shares(logs(0.5, 0.2, 0.3), { temperature: 0.5 })).toBeAllClose(expected, { atol: 0.015 });
  });

  it("keeps the topK most likely, and those as likely as the last of them", () => {
    expect(shares(logs(0.4, 0.1, 0.3, 0.2), { temperature: 1, topK: 2 })).toBeAllClose([4 / 7, 0, 3 / 7, 0], {
      atol: 0.015,
    });
    expect(shares(logs(0.4, 0.2, 0.2, 0.2), { temperature: 1, topK: 2 })).toBeAllClose([0.4, 0.2, 0.2, 0.2], {
      atol: 0.015,
    });
  });

  it("keeps the fewest tokens that hold topP", () => {
    expect(shares(logs(0.1, 0.5, 0.15, 0.25), { temperature: 1, topP: 0.7 })).toBeAllClose([0, 2 / 3, 0, 1 / 3], {
      atol: 0.015,
    });
  });

  it("applies topP to what topK left, renormalised", () => {
    // Of 0.5, 0.3, 0.2 the first two remain as 0.625 and 0.375: the first alone holds 0.6.
    expect(shares(logs(0.5, 0.3, 0.2), { temperature: 1, topK: 2, topP: 0.6 })).toEqual([1, 0, 0]);
    expect(shares(logs(0.5, 0.3, 0.2), { temperature: 1, topP: 0.6 })[1]).toBeGreaterThan(0);
  });

  it("always keeps the most likely token", () => {
    expect(shares([1, 1, 1, 1], { temperature: 1, topP: 1e-300 })).toEqual([1, 0, 0, 0]);
    expect(shares([2, 1, 0], { temperature: 1e-300 })).toEqual([1, 0, 0]);
    expect(shares([2, 1, 0], { temperature: 1, topK: 1 })).toEqual([1, 0, 0]);
  });

  it("never draws a token outside the filters, whatever the logits", () => {
    const logits = fc.array(
      fc.integer({ min: -40, max: 40 }).map((value) => value / 8),
      { minLength: 1, maxLength: 40 },
    );
    const options = { topK: fc.integer({ min: 1, max: 50 }), topP: fc.double({ min: 0.01, max: 1, noNaN: true }) };
    fc.assert(
      fc.property(logits, fc.record(options), fc.integer(), (values, { topK, topP }, seed) => {
        const id = sampleToken(Float32Array.from(values), { temperature: 1, topK, topP }, createRandom(seed, "test"));
        const above = values.filter((value) => value > (values[id] as number));
        const most = Math.max(...values);
        const weight = (some: number[]) => some.reduce((sum, value) => sum + Math.exp(value - most), 0);
        const kept = [...values].sort((a, b) => b - a).filter((value, _, all) => value >= (all[topK - 1] ?? -Infinity));
        expect(above.length).toBeLessThan(topK);
        expect(weight(above) / weight(kept)).toBeLessThan(topP + 1e-9);
      }),
    );
  });

  it("draws the same tokens from the same seed", () => {
    const draw = () => {
      const random = createRandom(3, "test");
      return Array.from({ length: 20 }, () => sampleToken(new Float32Array(100), { temperature: 1 }, random));
    };
    expect(draw()).toEqual(draw());
  });

  it("lists every fault of the options", () => {
    const draw = () =>
      sampleToken(Float32Array.of(0), { temperature: -1, topK: 0.5, topP: 1.5 }, createRandom(1, "test"));
    expect(draw).toThrow(
      new ConfigError(
        "sampling: 3 faults\n  - temperature: -1, expected number to be >=0\n  - topK: 0.5, expected int, received number\n" +
          "  - topP: 1.5, expected number to be <=1",
      ),
    );
  });

  it("names the first logit that is not a number", () => {
    const draw = (...logits: number[]) =>
      sampleToken(Float32Array.from(logits), { temperature: 0 }, createRandom(1, ""));
    const hint = "the model's weights are damaged or its training diverged: use an earlier checkpoint";
    expect(() => draw(1, NaN, NaN)).toThrow(
      new OlmoeError("E_LOGITS", "sampling: logit 1 of 3 is NaN, expected a number", { hint }),
    );
    expect(() => draw(1, 2, Infinity)).toThrow("sampling: logit 2 of 3 is Infinity, expected a number");
    expect(() => draw(-Infinity, -Infinity)).toThrow("sampling: none of 2 logits is above -Infinity");
  });
});
