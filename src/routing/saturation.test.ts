import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { churnOf } from "../train/probe.ts";
import { routerSaturation, routingChurn } from "./saturation.ts";

const none = { resamples: 0 };

describe("saturation and churn", () => {
  const named = (name: string, experts: number[][], step?: number) => ({
    name,
    trace: traceOf(
      [[{ tokens: tokensOf(experts.slice(0, 2)) }], [{ sequence: 1, tokens: tokensOf(experts.slice(2), [2, 3]) }]],
      {
        numExperts: 4,
        slots: 2,
        ...(step === undefined ? {} : { step }),
      },
    ),
  });
  const early = named(
    "early",
    [
      [0, 1],
      [2, 3],
      [0, 1],
      [0, 1],
    ],
    10,
  );
  const late = named("late", [[1, 0], [2, 1], [2, 3], [0]], 20);

  it("is the share of the final experts that a checkpoint has too", async () => {
    const both = await routerSaturation([early, late], none);
    // Shared: 2 of 2, 1 of 2, 0 of 2, 1 of 1.
    expect(both).toEqual({
      analysis: "saturation",
      definition:
        "Mean over tokens of the share of the final checkpoint's first k experts that are among the checkpoint's own first k for the same token (paper, equation 5).",
      k: 2,
      layers: [0],
      tokens: 4,
      final: "late",
      random: 0.5,
      checkpoints: [{ name: "early", step: 10, shares: [4 / 7] }],
    });
    const first = await routerSaturation([early, late], { ...none, k: 1 });
    expect(first).toMatchObject({ k: 1, random: 0.25, checkpoints: [{ shares: [2 / 4] }] });
  });

  it("is 1 for a trace and itself", async () => {
    const { checkpoints } = await routerSaturation([late, late], { resamples: 50 });
    expect(checkpoints).toMatchObject([{ shares: [1], intervals: [[1, 1]] }]);
  });

  it("counts changes from trace to trace as the monitor of training does", async () => {
    const { changes, k } = await routingChurn([early, late, late], none);
    expect(k).toBe(2);
    // Changed: the second, third and fourth token; new: 1, then 2 and 3, of 7.
    expect(changes).toEqual([
      { before: "early", now: "late", tokens: { shares: [3 / 4] }, slots: { shares: [3 / 7] } },
      { before: "late", now: "late", tokens: { shares: [0] }, slots: { shares: [0] } },
    ]);
    const sets = [early, late].map(({ name }) =>
      Int32Array.from(name === "early" ? [0, 1, 2, 3, 0, 1, 0, 1] : [0, 1, 1, 2, 2, 3, -1, 0]),
    );
    expect(churnOf(sets[0]!, sets[1]!, 4)).toEqual({ tokens: 3 / 4, slots: 3 / 7 });
  });

  it("refuses traces of different texts, of different shapes, and a single one", async () => {
    const refusal = async (...traces: Parameters<typeof routerSaturation>[0]) => {
      try {
        await routerSaturation(traces);
        return "none";
      } catch (error) {
        return (error as Error).message;
      }
    };
    const other = {
      name: "other",
      trace: traceOf([[{ tokens: tokensOf([[0], [0], [0], [0]], [0, 1, 2, 9]) }]], { numExperts: 4, slots: 1 }),
    };
    const short = { name: "short", trace: traceOf([[{ tokens: tokensOf([[0]]) }]], { numExperts: 4, slots: 1 }) };
    const wide = {
      name: "wide",
      trace: traceOf([[{ tokens: tokensOf([[0], [0], [0], [0]]) }]], { numExperts: 5, slots: 1 }),
    };
    const deep = {
      name: "deep",
      trace: traceOf([[{ tokens: [0, 1, 2, 3].map((id) => ({ id, experts: [[0], [0]] })) }]], {
        numExperts: 4,
        slots: 1,
        layers: [0, 1],
      }),
    };
    expect([
      await refusal(early, other),
      await refusal(early, short),
      await refusal(early, wide),
      await refusal(early, deep),
      await refusal(early),
    ]).toEqual([
      "compare: token 3 is id 3 in early and id 9 in other, expected traces of the same text",
      "compare: early has 4 tokens, short has 1 tokens",
      "compare: early has 4 experts, wide has 5 experts",
      "compare: early has layers 0, deep has layers 0, 1",
      "compare: 1 traces, expected at least 2 of the same text",
    ]);
  });
});
