import { describe, expect, it } from "vitest";
import type { Profile, ProfileEvent } from "../backend/profile.ts";
import { profileTable, type TraceEvent, traceFile } from "./profileReport.ts";

const event = (kind: ProfileEvent["kind"], name: string, startMs: number, endMs: number) => ({
  kind,
  name,
  startMs,
  endMs,
});
const gemm = { kernel: "gemm" as const, calls: 2, ms: 20, flops: 24_000, bytes: 1 };

/** Two steps of 37 ms. */
const PROFILE: Profile = {
  steps: 2,
  ms: 74,
  phases: { forward: 24, backward: 40, optimizer: 8 },
  kernels: [
    { ...gemm, role: "q_proj" },
    { ...gemm, role: "q_proj dx" },
    { ...gemm, role: "o_proj dw" },
    { kernel: "add", role: "", calls: 4, ms: 8, flops: 0, bytes: 24_000 },
  ],
  events: [
    event("step", "step 2", 0, 37),
    event("phase", "forward", 1, 13),
    event("kernel", "gemm q_proj", 1, 11),
    event("kernel", "add", 11, 13),
    event("phase", "backward", 13, 33),
  ],
  droppedEvents: 0,
};

describe("a profile", () => {
  it("is shown as a table for one step, with shares of the machine's limits", () => {
    expect(profileTable(PROFILE, { flopsPerSecond: 1e7, bytesPerSecond: 6e6 })).toBe(
      `
                 calls     ms  of step         rate  of limit
gemm q_proj          1  10.00   27.0 %  0.0 GFLOP/s    12.0 %
gemm q_proj dx       1  10.00   27.0 %  0.0 GFLOP/s    12.0 %
gemm o_proj dw       1  10.00   27.0 %  0.0 GFLOP/s    12.0 %
add                  2   4.00   10.8 %     0.0 GB/s    50.0 %
outside kernels          3.00    8.1 %
(forward)               12.00   32.4 %
(backward)              20.00   54.1 %
(optimizer)              4.00   10.8 %
step                    37.00  100.0 %  0.0 GFLOP/s     9.7 %`.slice(1),
    );
  });

  it("becomes a trace of complete events in microseconds, whose spans lie inside each other", () => {
    const trace = traceFile(PROFILE, "a test");
    expect(Object.keys(trace)).toEqual(["displayTimeUnit", "traceEvents"]);
    expect(trace.traceEvents.slice(0, 4)).toEqual([
      { ph: "M", name: "process_name", pid: 1, args: { name: "a test" } },
      { ph: "X", name: "step 2", cat: "step", ts: 0, dur: 37_000, pid: 1, tid: 1 },
      { ph: "X", name: "forward", cat: "phase", ts: 1000, dur: 12_000, pid: 1, tid: 1 },
      { ph: "X", name: "gemm q_proj", cat: "kernel", ts: 1000, dur: 10_000, pid: 1, tid: 1 },
    ]);
    expect(badEvents(trace.traceEvents)).toEqual([]);
  });

  it("keeps spans inside each other when times are not whole nanoseconds", () => {
    const events = [
      { kind: "step" as const, name: "a", startMs: 0.1234567, endMs: 0.7654321 },
      { kind: "kernel" as const, name: "b", startMs: 0.1234567, endMs: 0.4444444 },
      { kind: "kernel" as const, name: "c", startMs: 0.4444444, endMs: 0.7654321 },
    ];
    expect(badEvents(traceFile({ ...PROFILE, events }, "x").traceEvents)).toEqual([]);
  });
});

/**
 * What is wrong with events by the Trace Event Format: a complete event needs a name, a category, a time and a duration
 * that are finite and not negative, a process and a thread; events of one thread must nest.
 */
function badEvents(events: readonly TraceEvent[]): string[] {
  const open: number[] = [];
  return events.flatMap((event) => {
    if (event.ph !== "X") return [];
    const { name, cat, ts, dur, pid, tid } = event;
    const valid = name !== "" && cat !== "" && ts >= 0 && dur >= 0 && Number.isFinite(ts + dur) && pid + tid === 2;
    while (open.length > 0 && (open.at(-1) as number) <= ts + 1e-6) open.pop();
    const outer = open.at(-1) ?? Number.POSITIVE_INFINITY;
    open.push(ts + dur);
    return valid && ts + dur <= outer + 1e-6 ? [] : [JSON.stringify(event)];
  });
}
