import { expect, it } from "vitest";
import { TINY_HEADER } from "../../test/traces.ts";
import { recordTrace } from "./recordTrace.ts";

it("leaves no failure without a handler while an earlier sequence is being written", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const rows = { tokens: 1, experts: new Int16Array(4), weights: new Float32Array(4), ids: Int32Array.of(1) };
  const stopped = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const engine = {
    trace: (ids: ArrayLike<number>) => (ids[0] === 0 ? Promise.resolve(rows) : stopped.then(() => rows)),
  };
  const sequences = Array.from({ length: 20 }, (_, id) => ({ source: "a", ids: Int32Array.of(id) }));
  const sink = {
    header: TINY_HEADER,
    add: async () => {
      controller.abort(new Error("stop"));
      // Longer than Node waits with an unhandled rejection, which would fail the test.
      await new Promise((resolve) => setTimeout(resolve, 5));
    },
  };
  await expect(recordTrace(engine, sequences, sink, { signal })).rejects.toThrow("stop");
});
