import { expect, it } from "vitest";
import { TINY_HEADER } from "../../test/traces.ts";
import { memoryTrace } from "./trace.ts";
import { routeOf } from "./traceRoute.ts";

it("puts the runs of a sequence together, whatever chunks they are in, and knows nothing of what lies between", async () => {
  const header = { ...TINY_HEADER, layers: [0, 1] };
  const run = (sequence: number, position: number, tokens: number) => ({ sequence, source: 0, position, tokens });
  const trace = memoryTrace(header, [
    { start: 0, tokens: 2, runs: [run(0, 0, 1), run(1, 1, 1)], experts: Int16Array.of(0, 1, 1, 2, 2, 3, 3, 0) },
    { start: 2, tokens: 2, runs: [run(1, 3, 2)], experts: Int16Array.of(0, 1, 1, 0, 2, 1, 3, 2) },
  ]);
  expect(await routeOf(trace, 1, false)).toEqual({
    layers: [0, 1],
    positions: 5,
    slots: 2,
    experts: Int16Array.of(-1, -1, 1, 2, -1, -1, 0, 1, 1, 0, -1, -1, 3, 0, -1, -1, 2, 1, 3, 2),
  });
  expect(await routeOf(trace, 2, false)).toBe(undefined);
});
