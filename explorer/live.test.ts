import { expect, it } from "vitest";
import { NO_EXPERT } from "../src/formats/trace.ts";
import { answerOf, joinTokens, splitTokens } from "./live.ts";

const prompt = {
  position: 0,
  prompt: true,
  ids: [1, 2],
  texts: ["a", "Ġb"],
  experts: [0, 1, 2, 3, /* layer 1 */ 4, 5, 6, 7],
  weights: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
};
/** With three experts for its token. */
const next = {
  position: 2,
  prompt: false,
  ids: [3],
  texts: ["c"],
  experts: [1, 2, 3, 4, 5, 6],
  weights: [1, 2, 3, 4, 5, 6],
};

it("takes tokens apart that came together", () => {
  expect(splitTokens(prompt, [0, 1])).toEqual([
    { id: 1, text: "a", entry: "a", prompt: true, experts: [0, 1, 4, 5], weights: [0.1, 0.2, 0.5, 0.6] },
    { id: 2, text: " b", entry: "Ġb", prompt: true, experts: [2, 3, 6, 7], weights: [0.3, 0.4, 0.7, 0.8] },
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

it("puts the answer together, a character's bytes from several tokens", () => {
  const token = (entry: string, prompt = false) => ({ entry, prompt });
  expect(answerOf([token("<s>", true), token("Ġth"), token("Ã"), token("©Ċ"), token("<|end|>")])).toBe(" thé\n<|end|>");
  expect(answerOf([token("a"), token("Ã")])).toBe("a\uFFFD");
  expect(answerOf([token("a", true)])).toBe("");
});
