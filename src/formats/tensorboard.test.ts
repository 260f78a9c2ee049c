import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readEvents } from "../../test/eventFile.ts";
import { eventFileHead, scalarRecord, tfRecord } from "./tensorboard.ts";

describe("tfRecord", () => {
  it("frames bytes as TensorFlow does", () => {
    // The example of an empty record: length 0 and the masked checksums of eight zeros and of nothing.
    const empty = Buffer.from(tfRecord(new Uint8Array()));
    expect(empty.toString("hex")).toBe("000000000000000029039807d8ea82a2");
  });
});

/** Prints tag, step and value of every scalar, as TensorBoard's own reader gives them. */
const PYTHON = `
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
events.Reload()
for tag in sorted(events.Tags()["scalars"]):
    for event in events.Scalars(tag):
        print(tag, event.step, event.value, event.wall_time)
`;
const hasTensorBoard = spawnSync("python3", ["-c", "import tensorboard"]).status === 0;

describe("TensorBoard itself", () => {
  it("reads the scalars of a file", async ({ skip }) => {
    if (!hasTensorBoard) skip("python3 has no tensorboard");
    const folder = mkdtempSync(join(tmpdir(), "olmoe-events-"));
    const records = [1, 2].map((step) =>
      scalarRecord({ wallTime: 100 + step, step, scalars: { a: step / 4, "b/c": -step } }),
    );
    writeFileSync(join(folder, "events.out.tfevents.100.olmoe"), Buffer.concat([eventFileHead(100), ...records]));
    const output = execFileSync("python3", ["-c", PYTHON, folder], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    rmSync(folder, { recursive: true });
    expect(output).toBe("a 1 0.25 101.0\na 2 0.5 102.0\nb/c 1 -1.0 101.0\nb/c 2 -2.0 102.0\n");
  });
});

describe("scalarRecord", () => {
  it("is read back by a decoder made from the published message definitions", () => {
    const scalars = { "train/loss": 2.5, "eval/sources/caf\u00e9/bits": 1e-3, zero: 0, negative: -3e38 };
    const file = Buffer.concat([
      eventFileHead(1000.5),
      scalarRecord({ wallTime: 1700000000.25, step: 7, scalars }),
      scalarRecord({ wallTime: 1700000001, step: 2 ** 40 + 3, scalars: { "train/loss": 1 } }),
      scalarRecord({ wallTime: 1700000002, step: 128, scalars: {} }),
    ]);
    expect(readEvents(file)).toEqual([
      { wallTime: 1000.5, step: 0, fileVersion: "brain.Event:2" },
      { wallTime: 1000.5, step: 0, session: "START" },
      {
        wallTime: 1700000000.25,
        step: 7,
        scalars: Object.fromEntries(Object.entries(scalars).map(([name, value]) => [name, Math.fround(value)])),
      },
      { wallTime: 1700000001, step: 2 ** 40 + 3, scalars: { "train/loss": 1 } },
      { wallTime: 1700000002, step: 128, scalars: {} },
    ]);
  });

  it("has checksums that notice a changed byte", () => {
    const file = scalarRecord({ wallTime: 1, step: 1, scalars: { a: 1 } });
    for (const place of [0, 9, 14, file.length - 1]) {
      const changed = Uint8Array.from(file);
      changed[place]! ^= 1;
      expect(() => readEvents(changed), `byte ${place}`).toThrow();
    }
  });
});
