import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { memoryTrace } from "../formats/trace.ts";
import { analyse } from "./analysis.ts";
import { coactivation } from "./coactivation.ts";
import { crossLayerRouting } from "./crossLayer.ts";
import { domainSpecialisation, specialisationTest } from "./domains.ts";
import { loadBalance } from "./load.ts";
import { weightMass } from "./mass.ts";

const none = { resamples: 0 };

describe("analyse", () => {
  const trace = traceOf([[{ tokens: tokensOf([[0]]) }], [{ position: 1, tokens: tokensOf([[1], [1]]) }]], {
    numExperts: 2,
    slots: 1,
  });

  it("reads a trace once and says how far it is", async () => {
    const progress: unknown[] = [];
    let reads = 0;
    const chunks = (selection?: object) => {
      reads += 1;
      return trace.chunks(selection);
    };
    const watched = { ...trace, chunks };
    const [one, , load] = await analyse(watched, [coactivation(), domainSpecialisation(none), loadBalance(none)], {
      onProgress: (now) => progress.push(now),
    });
    expect([one.tokens, load.perLayer[0]!.shares]).toEqual([3, [1 / 3, 2 / 3]]);
    expect(reads).toBe(1);
    expect(progress).toEqual([
      { tokens: 1, of: 3 },
      { tokens: 3, of: 3 },
    ]);
  });

  it("works on one token, and on none", async () => {
    const single = traceOf([[{ tokens: tokensOf([[1]]) }]], { numExperts: 2, slots: 1 });
    const [domains, test] = await analyse(single, [domainSpecialisation(), specialisationTest()]);
    expect(domains.domains).toEqual([{ name: "text", tokens: 1, layers: [{ layer: 0, shares: [0, 1] }] }]);
    expect(test.mean).toMatchObject({ information: 0, p: 1 });
    const empty = traceOf([], { numExperts: 2, slots: 1 });
    const [none, load, paths] = await analyse(empty, [domainSpecialisation(), loadBalance(), crossLayerRouting()]);
    expect([none.tokens, none.domains, load.perLayer[0]!.entropy, paths.domains]).toEqual([0, [], 0, []]);
  });

  it("refuses what a trace does not have", async () => {
    const fault = (work: Promise<unknown>) => work.then(String, (error: Error) => error.message);
    const bare = memoryTrace({ ...trace.header, columns: ["ids", "experts"] }, []);
    expect([
      await fault(analyse(trace, [loadBalance({ layers: [0, 9] })])),
      await fault(analyse(trace, [loadBalance({ k: 2 })])),
      await fault(analyse(trace, [loadBalance({ resamples: -1 })])),
      await fault(analyse(bare, [weightMass()])),
    ]).toEqual([
      "layers: 9, the trace has 0",
      "k: 2, expected a whole number from 1 to 1, the experts of a token in the trace",
      "resamples: -1, expected a whole number from 0 to 100000",
      "trace: it has no weights, only ids, experts",
    ]);
  });

  it("stops when it is told to", async () => {
    const stop = new AbortController();
    const work = analyse(trace, [loadBalance()], { signal: stop.signal, onProgress: () => stop.abort() });
    await expect(work).rejects.toThrow("aborted");
  });
});
