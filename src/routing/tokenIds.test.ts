import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { analyse } from "./analysis.ts";
import { tokenIdRouting } from "./tokenIds.ts";

describe("token ids", () => {
  it("counts ids by the share that an expert has of them", async () => {
    const trace = traceOf(
      [
        [
          { sequence: 0, source: 0, tokens: tokensOf([[0], [0], [0], [1], [1], [1]], [5, 5, 5, 5, 6, 7]) },
          { sequence: 1, source: 1, tokens: tokensOf([[1], [1]], [5, 5]) },
        ],
      ],
      { numExperts: 2, slots: 1, sources: ["a", "b"] },
    );
    const [result] = await analyse(trace, [tokenIdRouting({ leastOccurrences: 2, bins: 4 })]);
    expect(result).toMatchObject({ uniform: 0.5, leastOccurrences: 2, tokens: 8, k: 1, layers: [0] });
    // Id 5 of "a" goes to expert 0 three times of four, that of "b" never.
    expect(result.histograms).toEqual([
      { layer: 0, expert: 0, domain: "a", ids: 1, counts: [0, 0, 0, 1], mean: 0.75 },
      { layer: 0, expert: 0, domain: "b", ids: 1, counts: [1, 0, 0, 0], mean: 0 },
    ]);
    await expect(analyse(trace, [tokenIdRouting({ experts: [2] })])).rejects.toThrow(
      "experts: 2, the model has 0 to 1",
    );
  });
});
