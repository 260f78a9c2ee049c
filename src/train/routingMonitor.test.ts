import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { RoutingProbe } from "./probe.ts";
import { RoutingMonitor } from "./routingMonitor.ts";
import { readRoutingState, writeRoutingState } from "./routingState.io.ts";
import type { StepResult } from "./step.ts";

const folder = mkdtempSync(join(tmpdir(), "olmoe-monitor-"));
afterAll(() => rmSync(folder, { recursive: true }));

const backend = createReferenceBackend();
const decoder = createDecoder(backend, smallConfig({ numExperts: 4 }));
const heldOut = [{ source: "a", tokens: Uint16Array.from({ length: 40 }, (_, i) => i), documents: [], textBytes: 40 }];
const probe = new RoutingProbe(heldOut, { sequenceLength: 8, eosTokenId: 0, documentMask: false });
const monitorOf = () => new RoutingMonitor(backend, decoder, probe);

/** As much of a step as is looked at: slots of two layers, and the chosen experts' probability in each. */
const step = (counts: number[][], chosenProbabilities: number[], tokens = 8) =>
  ({
    tokens,
    expertCounts: counts.map((layer) => Float64Array.from(layer)),
    chosenProbabilities,
  }) as unknown as StepResult;

const FIRST = step(
  [
    [16, 0, 0, 0],
    [4, 4, 4, 4],
  ],
  [0.5, 0.75],
);
const SECOND = step(
  [
    [0, 16, 0, 0],
    [4, 4, 4, 4],
  ],
  [0.7, 0.75],
  24,
);

/** Moves the router of the first layer. */
function turnRouter(): void {
  const weights = decoder.parameters.get("model.layers.0.mlp.gate.weight").value.data;
  weights.set(weights.map((value) => -value));
}

describe("RoutingMonitor", () => {
  it("records loads, probabilities and churn since the last record and checkpoint, by layer", () => {
    const monitor = monitorOf();
    monitor.mark();
    monitor.add(FIRST);
    monitor.add(SECOND);
    turnRouter();
    const record = monitor.record(10, 320);
    expect(record).toEqual({
      type: "routing",
      step: 10,
      tokens: 320,
      steps: 2,
      layers: [0, 1],
      load_entropy: [0.5, 1],
      largest_load_share: [0.5, 0.25],
      dead_experts: [2, 0],
      chosen_probability: [0.65, 0.75],
      churn: [expect.any(Number), expect.any(Number)],
      slot_churn: [expect.any(Number), expect.any(Number)],
    });
    // The two least probable experts of four become the two most probable ones.
    expect([record?.churn[0], record?.slot_churn[0]]).toEqual([1, 1]);
    turnRouter();
    monitor.add(FIRST);
    expect(monitor.record(11, 328)).toMatchObject({
      steps: 1,
      dead_experts: [3, 0],
      churn: [0, 0],
      slot_churn: [0, 0],
    });
  });

  it("goes on from a checkpoint as if it had not stopped", async () => {
    const [whole, stopped] = [monitorOf(), monitorOf()];
    for (const monitor of [whole, stopped]) {
      monitor.mark();
      monitor.add(FIRST);
    }
    await writeRoutingState(folder, stopped.state);
    turnRouter();
    const resumed = monitorOf();
    resumed.restore(await readRoutingState(folder));
    for (const monitor of [whole, resumed]) monitor.add(SECOND);
    expect(resumed.state).toEqual(whole.state);
    expect(resumed.record(2, 32)).toEqual(whole.record(2, 32));
    expect(resumed.state).toEqual(whole.state);
    turnRouter();
  });

  it("counts from a checkpoint itself where that keeps nothing", async () => {
    const monitor = monitorOf();
    monitor.add(FIRST);
    monitor.restore(await readRoutingState(join(folder, "none")));
    expect(monitor.state).toEqual({
      steps: 0,
      tokens: 0,
      counts: [],
      chosen: new Float64Array(),
      reference: probe.run(backend, decoder),
    });
  });

  it("has nothing to record of a dense model", () => {
    const dense = createDecoder(backend, smallConfig({ mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 }));
    const monitor = new RoutingMonitor(backend, dense, probe);
    monitor.mark();
    monitor.add(step([], []));
    expect(monitor.record(1, 8)).toBeUndefined();
    expect(monitor.state.reference).toEqual([]);
  });
});
