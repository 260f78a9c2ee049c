/**
 * Where the time of training steps goes: kernels of a backend are wrapped so that each call is timed. Calls are
 * synchronous, so that a call's time is the time between its begin and its end. Outside the profiled steps the wrapper is
 * not in place and calls cost what they always do.
 */
import { type Block, Tensor } from "../tensor/tensor.ts";
import type { Backend } from "./backend.ts";
import { EXPERT_ARGUMENTS, isExpertKernel, type KernelName, kernelCost } from "./cost.ts";
import { KERNEL_NAMES, type Kernels, type Pointer } from "./kernels.ts";

/** What a step tells as it goes: it begins, enters a phase (which ends the one before), and ends. */
export type StepPhase = "step" | "forward" | "backward" | "optimizer" | "end";

/** One call, phase or step. Times are in milliseconds since the first profiled step began. */
export interface ProfileEvent {
  readonly kind: "step" | "phase" | "kernel";
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** All calls of a kernel in one role. */
export interface KernelTotals {
  readonly kernel: KernelName;
  /** What a matrix product is for, or its sizes; empty for other kernels. */
  readonly role: string;
  readonly calls: number;
  readonly ms: number;
  /** See backend/cost.ts. */
  readonly flops: number;
  readonly bytes: number;
}

export interface Profile {
  /** Steps that were profiled. */
  readonly steps: number;
  /** Of all profiled steps together. */
  readonly ms: number;
  readonly phases: Readonly<Record<string, number>>;
  /** Longest first. */
  readonly kernels: readonly KernelTotals[];
  /** In order of their begin; a step before its phases, a phase before its kernels. */
  readonly events: readonly ProfileEvent[];
  /** Kernel calls beyond the most that are kept as events. The totals hold them. */
  readonly droppedEvents: number;
}

export interface ProfilerOptions {
  /** Steps that pass before: caches, clock rate and memory settle. Default 3. */
  readonly warmUp?: number;
  /** Steps that are profiled. Default 3. */
  readonly steps?: number;
  /** Kernel calls kept as events. Default 100,000. */
  readonly maxEvents?: number;
  /** Called once, when the last profiled step has ended. */
  readonly onDone?: (profile: Profile) => void;
  /** Milliseconds; default: performance.now. */
  readonly now?: () => number;
}

type Totals = { -readonly [K in keyof KernelTotals]: KernelTotals[K] };

/** Give `backend` to what is to be profiled, and `onPhase` to its training steps. */
export class Profiler {
  /** The backend it was made of, with kernels that are timed in the steps to be profiled. */
  readonly backend: Backend;
  /** Name of the weight or gradient that starts at an address: gives matrix products their roles. */
  nameOf: (pointer: Pointer) => string | undefined = () => undefined;
  readonly #options: Required<Omit<ProfilerOptions, "onDone">> & Pick<ProfilerOptions, "onDone">;
  readonly #totals = new Map<string, Totals>();
  readonly #phases: Record<string, number> = {};
  readonly #events: ProfileEvent[] = [];
  readonly #blocks: Block[] = [];
  #kernelEvents = 0;
  #dropped = 0;
  #begun = 0;
  #done = 0;
  #ms = 0;
  /** When the first profiled step began. */
  #origin: number | undefined;
  #active = false;
  #step: { readonly startMs: number; readonly event: number } | undefined;
  #phase: { readonly name: string; readonly startMs: number; readonly event: number } | undefined;

  constructor(backend: Backend, { warmUp = 3, steps = 3, maxEvents = 100_000, ...rest }: ProfilerOptions = {}) {
    this.#options = { warmUp, steps, maxEvents, now: () => performance.now(), ...rest };
    const timed = this.#timed(backend.kernels);
    const kernels = () => (this.#active ? timed : backend.kernels);
    const { name, isa, precision, threads } = backend;
    this.backend = {
      name,
      isa,
      precision,
      threads,
      allocate: (byteLength) => {
        const block = backend.allocate(byteLength);
        this.#blocks.push(block);
        return block;
      },
      close: () => backend.close(),
      get kernels() {
        return kernels();
      },
    };
  }

  /** What a training step calls; see StepPhase. */
  readonly onPhase = (phase: StepPhase): void => {
    if (phase === "step") this.#begin();
    if (!this.#active) return;
    const now = this.#now();
    if (this.#phase !== undefined) {
      const { name, startMs, event } = this.#phase;
      this.#phases[name] = (this.#phases[name] ?? 0) + now - startMs;
      this.#events[event] = { kind: "phase", name, startMs, endMs: now };
      this.#phase = undefined;
    }
    if (phase === "end") this.#end(now);
    else if (phase === "step") this.#step = { startMs: now, event: this.#open("step", phase, now) };
    else this.#phase = { name: phase, startMs: now, event: this.#open("phase", phase, now) };
  };

  /** What has been measured so far. */
  get profile(): Profile {
    return {
      steps: this.#done,
      ms: this.#ms,
      phases: { ...this.#phases },
      kernels: [...this.#totals.values()].sort((a, b) => b.ms - a.ms),
      events: [...this.#events],
      droppedEvents: this.#dropped,
    };
  }

  #now(): number {
    return this.#options.now() - (this.#origin ?? 0);
  }

  #begin(): void {
    const { warmUp, steps } = this.#options;
    this.#begun += 1;
    // A step before that ended with an error.
    if (this.#step !== undefined) this.#events.length = this.#step.event;
    this.#step = undefined;
    this.#phase = undefined;
    this.#active = this.#begun > warmUp && this.#begun <= warmUp + steps;
    if (this.#active) this.#origin ??= this.#options.now();
  }

  /** Adds an event whose end is not known yet. */
  #open(kind: ProfileEvent["kind"], name: string, startMs: number): number {
    return this.#events.push({ kind, name, startMs, endMs: startMs }) - 1;
  }

  #end(now: number): void {
    if (this.#step === undefined) return;
    const { startMs, event } = this.#step;
    this.#events[event] = { kind: "step", name: `step ${this.#begun}`, startMs, endMs: now };
    this.#ms += now - startMs;
    this.#done += 1;
    this.#step = undefined;
    this.#active = false;
    if (this.#begun === this.#options.warmUp + this.#options.steps) this.#options.onDone?.(this.profile);
  }

  #timed(kernels: Kernels): Kernels {
    const timed = KERNEL_NAMES.map((name) => {
      const kernel = kernels[name] as (...args: number[]) => number;
      const call = (...args: number[]) => {
        const start = this.#now();
        const result = kernel(...args);
        this.#record(name, args, start, this.#now());
        return result;
      };
      return [name, call];
    });
    return Object.fromEntries(timed) as Kernels;
  }

  #record(kernel: KernelName, args: readonly number[], startMs: number, endMs: number): void {
    const role = kernel === "gemm" || kernel === "gemmF32" ? this.#roleOf(args as Parameters<Kernels["gemm"]>) : "";
    const name = role === "" ? kernel : `${kernel} ${role}`;
    const { flops, bytes } = kernelCost(kernel, args, this.#routedRows(kernel, args));
    const totals = this.#totals.get(name) ?? { kernel, role, calls: 0, ms: 0, flops: 0, bytes: 0 };
    totals.calls += 1;
    totals.ms += endMs - startMs;
    totals.flops += flops;
    totals.bytes += bytes;
    this.#totals.set(name, totals);
    if (this.#kernelEvents < this.#options.maxEvents) {
      this.#kernelEvents += 1;
      this.#events.push({ kind: "kernel", name, startMs, endMs });
    } else this.#dropped += 1;
  }

  /** Rows of the experts, which the plan that they run by ends with; undefined where it can not be found. */
  #routedRows(kernel: KernelName, args: readonly number[]): number | undefined {
    if (!isExpertKernel(kernel)) return undefined;
    const { offsets, experts } = EXPERT_ARGUMENTS[kernel];
    const [start, count] = [args[offsets] as number, args[experts] as number];
    // The newest first: a released block's addresses may have been given out again.
    const block = this.#blocks.findLast(
      ({ address, byteLength }) => address <= start && start + 4 * count < address + byteLength,
    );
    return block && new Tensor(block, "i32", [count + 1], start - block.address).data[count];
  }

  /** A product with a weight, the gradient of its input, the gradient of the weight, or else the sizes. */
  #roleOf(args: Parameters<Kernels["gemm"]>): string {
    const [, transposeB, m, n, k, , , b, , c] = args;
    const gradient = this.nameOf(c);
    if (gradient !== undefined) return `${gradient} dw`;
    const weight = this.nameOf(b);
    if (weight === undefined) return `${m} x ${n} x ${k}`;
    return transposeB === 1 ? weight : `${weight} dx`;
  }
}
