import { describe, expect, it } from "vitest";
import { createDryBackend } from "./dry/dry.ts";
import { type ProfileEvent, Profiler, type ProfilerOptions, type StepPhase } from "./profile.ts";

/** A clock, in milliseconds, that kernels move: `add` takes 2 ms, a product 10 ms, and reading the time nothing. */
function setup(options: ProfilerOptions = {}) {
  let time = 1000;
  const takes = (ms: number) => () => {
    time += ms;
  };
  const backend = createDryBackend({ add: takes(2), gemm: takes(10) });
  const profiler = new Profiler(backend, { warmUp: 1, steps: 2, now: () => time, ...options });
  const phase = (name: StepPhase) => profiler.onPhase(name);
  /** 1 ms before the forward pass, then 12 + 20 + 4 ms, 3 of them outside kernels. */
  const step = () => {
    phase("step");
    takes(1)();
    phase("forward");
    const { kernels } = profiler.backend;
    kernels.gemm(0, 1, 10, 20, 30, 64, 30, 128, 30, 192, 20, 0);
    kernels.add(1, 2, 3, 500);
    phase("backward");
    kernels.gemm(0, 0, 10, 30, 20, 64, 20, 128, 30, 256, 30, 0);
    kernels.gemm(1, 0, 20, 30, 10, 64, 20, 320, 30, 384, 30, 1);
    phase("optimizer");
    profiler.backend.kernels.add(1, 2, 3, 500);
    takes(2)();
    phase("end");
  };
  return { backend, profiler, step, phase };
}

const NAMES: Readonly<Record<number, string>> = { 128: "q_proj", 384: "o_proj" };

describe("Profiler", () => {
  it("adds up calls, time, FLOPs and bytes of each kernel and role over the steps after the warm-up", () => {
    const { profiler, step } = setup();
    profiler.nameOf = (pointer) => NAMES[pointer];
    for (let i = 0; i < 5; i++) step();
    const { events, ...profile } = profiler.profile;
    const gemm = { kernel: "gemm", calls: 2, ms: 20, flops: 24_000 };
    expect(profile).toEqual({
      steps: 2,
      ms: 74,
      phases: { forward: 24, backward: 40, optimizer: 8 },
      kernels: [
        // A [10, 30], B [20, 30] and C [10, 20] in f32.
        { ...gemm, role: "q_proj", bytes: 2 * 4 * (300 + 600 + 200) },
        { ...gemm, role: "q_proj dx", bytes: 2 * 4 * (200 + 600 + 300) },
        // Read and written, because it accumulates.
        { ...gemm, role: "o_proj dw", bytes: 2 * 4 * (200 + 300 + 2 * 600) },
        { kernel: "add", role: "", calls: 4, ms: 8, flops: 0, bytes: 4 * 4 * 1500 },
      ],
      droppedEvents: 0,
    });
    expect(events.length).toBe(2 * (1 + 3 + 5));
  });

  it("keeps every step, phase and call as an event, one inside the other", () => {
    const { profiler, step } = setup();
    for (let i = 0; i < 3; i++) step();
    const event = (kind: ProfileEvent["kind"], name: string, startMs: number, endMs: number) => ({
      kind,
      name,
      startMs,
      endMs,
    });
    expect(profiler.profile.events.slice(0, 9)).toEqual([
      event("step", "step 2", 0, 37),
      event("phase", "forward", 1, 13),
      event("kernel", "gemm 10 x 20 x 30", 1, 11),
      event("kernel", "add", 11, 13),
      event("phase", "backward", 13, 33),
      event("kernel", "gemm 10 x 30 x 20", 13, 23),
      event("kernel", "gemm 20 x 30 x 10", 23, 33),
      event("phase", "optimizer", 33, 37),
      event("kernel", "add", 33, 35),
    ]);
  });

  it("is not in the way outside the profiled steps, and tells once when they are done", () => {
    let told = 0;
    const { backend, profiler, step, phase } = setup({
      onDone: (profile) => {
        told += profile.steps;
      },
    });
    const wrapped = () => profiler.backend.kernels !== backend.kernels;
    expect(wrapped()).toBe(false);
    step();
    phase("step");
    expect(wrapped()).toBe(true);
    phase("end");
    expect([wrapped(), told]).toEqual([false, 0]);
    step();
    expect([wrapped(), told]).toEqual([false, 2]);
    step();
    expect([wrapped(), told, profiler.profile.steps]).toEqual([false, 2, 2]);
  });

  it("keeps a bounded number of calls as events and all of them in its totals", () => {
    const { profiler, step } = setup({ steps: 10, maxEvents: 7 });
    for (let i = 0; i < 11; i++) step();
    const { events, droppedEvents, kernels } = profiler.profile;
    expect(events.filter(({ kind }) => kind === "kernel").length).toBe(7);
    expect(droppedEvents).toBe(50 - 7);
    expect(kernels.reduce((sum, { calls }) => sum + calls, 0)).toBe(50);
  });

  it("forgets a step that ended with an error", () => {
    const { profiler, step, phase } = setup({ warmUp: 0 });
    phase("step");
    phase("forward");
    step();
    const { steps, ms, events } = profiler.profile;
    expect([steps, ms, events[0]?.name, events.length]).toEqual([1, 37, "step 2", 9]);
  });
});
