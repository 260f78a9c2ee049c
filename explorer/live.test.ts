import { expect, it } from "vitest";
import { NO_EXPERT } from "../src/formats/trace.ts";
import { interventionOf } from "./interventionData.ts";
import { joinTokens, splitTokens } from "./live.ts";

const prompt = {
  position: 0,
  ids: [1, 2],
  texts: ["a", "Ġb"],
  experts: [0, 1, 2, 3, /* layer 1 */ 4, 5, 6, 7],
  weights: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
};
/** With three experts for its token. */
const next = { position: 2, ids: [3], texts: ["c"], experts: [1, 2, 3, 4, 5, 6], weights: [1, 2, 3, 4, 5, 6] };

it("takes tokens apart that came together", () => {
  expect(splitTokens(prompt, [0, 1], true)).toEqual([
    { id: 1, text: "a", prompt: true, experts: [0, 1, 4, 5], weights: [0.1, 0.2, 0.5, 0.6] },
    { id: 2, text: " b", prompt: true, experts: [2, 3, 6, 7], weights: [0.3, 0.4, 0.7, 0.8] },
  ]);
});

it("joins what came to one chunk, with empty slots where a token has fewer experts", () => {
  expect(joinTokens([prompt, next], [0, 1])).toEqual({
    start: 0,
    tokens: 3,
    slots: 3,
    runs: [{ sequence: 0, source: 0, position: 0, tokens: 3 }],
    ids: Int32Array.of(1, 2, 3),
    experts: Int16Array.of(0, 1, NO_EXPERT, 2, 3, NO_EXPERT, 1, 2, 3, 4, 5, NO_EXPERT, 6, 7, NO_EXPERT, 4, 5, 6),
    weights: Float32Array.of(0.1, 0.2, 0, 0.3, 0.4, 0, 1, 2, 3, 0.5, 0.6, 0, 0.7, 0.8, 0, 4, 5, 6),
  });
  expect(joinTokens([], [0]).tokens).toBe(0);
});

it("makes interventions of dials", () => {
  const dial = { layers: "all", experts: "", value: 2, on: true } as const;
  expect([
    interventionOf({ ...dial, kind: "mask", experts: "3, 5-6 3" }),
    interventionOf({ ...dial, kind: "top_k", layers: "0, 2-3" }),
    interventionOf({ ...dial, kind: "scale", experts: "1", layers: "" }),
    interventionOf({ ...dial, kind: "uniform" }),
  ]).toEqual([
    { kind: "mask", layers: "all", experts: [3, 5, 6] },
    { kind: "top_k", layers: [0, 2, 3], k: 2 },
    { kind: "scale", layers: "all", experts: [1], factor: 2 },
    { kind: "uniform", layers: "all" },
  ]);
  for (const [changes, message] of [
    [{ kind: "mask" }, 'Mask experts: experts "", expected numbers such as 3, 12'],
    [{ kind: "mask", experts: "6-5" }, 'Mask experts: experts "6-5", expected numbers such as 3, 12'],
    [{ kind: "uniform", layers: "some" }, 'Equal weights: layers "some", expected all, or numbers such as 0, 3-5'],
  ] as const) {
    expect(() => interventionOf({ ...dial, ...changes })).toThrow(message);
  }
});
