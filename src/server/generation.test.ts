import { expect, it } from "vitest";
import { fakeModel } from "../../test/fakeModel.ts";
import { ConfigError } from "../errors.ts";
import { parseGeneration } from "./generation.ts";

const { model } = fakeModel(() => [], { numHiddenLayers: 2, numExperts: 8 });
const REST = { maxTokens: 3, temperature: 0, seed: 0 };
const ROUTE = { layers: [0, 1], positions: 1, slots: 2, experts: [1, 2, -1, 7] };
const replay = (changes: object) => ({ kind: "replay", trace: { ...ROUTE, ...changes } });

it("takes a prompt or a conversation", () => {
  const messages = [{ role: "user", content: "hm" }];
  expect([{ prompt: "hm" }, { messages }].map((text) => parseGeneration(model, { ...text, ...REST }))).toEqual([
    { ...REST, prompt: "hm", interventions: [] },
    { ...REST, messages, interventions: [] },
  ]);
});

it("makes arrays of a replay's lists of numbers", () => {
  const weights = [0.5, 0.25, 0, 0.125];
  const interventions = [{ kind: "uniform" }, { ...replay({ weights }), layers: [1], tokens: { from: 0, to: 4 } }];
  const trace = { ...ROUTE, experts: Int16Array.of(1, 2, -1, 7), weights: Float32Array.from(weights) };
  expect(parseGeneration(model, { prompt: "", ...REST, interventions }).interventions).toEqual([
    { kind: "uniform", layers: "all", tokens: { from: 0 } },
    { kind: "replay", layers: [1], tokens: { from: 0, to: 4 }, trace },
  ]);
});

it.each<[object, string]>([
  [{}, "prompt: expected a prompt or messages, one of the two"],
  [
    { prompt: "a", messages: [{ role: "user", content: "b" }] },
    "prompt: expected a prompt or messages, one of the two",
  ],
  [{ messages: [] }, "messages: [], expected array to have >=1 items"],
  [{ messages: [{ role: "user", content: "b", name: "c" }] }, "messages.0.name: unknown key"],
  [{ prompt: "", chat: true }, "chat: unknown key"],
  [{ prompt: "", interventions: ["mask"] }, 'interventions.0: "mask", expected object, received string'],
  [{ prompt: "", interventions: [{ kind: "mask" }] }, "interventions.0.experts: missing, expected array"],
  [
    { prompt: "", interventions: [replay({ experts: "0, 1" })] },
    'interventions.0.trace.experts: "0, 1", expected a list of experts\' numbers, or -1 for none',
  ],
  [
    { prompt: "", interventions: [replay({ experts: [0, 1, 2, 2 ** 15] })] },
    "interventions.0.trace.experts: 32768, expected a list of experts' numbers, or -1 for none",
  ],
  [
    { prompt: "", interventions: [replay({ experts: [0, 1, 2] })] },
    "interventions.0.trace.experts: 3 of them, expected 4",
  ],
  [
    { prompt: "", interventions: [replay({ experts: [0, 1, 2, 8] })] },
    "interventions.0.trace.experts: 8 at position 0, expected different ones of 0..7, or -1 for none",
  ],
  [
    { prompt: "", interventions: [replay({ weights: [null] })] },
    "interventions.0.trace.weights: null, expected a list of numbers",
  ],
  [{ prompt: "", interventions: [replay({ start: 0 })] }, "interventions.0.trace.start: unknown key"],
])("says what is wrong with %j", (request, message) => {
  expect(() => parseGeneration(model, { ...request, ...REST })).toThrow(new ConfigError(`generate: ${message}`));
});
