import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { trainTiny, writeTexts } from "../../test/tinyRun.ts";
import { Graph } from "../autograd/graph.ts";
import { openBackend } from "../backend/io.ts";
import { openHeldOut, openPreparedData } from "../data/open.io.ts";
import { openModel } from "../formats/model.io.ts";
import { modelDigest } from "../formats/modelDigest.io.ts";
import { openTrace } from "../formats/trace.io.ts";
import type { TraceChunk } from "../formats/trace.ts";
import { Arena } from "../tensor/arena.ts";
import { tracesOf } from "./traces.io.ts";

const folder = await mkdtemp(join(tmpdir(), "olmoe-traces-"));
const backend = await openBackend({ threads: 1 });
const TRACE = { every: 10, heldOutTokens: 100, training: true };
beforeAll(async () => {
  writeTexts(folder);
  await trainTiny(folder, "run", backend, { changes: { train: { trace: TRACE, keep: 20 } } });
});
afterAll(() => rm(folder, { recursive: true }));

async function read(run: string, name: string) {
  await using trace = await openTrace(join(tracesOf(join(folder, run)), name));
  const chunks: TraceChunk[] = [];
  for await (const chunk of trace.chunks()) chunks.push(chunk);
  return { ...trace, chunk: chunks[0] as Required<TraceChunk> };
}

describe("traces of a training run", () => {
  it("are written each so many steps, and at the end", async () => {
    expect((await readdir(tracesOf(join(folder, "run")))).sort()).toEqual(
      [0, 10, 20, 24]
        .map((step) => `step${step}-heldout.trace`)
        .concat([10, 20, 24].map((step) => `step${step}-training.trace`))
        .sort(),
    );
  });

  it("have the routing that the checkpoint of their step gives to the held-out text", async () => {
    const checkpoint = join(folder, "run", "checkpoints", "step24-tokens3072");
    const { header, chunk, sources } = await read("run", "step24-heldout.trace");
    expect(header).toMatchObject({
      model: { digest: await modelDigest(checkpoint) },
      origin: "evaluation",
      step: 24,
      trainedTokens: 3072,
    });
    const [text] = await openHeldOut(await openPreparedData(join(folder, "run", "data")));
    expect(sources[0]).toBe(text!.source);
    const decoder = await openModel(checkpoint, backend);
    const [first] = chunk.runs;
    const arena = new Arena(backend);
    const graph = new Graph(backend, arena, { record: false });
    const ids = chunk.ids.subarray(0, first!.tokens);
    // Held-out windows begin with one more end-of-text token.
    expect([...ids.subarray(1)]).toEqual([...text!.tokens.subarray(0, ids.length - 1)]);
    const { routings } = decoder.forward(graph, ids, { batch: 1 });
    const width = routings[0]!.expertIds.dim(1);
    for (const [layer, { expertIds }] of routings.entries()) {
      const start = layer * chunk.tokens * width;
      expect([...chunk.experts.subarray(start, start + ids.length * width)]).toEqual([...expertIds.data]);
    }
    arena.dispose();
    decoder.dispose();
  });

  it("have the tokens of the step in the order in which it trained on them", async () => {
    const { header, chunk, sources } = await read("run", "step10-training.trace");
    expect([header.origin, header.step, sources]).toEqual(["training", 9, ["training"]]);
    // The weights before the step, not those that it leaves.
    expect(header.model.digest).toBe(await modelDigest(join(folder, "run", "checkpoints", "step9-tokens1152")));
    expect(chunk.runs).toEqual(
      Array.from({ length: 4 }, (_, sequence) => ({ sequence, source: 0, position: 0, tokens: 32 })),
    );
  });

  it("are the same when a run is stopped and goes on", async () => {
    const controller = new AbortController();
    const options = { changes: { train: { trace: TRACE, keep: 20 } } };
    await trainTiny(folder, "stopped", backend, {
      ...options,
      signal: controller.signal,
      onEvent: (event) => {
        if (event.type === "step" && event.metrics.step === 13) controller.abort();
      },
    });
    await trainTiny(folder, "stopped", backend, { ...options, resume: true });
    const files = async (run: string) => {
      const names = (await readdir(tracesOf(join(folder, run)))).sort();
      return Promise.all(names.map(async (name) => [name, await readFile(join(tracesOf(join(folder, run)), name))]));
    };
    expect(await files("stopped")).toEqual(await files("run"));
  });
});
