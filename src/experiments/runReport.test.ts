import { describe, expect, it } from "vitest";
import type { EvalMetrics, Metrics, TrainMetrics } from "../train/metrics.io.ts";
import { lossCharts, trainingSeconds } from "./runReport.ts";

/** A step's line; what the charts do not show is the same in all. */
function trained(step: number, crossEntropy: number, rate = 100): TrainMetrics {
  return {
    type: "train",
    step,
    tokens: 100 * step,
    loss: 0,
    cross_entropy: crossEntropy,
    balance_loss: 1 + 1 / step,
    balance_loss_weighted: 0,
    z_loss: 0,
    z_loss_weighted: 0,
    grad_norm: 1,
    lr: 1,
    tokens_per_sec: rate,
    load_entropy: [1],
    largest_load_share: [0.5],
    dead_experts: [0],
    chosen_probability: 1,
    dropped_slots: [0],
    dropped_share: 0,
  };
}

function evaluated(step: number, a: number, b: number): EvalMetrics {
  const scores = (bits: number) => ({ tokens: 1, nats_per_token: 1, bits_per_byte: bits });
  const sources = { a: scores(a), b: scores(b) };
  return { type: "eval", step, ...scores((a + b) / 2), tokens: 100 * step, sources, complete: false };
}

/** Series of a chart as name and points. */
const seriesOf = (spec: unknown) => {
  const { data } = spec as { data: { values: Record<string, unknown>[] } };
  const points = new Map<unknown, unknown[]>();
  for (const { series, x, y } of data.values) points.set(series, [...(points.get(series) ?? []), [x, y]]);
  return Object.fromEntries(points);
};

describe("trainingSeconds", () => {
  it("adds up the time of the steps by their rates", () => {
    const lines: Metrics[] = [trained(1, 5, 50), trained(2, 4, 100), evaluated(2, 3, 2), trained(3, 3, 200)];
    expect(trainingSeconds(lines)).toBe(2 + 1 + 0.5);
    expect(trainingSeconds([])).toBe(0);
  });
});

describe("lossCharts", () => {
  it("draws training, held-out loss by kind, and balance, over tokens", () => {
    const lines = [trained(1, 5), evaluated(1, 3, 2), trained(2, 4), evaluated(2, 2.5, 1)];
    const [training, heldOut, balance] = lossCharts(lines).map(seriesOf);
    expect(training).toEqual({
      training: [
        [100, 5],
        [200, 4],
      ],
    });
    expect(heldOut).toEqual({
      a: [
        [100, 3],
        [200, 2.5],
      ],
      b: [
        [100, 2],
        [200, 1],
      ],
    });
    expect(balance).toEqual({
      balance: [
        [100, 2],
        [200, 1.5],
      ],
    });
  });

  it("draws means of neighbours where there are more steps than a chart can show", () => {
    const lines = Array.from({ length: 601 }, (_, index) => trained(index + 1, index));
    const { training } = seriesOf(lossCharts(lines)[0]) as { training: [number, number][] };
    // Three steps a point, the last one alone.
    expect([training.length, training[0], training.at(-1)]).toEqual([201, [200, 1], [60_100, 600]]);
  });
});
