/** `olmoe train --profile`: profiles a few steps of a run, prints the table as soon as they are done, writes the files. */
import { freemem } from "node:os";
import type { Backend } from "../backend/backend.ts";
import { type MachineLimits, measureLimits } from "../backend/measure.ts";
import { type Profile, Profiler } from "../backend/profile.ts";
import { parameterNames, writeProfile } from "../train/profile.io.ts";
import type { TrainEvent } from "../train/run.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { describeBackend } from "./backendOptions.ts";

/** Steps before the profiled ones, and those. */
export const [PROFILE_WARM_UP, PROFILE_STEPS] = [3, 5];

/**
 * Call `begin` when the data is prepared, train on `profiler.backend` with `profiler.onPhase`, hand every event on, and
 * call `finish` at the end.
 */
export class RunProfile {
  readonly profiler: Profiler;
  readonly #backend: Backend;
  readonly #name: string;
  readonly #folder: string;
  readonly #print: (text: string) => void;
  #limits: MachineLimits | undefined;
  #done: Profile | undefined;
  #written: Promise<void> | undefined;

  /** @param name of the recipe; @param folder where the files go. */
  constructor(backend: Backend, name: string, folder: string, print: (text: string) => void) {
    this.#backend = backend;
    this.#name = name;
    this.#folder = folder;
    this.#print = print;
    this.profiler = new Profiler(backend, {
      warmUp: PROFILE_WARM_UP,
      steps: PROFILE_STEPS,
      onDone: (profile) => {
        this.#done = profile;
      },
    });
  }

  /** Measures the machine's limits, for which a buffer is read: before the model takes memory, so that both never do. */
  begin(): void {
    this.#limits = measureLimits(this.#backend, freemem());
  }

  /** Writes when the last profiled step is over. */
  handle(event: TrainEvent): void {
    if (event.type === "ready") this.profiler.nameOf = parameterNames(event.decoder.parameters);
    if (event.type !== "step" || this.#done === undefined || this.#written !== undefined) return;
    this.#written = this.#write(this.#done);
    // A fault is thrown by `finish`.
    this.#written.catch(() => undefined);
  }

  /** Writes what there is of a run that was shorter. @throws ResourceError when the files can not be written. */
  async finish(): Promise<void> {
    const { profile } = this.profiler;
    if (this.#written === undefined && profile.steps > 0) this.#written = this.#write(profile);
    if (this.#written === undefined) {
      this.#print(`  profile: the run ended before step ${PROFILE_WARM_UP + 1} of this start, nothing was profiled`);
    }
    await this.#written;
  }

  async #write(profile: Profile): Promise<void> {
    const limits = this.#limits ?? measureLimits(this.#backend, freemem());
    const title = `olmoe train, ${this.#name}, ${describeBackend(this.#backend)}`;
    this.#print(`\n${await writeProfile(this.#folder, profile, limits, title)}\n`);
    this.#print(`profile  ${shownPath(this.#folder)}: trace.json opens in chrome://tracing and ui.perfetto.dev`);
  }
}
