import { expect, it } from "vitest";
import { memoryTrace, type TraceHeader } from "../src/formats/trace.ts";
import { TINY_HEADER } from "../test/traces.ts";
import { type Dial, interventionOf, withRoutes } from "./interventionData.ts";

const DIAL: Dial = {
  kind: "uniform",
  layers: "all",
  tokens: "all",
  experts: "",
  value: 2,
  trace: "",
  sequence: 0,
  on: true,
};

it("makes interventions of dials", () => {
  const dials: readonly Partial<Dial>[] = [
    { kind: "mask", experts: "3, 5-6 3" },
    { kind: "top_k", layers: "0, 2-3" },
    { kind: "scale", experts: "1", layers: "" },
    { kind: "replay", trace: "text 1: a", sequence: 2, tokens: "4-" },
    {},
  ];
  expect(dials.map((changes) => interventionOf({ ...DIAL, ...changes }))).toEqual([
    { kind: "mask", layers: "all", experts: [3, 5, 6] },
    { kind: "top_k", layers: [0, 2, 3], k: 2 },
    { kind: "scale", layers: "all", experts: [1], factor: 2 },
    { kind: "replay", layers: "all", tokens: { from: 4 }, trace: "text 1: a", sequence: 2 },
    { kind: "uniform", layers: "all" },
  ]);
});

it("reads ranges of tokens, whose last position belongs to them", () => {
  const typed = ["", " all ", "0-11", "12-", "5", "0", " 3 - 3 "];
  expect(typed.map((tokens) => interventionOf({ ...DIAL, tokens }).tokens)).toEqual([
    undefined,
    undefined,
    { from: 0, to: 12 },
    { from: 12 },
    { from: 5, to: 6 },
    { from: 0, to: 1 },
    { from: 3, to: 4 },
  ]);
});

it.each<[Partial<Dial>, string]>([
  [{ kind: "mask" }, 'Mask experts: experts "", expected numbers such as 3, 12'],
  [{ kind: "mask", experts: "6-5" }, 'Mask experts: experts "6-5", expected numbers such as 3, 12'],
  [{ layers: "some" }, 'Equal weights: layers "some", expected all, or numbers such as 0, 3-5'],
  ...["-5", "5-4", "1.5", "0, 3", "-", "first"].map((tokens): [Partial<Dial>, string] => [
    { tokens },
    `Equal weights: tokens "${tokens}", expected all, or positions such as 0-11, 12- or 5`,
  ]),
  [{ kind: "replay" }, "Replay routing: no trace, expected one that is open"],
])("says what is wrong with %j", (changes, message) => {
  expect(() => interventionOf({ ...DIAL, ...changes })).toThrow(new Error(message));
});

const HEADER: TraceHeader = { ...TINY_HEADER, topK: 1, slots: 1 };
const run = (sequence: number) => ({ sequence, source: 0, position: 0, tokens: 2 });
const OPEN = [
  {
    name: "two",
    trace: memoryTrace(HEADER, [
      { start: 0, tokens: 4, runs: [run(0), run(1)], experts: Int16Array.of(0, 1, 2, 3, 3, 2, 1, 0) },
    ]),
  },
];

it("sends a replay with the route that it names, and others as they are", async () => {
  const mask = interventionOf({ ...DIAL, kind: "mask", experts: "1" });
  const replay = interventionOf({ ...DIAL, kind: "replay", layers: "2", tokens: "1-", trace: "two", sequence: 1 });
  expect(await withRoutes([mask, replay], OPEN)).toEqual([
    { kind: "mask", layers: "all", experts: [1] },
    {
      kind: "replay",
      layers: [2],
      tokens: { from: 1 },
      trace: { layers: [0, 2], positions: 2, slots: 1, experts: [2, 3, 1, 0] },
    },
  ]);
});

it("says which trace or sequence is not there", async () => {
  const replay = (trace: string, sequence: number) =>
    withRoutes([interventionOf({ ...DIAL, kind: "replay", trace, sequence })], OPEN);
  await expect(replay("three", 0)).rejects.toThrow('Replay routing: trace "three", expected one that is open');
  await expect(replay("two", 2)).rejects.toThrow('Replay routing: sequence 2, "two" has no such sequence');
});
