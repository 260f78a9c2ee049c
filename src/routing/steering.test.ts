import { describe, expect, it } from "vitest";
import { expertUse, steeringInterventions, useDifferences } from "./steering.ts";

describe("the use of experts", () => {
  it("counts the tokens that each expert serves, and empty slots for none", async () => {
    // Two layers, two slots.
    const traces = [
      { tokens: 2, experts: Int16Array.of(0, 1, 1, -1, 2, 0, 2, 1) },
      { tokens: 1, experts: Int16Array.of(1, 2, 2, 0) },
    ];
    const engine = { trace: async (ids: ArrayLike<number>) => traces[ids[0] as number] as (typeof traces)[number] };
    const sequences = [0, 1].map((id) => ({ source: "a", ids: Int32Array.of(id) }));
    expect(await expertUse(engine, sequences, { layers: 2, numExperts: 3 })).toEqual({
      tokens: 3,
      counts: [Float64Array.of(1, 3, 1), Float64Array.of(2, 1, 3)],
    });
    expect(await expertUse(engine, [], { layers: 1, numExperts: 2 })).toEqual({
      tokens: 0,
      counts: [new Float64Array(2)],
    });
  });

  it("differs by shares, the most different first, with z of two proportions", () => {
    const towards = { tokens: 100, counts: [Float64Array.of(50, 100, 50), Float64Array.of(20, 90, 90)] };
    const away = { tokens: 400, counts: [Float64Array.of(250, 400, 150), Float64Array.of(200, 300, 300)] };
    const differences = useDifferences(towards, away, [1, 4]);
    // 0.2 and 0.5 pool to 0.44: z = -0.3 / sqrt(0.44 * 0.56 * (1 / 100 + 1 / 400)).
    const z = (difference: number, pooled: number) => difference / Math.sqrt(pooled * (1 - pooled) * 0.0125);
    expect(differences.map(({ z: found }) => found)).toBeAllClose(
      [z(-0.3, 0.44), z(0.15, 0.78), z(0.15, 0.78), z(-0.125, 0.6), z(0.125, 0.4), 0],
      { atol: 1e-12 },
    );
    expect(differences.map(({ layer, expert, difference }) => [layer, expert, difference])).toEqual([
      [4, 0, -0.3],
      [4, 1, 0.15000000000000002],
      [4, 2, 0.15000000000000002],
      [1, 0, -0.125],
      [1, 2, 0.125],
      [1, 1, 0],
    ]);
    expect(differences[0]).toMatchObject({ towards: 0.2, away: 0.5 });
  });

  it("becomes a bias with the sign of the difference, times the strength", () => {
    const one = (layer: number, expert: number, difference: number) => {
      return { layer, expert, difference, towards: 0, away: 0, z: 0 };
    };
    const differences = [one(4, 7, -0.3), one(4, 2, 0.2), one(0, 1, 0.1), one(4, 0, -0.1)];
    expect(steeringInterventions(differences, 1.5)).toEqual([
      { kind: "bias", experts: [1], value: 1.5, layers: [0] },
      { kind: "bias", experts: [2], value: 1.5, layers: [4] },
      { kind: "bias", experts: [0, 7], value: -1.5, layers: [4] },
    ]);
    expect(steeringInterventions([], 1)).toEqual([]);
  });
});
