/** `npm run bench -- train --profile`: where the time of the training benchmark's step goes. */
import { freemem } from "node:os";
import { openBackend } from "../src/backend/io.ts";
import { measureLimits } from "../src/backend/measure.ts";
import { Profiler } from "../src/backend/profile.ts";
import { describeBackend } from "../src/cli/backendOptions.ts";
import { parameterNames, writeProfile } from "../src/train/profile.io.ts";
import type { BenchOptions } from "./harness.ts";
import { createWorkload } from "./ourTrainStep.ts";
import { type TrainSize, trainFlops, workloadOf } from "./train.ts";

const WARM_UP = 3;

/** Profiles as many steps as there are repetitions; the files go to `runs/`. @returns the table. */
export async function profileTraining(options: BenchOptions, size: TrainSize): Promise<string> {
  const { backend: name = "native", isa, threads, repetitions, signal, notice } = options;
  const backend = await openBackend({
    backend: name,
    ...(isa === undefined ? {} : { isa }),
    ...(threads === undefined ? {} : { threads }),
  });
  const profiler = new Profiler(backend, { warmUp: WARM_UP, steps: repetitions });
  const { parameters, step } = createWorkload(profiler.backend, workloadOf(size), profiler.onPhase);
  profiler.nameOf = parameterNames(parameters);
  for (let done = 0; done < WARM_UP + repetitions; done++) {
    signal.throwIfAborted();
    step();
  }
  const limits = measureLimits(backend, freemem());
  const folder = `runs/profile-${size}`;
  const title = `training step ${size}, ${describeBackend(backend)}`;
  const text = await writeProfile(folder, profiler.profile, limits, title);
  notice(`written to ${folder}: trace.json opens in chrome://tracing and ui.perfetto.dev`);
  return `${text}\n\nactive matrix products of a token: ${trainFlops(size).arithmetic}`;
}
