import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError, OlmoeError } from "../errors.ts";
import { createRandom, uniform } from "../util/random.ts";
import { checkSampling, type SamplingOptions, sampleToken, TokenHistory } from "./sampling.ts";

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

/** The share of each token, by the definitions of transformers (filters) and vLLM (penalties), without any short cut. */
function defined(
  given: readonly number[],
  options: SamplingOptions,
  prompt: readonly number[],
  generated: readonly number[],
): number[] {
  const { temperature, topK = Infinity, topP = 1, minP = 0, typicalP = 1 } = options;
  const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 } = options;
  const scores = given.map((logit, id) => {
    const count = generated.filter((other) => other === id).length;
    const there = prompt.includes(id) || count > 0;
    const repeated = Math.fround(!there ? logit : logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty);
    return Math.fround(repeated - frequencyPenalty * count - (count > 0 ? presencePenalty : 0)) / temperature;
  });
  const softmax = (values: readonly number[]) => {
    const most = Math.max(...values);
    const total = values.reduce((sum, value) => sum + Math.exp(value - most), 0);
    return values.map((value) => Math.exp(value - most) / total);
  };
  let kept = scores;
  const keep = (wanted: (id: number) => boolean) => {
    kept = kept.map((score, id) => (wanted(id) ? score : -Infinity));
  };
  const order = (key: (id: number) => number) =>
    scores.map((_, id) => id).sort((a, b) => (key(a) === key(b) ? a - b : key(a) - key(b)));
  const fewest = (ids: readonly number[], share: number) => {
    let held = 0;
    const probabilities = softmax(kept);
    const count = ids.findIndex((id) => {
      held += probabilities[id] as number;
      return held >= share - 1e-12;
    });
    return count < 0 ? ids : ids.slice(0, count + 1);
  };
  const kth = [...scores].sort((a, b) => b - a)[topK - 1] ?? -Infinity;
  keep((id) => (scores[id] as number) >= kth);
  if (topP < 1) {
    const nucleus = new Set(
      fewest(
        order((id) => -(kept[id] as number)),
        topP,
      ),
    );
    keep((id) => nucleus.has(id));
  }
  const probabilities = softmax(kept);
  const bound = minP * Math.max(...probabilities) * (1 - 1e-12);
  keep((id) => (probabilities[id] as number) >= bound);
  if (typicalP < 1) {
    const surprise = softmax(kept).map((value) => -Math.log(value));
    const entropy = softmax(kept).reduce((sum, value) => sum + (value > 0 ? -value * Math.log(value) : 0), 0);
    const distance = (id: number) => Math.abs((surprise[id] as number) - entropy);
    const last = distance(fewest(order(distance), typicalP).at(-1) as number);
    keep((id) => distance(id) <= last + 1e-9);
  }
  return softmax(kept);
}

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

  it("draws what the definitions say, for any logits, options and history", () => {
    const values = fc.array(
      fc.integer({ min: -40, max: 40 }).map((value) => value / 8),
      { minLength: 1, maxLength: 60 },
    );
    const share = fc.option(fc.double({ min: 0.05, max: 1, noNaN: true }), { nil: undefined });
    const penalty = fc.option(fc.double({ min: -2, max: 2, noNaN: true }), { nil: undefined });
    const options = fc.record({
      temperature: fc.double({ min: 0.1, max: 4, noNaN: true }),
      topK: fc.option(fc.integer({ min: 1, max: 70 }), { nil: undefined }),
      topP: share,
      minP: share,
      typicalP: share,
      repetitionPenalty: fc.option(fc.double({ min: 0.5, max: 2, noNaN: true }), { nil: undefined }),
      frequencyPenalty: penalty,
      presencePenalty: penalty,
    });
    const ids = fc.array(fc.nat(1000), { maxLength: 12 });
    fc.assert(
      fc.property(values, options, ids, ids, fc.nat(), (logits, chosen, prompt, generated, seed) => {
        const within = (list: number[]) => list.map((id) => id % logits.length);
        const history = new TokenHistory(within(prompt));
        for (const id of within(generated)) history.add(id);
        const given = Float32Array.from(logits);
        const id = sampleToken(given, chosen, createRandom(seed, "test"), history);
        expect(given).toEqual(Float32Array.from(logits));
        const share = defined(logits, chosen, within(prompt), within(generated));
        const before = share.slice(0, id).reduce((sum, value) => sum + value, 0);
        const place = uniform(createRandom(seed, "test"));
        expect(share[id]).toBeGreaterThan(0);
        expect(place).toBeGreaterThanOrEqual(before - 1e-6);
        expect(place).toBeLessThanOrEqual(before + (share[id] as number) + 1e-6);
      }),
      { numRuns: 500, seed: 3 },
    );
  });

  it("adds the bias first, then divides or multiplies by the repetition penalty, then takes off the others", () => {
    const history = new TokenHistory([0, 1]);
    for (const id of [2, 2, 2, 3]) history.add(id);
    const options = { temperature: 0, repetitionPenalty: 2, frequencyPenalty: 0.5, presencePenalty: 0.25 };
    const best = (...logits: number[]) =>
      sampleToken(Float32Array.from(logits), { ...options, logitBias: { 1: 3 } }, createRandom(1, ""), history);
    // 4 / 2; (-1 + 3) / 2; 8 / 2 - 3 * 0.5 - 0.25; 5 / 2 - 0.5 - 0.25; 1.5.
    expect(best(4, -1, 8, 5, 1.5)).toBe(2);
    expect(best(4, 1.5, 8, 5, 1.5)).toBe(1);
    expect(best(4, -1, 7, 5, 1.9)).toBe(0);
    // -1 * 2 for what was there, -1.5 for what was not.
    expect(best(-1, -6, -1, -1, -1.5)).toBe(4);
  });

  it("refuses a bias for an id that there is not, and what is no id", () => {
    expect(() => checkSampling({ temperature: 1, logitBias: { 4: 1, 7: -1, 9: 0 } }, 7)).toThrow(
      new ConfigError("sampling: logitBias: there is no id 7, 9, expected 0..6"),
    );
    expect(() => checkSampling({ temperature: 1, logitBias: { "-1": 1 } })).toThrow("sampling: logitBias.-1: ");
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
