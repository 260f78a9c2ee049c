/** A profile for people (a table) and for the trace viewers of Chrome and Perfetto. */

import type { MachineLimits } from "../backend/measure.ts";
import type { Profile } from "../backend/profile.ts";
import { table } from "../report/text.ts";

const HEADER = ["", "calls", "ms", "of step", "rate", "of limit"];

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** A rate as GFLOP/s or GB/s, and its share of the limit. */
function rate(perSecond: number, unit: string, limit: number): [string, string] {
  if (!Number.isFinite(perSecond) || perSecond === 0) return ["", ""];
  return [`${(perSecond / 1e9).toFixed(1)} ${unit}`, percent(perSecond / limit)];
}

/**
 * Rows of kernels, longest first, then what is outside kernels, the phases and the whole step. Calls and times are of one
 * step. Matrix products are held against the rate of multiply-adds in registers, all else against reading memory; data
 * that a cache still holds can be faster than that.
 */
export function profileTable({ steps, ms, phases, kernels }: Profile, limits: MachineLimits): string {
  const each = Math.max(1, steps);
  const row = (name: string, calls: string, time: number, [speed, share]: [string, string] = ["", ""]) => [
    name,
    calls,
    (time / each).toFixed(2),
    percent(time / ms),
    speed,
    share,
  ];
  const ofKernels = kernels.map(({ kernel, role, calls, ms: time, flops, bytes }) =>
    row(
      role === "" ? kernel : `${kernel} ${role}`,
      String(Math.round((10 * calls) / each) / 10),
      time,
      flops > 0
        ? rate((1000 * flops) / time, "GFLOP/s", limits.flopsPerSecond)
        : rate((1000 * bytes) / time, "GB/s", limits.bytesPerSecond),
    ),
  );
  const [inKernels, flops] = [sum(kernels.map((one) => one.ms)), sum(kernels.map((one) => one.flops))];
  const rows = [
    HEADER,
    ...ofKernels,
    row("outside kernels", "", ms - inKernels),
    ...Object.entries(phases).map(([name, time]) => row(`(${name})`, "", time)),
    row("step", "", ms, rate((1000 * flops) / ms, "GFLOP/s", limits.flopsPerSecond)),
  ];
  return table(rows, { align: ["left", "right", "right", "right", "right", "right"] });
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** One entry of a trace: a complete event ("X") or the name of the process ("M"). Times are in microseconds. */
export type TraceEvent =
  | {
      readonly ph: "X";
      readonly name: string;
      readonly cat: string;
      readonly ts: number;
      readonly dur: number;
      readonly pid: 1;
      readonly tid: 1;
    }
  | { readonly ph: "M"; readonly name: "process_name"; readonly pid: 1; readonly args: { readonly name: string } };

/** A file in the Trace Event Format's JSON object form, which chrome://tracing and ui.perfetto.dev open. */
export interface TraceFile {
  readonly displayTimeUnit: "ms";
  readonly traceEvents: readonly TraceEvent[];
}

/** Nanoseconds are kept: rounded the same way everywhere, so that what lies inside stays inside. */
const microseconds = (ms: number) => Math.round(ms * 1e6) / 1e3;

/** Steps, phases and kernels as spans inside each other. @param process what ran, as the viewers name it. */
export function traceFile({ events }: Profile, process: string): TraceFile {
  return {
    displayTimeUnit: "ms",
    traceEvents: [
      { ph: "M", name: "process_name", pid: 1, args: { name: process } },
      ...events.map(({ kind, name, startMs, endMs }): TraceEvent => {
        const ts = microseconds(startMs);
        const dur = Math.round((microseconds(endMs) - ts) * 1e3) / 1e3;
        return { ph: "X", name, cat: kind, ts, dur, pid: 1, tid: 1 };
      }),
    ],
  };
}
