import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import type { Manifest } from "../data/manifest.ts";
import type { PreparedData } from "../data/prepare.io.ts";
import type { Decoder } from "../model/decoder.ts";
import type { EvalMetrics, TrainMetrics } from "../train/metrics.io.ts";
import type { TrainEvent } from "../train/run.io.ts";
import { TrainView } from "./trainView.ts";

function fileOf(source: string, split: "training" | "heldout"): Manifest["files"][number] {
  const counts = { tokens: 4787, documents: 1238, textBytes: 20_407 };
  return { source, split, file: `${split}/${source}.npy`, ...counts, sha256: "0".repeat(64) };
}

/** The event after the data, of two kinds of text. */
function ready(resumedFrom: number): TrainEvent {
  const files = ["prose", "code"].flatMap((name) => [fileOf(name, "training"), fileOf(name, "heldout")]);
  const data = { manifest: { files } } as unknown as PreparedData;
  return { type: "ready", data, decoder: {} as Decoder, resumedFrom };
}

const TASKS = { done: 0, tasks: 1, totalBytes: 0, waiting: 0 };

function reading(source: string, bytes: number): TrainEvent {
  return { type: "data", progress: { phase: "read", source, bytes, documents: 1, ...TASKS } };
}

function step(number: number, loss: number, rate: number): TrainEvent {
  const line = { type: "train", step: number, tokens: 128 * number, cross_entropy: loss, tokens_per_sec: rate };
  return { type: "step", metrics: line as TrainMetrics, stepTokens: 128, epochs: [] };
}

function evaluation(number: number): TrainEvent {
  const scores = (bits: number) => ({ tokens: 1, nats_per_token: 1, bits_per_byte: bits });
  const sources = { prose: scores(1.51234), code: scores(2.5) };
  const metrics: EvalMetrics = { type: "eval", step: number, ...scores(2.01), tokens: 1, sources, complete: false };
  return { type: "evaluation", metrics };
}

/** The lines a view prints for events. */
function linesFor(steps: number, ...events: TrainEvent[]): string[] {
  const lines: string[] = [];
  const view = new TrainView({ steps, tokens: 128 * steps, print: (line) => lines.push(line) });
  for (const event of events) view.handle(event);
  view.stop();
  return lines;
}

const TABLE = [
  "  prose       20.4 kB   4.79 k tokens in 1.24 k documents",
  "  code        20.4 kB   4.79 k tokens in 1.24 k documents",
];

describe("TrainView without a terminal", () => {
  it("prints each stage once, the data, the first and last step, evaluations and warnings", () => {
    const lines = linesFor(
      4,
      reading("prose", 10),
      reading("prose", 20),
      reading("code", 10),
      { type: "data", progress: { phase: "select", bytes: 30, documents: 3, ...TASKS } },
      { type: "data", progress: { phase: "encode", source: "prose", bytes: 30, documents: 3, ...TASKS } },
      ready(0),
      step(1, 5.5, 64),
      step(2, 5.25, 64),
      { type: "checkpoint", path: "run/checkpoints/step2-tokens256" },
      evaluation(2),
      { type: "warning", message: "layer 0: 1 of 8 experts received no token" },
      step(3, 4, 256),
      step(4, 3, 128),
      evaluation(4),
    );
    // A step of 128 tokens takes 2 s at 64 tokens a second; the four steps 2, 2, 0.5 and 1 s, 1.375 s in the mean.
    expect(lines).toEqual([
      "  reading prose",
      "  reading code",
      "  making the tokenizer",
      "  tokenising prose",
      ...TABLE,
      "  step 1/4  loss 5.500 \u2581  64 tokens/s  6 s left",
      "  step 2: held-out bits per byte 2.010  (prose 1.512, code 2.500)",
      "  warning: layer 0: 1 of 8 experts received no token",
      "  step 4/4  loss 3.000 \u2588\u2587\u2584\u2581  93.1 tokens/s  0 ms left",
      "  step 4: held-out bits per byte 2.010  (prose 1.512, code 2.500)",
    ]);
  });

  it("says where a resumed run goes on, and that a finished one is done", () => {
    expect(linesFor(4, ready(3), step(4, 3, 128))).toEqual([
      ...TABLE,
      "  going on from step 3 of 4",
      "  step 4/4  loss 3.000 \u2581  128 tokens/s  0 ms left",
    ]);
    expect(linesFor(4, ready(4), evaluation(4))).toEqual([
      ...TABLE,
      "  all 4 steps are done already",
      "  step 4: held-out bits per byte 2.010  (prose 1.512, code 2.500)",
    ]);
  });

  it("ends with what the steps of this process came to, where there were any", () => {
    const lines: string[] = [];
    const view = new TrainView({ steps: 4, tokens: 512, print: (line) => lines.push(line) });
    for (const event of [ready(1), step(2, 5, 64), step(3, 5, 128), step(4, 5, 128)]) view.handle(event);
    view.finish();
    // 128 tokens in 2, 1 and 1 s.
    expect(lines.at(-1)).toBe("  384 tokens in 4 s, 96 tokens/s");
    const count = lines.length;
    new TrainView({ steps: 4, tokens: 512, print: (line) => lines.push(line) }).finish();
    expect(lines).toHaveLength(count);
  });

  it("prints what hooks measured beside held-out loss", () => {
    const event = evaluation(4);
    const results = { "perplexity/prose": 9, "arc/acc": 0.25, "arc/acc_norm": 1 / 3 };
    if (event.type !== "evaluation") throw new Error("no evaluation");
    expect(linesFor(4, { ...event, metrics: { ...event.metrics, results } })).toEqual([
      "  step 4: held-out bits per byte 2.010  (prose 1.512, code 2.500)",
      "  step 4: arc/acc 0.2500, arc/acc_norm 0.3333",
    ]);
  });

  it("estimates the time left from the last twenty steps", () => {
    // The first step took 100 times as long as the others.
    const events = Array.from({ length: 22 }, (_, index) => step(index + 1, 3, index === 0 ? 1.28 : 128));
    const lines = linesFor(22, ready(0), ...events);
    expect(lines.at(-1)).toMatch(/^ {2}step 22\/22 {2}loss 3\.000 \u2581{16} {2}128 tokens\/s {2}0 ms left$/);
  });
});

describe("TrainView of a run with a batch-size warm-up", () => {
  it("estimates the time left by tokens", () => {
    const line = { type: "train", step: 1, tokens: 64, cross_entropy: 5, tokens_per_sec: 64 };
    const lines: string[] = [];
    const view = new TrainView({ steps: 4, tokens: 448, print: (text) => lines.push(text) });
    view.handle({ type: "step", metrics: line as TrainMetrics, stepTokens: 64, epochs: [] });
    expect(lines).toEqual(["  step 1/4  loss 5.000 \u2581  64 tokens/s  6 s left"]);
  });
});

describe("TrainView on a terminal", () => {
  it("draws a live line, and prints others above it without going back to the start", () => {
    let drawn = "";
    const terminal = Object.assign(
      new Writable({
        write(chunk, _encoding, done) {
          drawn += chunk;
          done();
        },
      }),
      { isTTY: true, columns: 120, cursorTo: () => true, clearLine: () => true, moveCursor: () => true },
    );
    const lines: string[] = [];
    const stream = terminal as unknown as NodeJS.WriteStream;
    const view = new TrainView({ steps: 4, tokens: 512, print: (line) => lines.push(line), terminal: stream });
    for (const event of [ready(0), step(1, 5.5, 64), step(2, 5.25, 64)]) view.handle(event);
    drawn = "";
    view.handle(evaluation(2));
    expect(lines).toEqual([...TABLE, "  step 2: held-out bits per byte 2.010  (prose 1.512, code 2.500)"]);
    expect(drawn).toContain("##########.......... step 2/4  loss 5.250 \u2588\u2581  64 tokens/s  4 s left");
    view.stop();
    view.stop();
  });
});
