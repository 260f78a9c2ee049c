import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { eventFiles, readEvents, scalarsIn } from "../../test/eventFile.ts";
import { ResourceError } from "../errors.ts";
import { type Metrics, readMetrics } from "./metrics.io.ts";
import { Recorder } from "./recorder.io.ts";
import type { NormsRecord, RewindRecord, RoutingRecord } from "./records.ts";
import { scalarsOf } from "./scalars.ts";

const folder = mkdtempSync(join(tmpdir(), "olmoe-recorder-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** As much of a step as is looked at. */
const trained = (step: number) =>
  ({ type: "train", step, tokens: 8 * step, loss: step / 2, load_entropy: [1, 0.5] }) as unknown as Metrics;
const rewound = (step: number): RewindRecord => ({
  type: "rewind",
  step,
  tokens: 8 * step,
  spike_step: step + 2,
  reason: "step 5: loss 9 is a spike",
  rewinds: 1,
  undone_losses: [2, 9],
});

describe("scalarsOf", () => {
  it("names every number by the record's type and the path of its field", () => {
    expect(scalarsOf({ ...trained(3), time: 17 })).toEqual({ "train/tokens": 24, "train/loss": 1.5 });
    const scores = { tokens: 9, nats_per_token: 2, bits_per_byte: 1.5 };
    const evaluated: Metrics = {
      type: "eval",
      step: 3,
      ...scores,
      sources: { novel: scores },
      results: { "perplexity/novel": 7.5, "arc/acc": Number.NaN },
      complete: true,
    };
    expect(scalarsOf(evaluated)).toEqual({
      "eval/tokens": 9,
      "eval/nats_per_token": 2,
      "eval/bits_per_byte": 1.5,
      "eval/sources/novel/tokens": 9,
      "eval/sources/novel/nats_per_token": 2,
      "eval/sources/novel/bits_per_byte": 1.5,
      "eval/results/perplexity/novel": 7.5,
    });
    const place = { step: 3, tokens: 24, steps: 3, layers: [1, 3] };
    const routing = { type: "routing", ...place, churn: [0.5, 0.25] } as unknown as RoutingRecord;
    expect(scalarsOf(routing)).toEqual({
      "routing/tokens": 24,
      "routing/steps": 3,
      "routing/churn/layer_1": 0.5,
      "routing/churn/layer_3": 0.25,
    });
    const norms = { type: "norms", step: 3, tokens: 24, gradient: { router: 2 }, gradient_by_layer: [3] };
    expect(scalarsOf(norms as unknown as NormsRecord)).toEqual({
      "norms/tokens": 24,
      "norms/gradient/router": 2,
      "norms/gradient_by_layer/layer_0": 3,
    });
    expect(scalarsOf(rewound(3))).toEqual({ "rewind/tokens": 24, "rewind/spike_step": 5, "rewind/rewinds": 1 });
  });
});

describe("Recorder", () => {
  const run = join(folder, "run");
  const steps = () => scalarsIn(run).get("train/loss");

  it("writes the same numbers to both files", async () => {
    mkdirSync(run);
    const recorder = new Recorder(run);
    expect(await recorder.rewindTo(-1, 0)).toEqual([]);
    for (const step of [1, 2, 3]) await recorder.append(trained(step));
    await recorder.flush();
    const lines = await readMetrics(join(run, "metrics.jsonl"));
    expect(lines.map(({ time, ...line }) => line)).toEqual([1, 2, 3].map(trained));
    expect(steps()).toEqual([
      [1, 0.5],
      [2, 1],
      [3, 1.5],
    ]);
    const events = readEvents(readFileSync(join(run, eventFiles(run)[0]!)));
    expect(events.slice(2).map(({ wallTime }) => wallTime)).toEqual(lines.map(({ time }) => time));
  });

  it("makes the event file anew when it goes back: no step twice, none lost", async () => {
    const [before = ""] = eventFiles(run);
    writeFileSync(join(run, "events.out.tfevents.17.olmoe"), "");
    writeFileSync(join(run, "events.out.tfevents.17.other"), "");
    const recorder = new Recorder(run);
    await recorder.rewindTo(2, 0);
    expect(await recorder.lossesAfter(1)).toEqual([1]);
    await recorder.append(trained(3));
    await recorder.append(rewound(3));
    // The one before is there, empty, and one that was empty already is gone; the next by name is the one to read on.
    const now = readdirSync(run).filter((name) => name.includes("tfevents"));
    expect(now).toEqual(["events.out.tfevents.17.other", before, ...eventFiles(run)]);
    expect(eventFiles(run)).toHaveLength(1);
    expect(steps()).toEqual([
      [1, 0.5],
      [2, 1],
      [3, 1.5],
    ]);
    await recorder.rewindTo(1, 1);
    await recorder.append(trained(2));
    expect([steps(), scalarsIn(run).get("rewind/rewinds")]).toEqual([
      [
        [1, 0.5],
        [2, 1],
      ],
      [[3, 1]],
    ]);
  });

  it("makes a long file of many records", async () => {
    const lines = Array.from({ length: 2500 }, (_, index) => `${JSON.stringify(trained(index + 1))}\n`);
    writeFileSync(join(run, "metrics.jsonl"), lines.join(""));
    await new Recorder(run).rewindTo(2400, 0);
    expect(steps()?.map(([step]) => step)).toEqual(Array.from({ length: 2400 }, (_, index) => index + 1));
  });

  it("says what stands in the way", async () => {
    const recorder = new Recorder(join(folder, "none"));
    await expect(recorder.rewindTo(0, 0)).rejects.toThrow(ResourceError);
  });
});
