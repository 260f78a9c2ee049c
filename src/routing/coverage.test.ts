/** Whether intervals are as wide as they should be: of text whose shares are known, 95 of 100 should have them. */
import { expect, it } from "vitest";
import { traceOf } from "../../test/routingTraces.ts";
import { createRandom, uniform } from "../util/random.ts";
import { analyse } from "./analysis.ts";
import { coactivation } from "./coactivation.ts";
import { crossLayerRouting } from "./crossLayer.ts";
import { weightMass } from "./mass.ts";
import type { Interval } from "./resample.ts";
import { vocabularySpecialisation } from "./vocabulary.ts";

const TRACES = 100;
const SEQUENCE_TOKENS = 6;

/**
 * Sequences that differ from each other: one has expert 1 beside 0 for half of its tokens or for nearly all, 0.7 of the time on
 * average. The next layer's first expert is 2 where there is expert 1, which weighs 0.5, else 0.25.
 */
function drawnTrace(number: number, sequences: number) {
  const random = createRandom(number, "coverage");
  const runs = Array.from({ length: sequences }, (_, sequence) => {
    const likely = uniform(random) < 0.5 ? 0.5 : 0.9;
    const tokens = Array.from({ length: SEQUENCE_TOKENS }, () => {
      const has = uniform(random) < likely;
      const weights = [has ? 0.5 : 0.25, 0];
      const experts = has
        ? [
            [0, 1],
            [2, 0],
          ]
        : [
            [0, 2],
            [1, 0],
          ];
      return { id: 0, experts, weights: [weights, weights] };
    });
    return { sequence, tokens };
  });
  return traceOf([runs], { numExperts: 3, slots: 2, layers: [0, 1] });
}

// Each sequence a unit, groups of several, and a sample of them.
it.each([30, 100, 400])("intervals over %i sequences have the true value about 95 times of 100", async (sequences) => {
  const covered = { pair: 0, path: 0, mass: 0, words: 0 };
  const around = { ...covered };
  const note = (name: keyof typeof covered, value: number, interval: Interval | undefined, truth: number) => {
    const [low, high] = interval!;
    if (low <= truth && truth <= high) covered[name] += 1;
    if (low <= value && value <= high) around[name] += 1;
  };
  for (let number = 0; number < TRACES; number++) {
    const options = { seed: number, resamples: 200 };
    const [pairs, paths, mass, words] = await analyse(drawnTrace(number, sequences), [
      coactivation(options),
      crossLayerRouting(options),
      weightMass(options),
      // The second layer's first expert is 2 as often as the first layer has expert 1.
      vocabularySpecialisation({ ...options, k: 1 }),
    ]);
    const pair = pairs.perLayer[0]!.strongest.find(({ expert, other }) => expert === 0 && other === 1)!;
    note("pair", pair.share, pair.interval, 0.7);
    const [path] = paths.domains[0]!.perStep;
    note("path", path!.strongest[2], path!.strongestInterval, 0.7);
    note("mass", mass.perLayer[0]!.cumulative[0]!, mass.perLayer[0]!.intervals?.[0], 0.7 * 0.5 + 0.3 * 0.25);
    note("words", words.perLayer[1]!.specialisation, words.perLayer[1]!.interval, 0.7);
  }
  for (const [name, times] of Object.entries(covered)) {
    expect(times, name).toBeGreaterThanOrEqual(90);
    // All of them would say that intervals are too wide.
    expect(times, name).toBeLessThan(TRACES);
  }
  expect(around).toEqual({ pair: TRACES, path: TRACES, mass: TRACES, words: TRACES });
});

it("intervals follow from the seed", async () => {
  const trace = drawnTrace(0, 50);
  const run = (seed: number) => {
    const options = { seed, resamples: 100 };
    return analyse(trace, [
      coactivation(options),
      crossLayerRouting(options),
      weightMass(options),
      vocabularySpecialisation(options),
    ]);
  };
  const [first, again, other] = [await run(1), await run(1), await run(2)];
  expect(again).toEqual(first);
  expect(other[0].perLayer[0]!.strongest[0]!.share).toBe(first[0].perLayer[0]!.strongest[0]!.share);
  expect(other[1].domains[0]!.perStep[0]!.strongestInterval).not.toEqual(
    first[1].domains[0]!.perStep[0]!.strongestInterval,
  );
});

it("intervals need two sequences", async () => {
  const results = await analyse(drawnTrace(0, 1), [
    coactivation(),
    crossLayerRouting(),
    weightMass(),
    vocabularySpecialisation({ leastOccurrences: 1 }),
  ]);
  for (const result of results) {
    expect(JSON.stringify(result)).not.toMatch(/interval/i);
  }
});
