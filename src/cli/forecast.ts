/** What a training run is expected to take, told before its first step, and beside it what it took, told at its end. */
import { freemem } from "node:os";
import type { Backend } from "../backend/backend.ts";
import type { ModelConfig } from "../config/model.ts";
import type { Recipe } from "../config/recipe.ts";
import { formatBytes, formatDuration } from "../report/text.ts";
import { type RunOutcome, writeEstimate } from "../train/estimate.io.ts";
import { estimateRun, type RunEstimate } from "../train/estimate.ts";
import type { TrainEvent } from "../train/run.io.ts";

export interface ForecastOptions {
  readonly backend: Backend;
  readonly recipe: Recipe;
  /** The run's folder. */
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly print: (line: string) => void;
}

/** Largest resident memory of this process so far. */
const largestResident = () => process.resourceUsage().maxRSS * 1024;

/** Await `begin` when the data is prepared, hand every event on, and call `finish` at the end. */
export class Forecast {
  readonly #options: ForecastOptions;
  #predicted: RunEstimate | undefined;
  #before = 0;
  #resident = 0;
  #steps = 0;
  #seconds = 0;

  constructor(options: ForecastOptions) {
    this.#options = options;
  }

  /** @throws the signal's reason when it is aborted. */
  async begin(config: ModelConfig): Promise<void> {
    const { backend, recipe, directory, signal, print } = this.#options;
    const predicted = await estimateRun(config, recipe.train, {
      backend,
      freeBytes: freemem() / 2,
      residentBytes: () => process.memoryUsage.rss(),
      signal,
    });
    this.#predicted = predicted;
    this.#before = largestResident();
    await writeEstimate(directory, { predicted, outcome: null });
    const { peakBytes, seconds, secondsPerStep } = predicted;
    const time =
      seconds === null || secondsPerStep === null
        ? "time unknown"
        : `${formatDuration(seconds)} of steps, ${formatDuration(secondsPerStep)} each`;
    print(`  estimate: ${formatBytes(peakBytes)} of memory at the peak, ${time}`);
  }

  handle(event: TrainEvent): void {
    if (event.type !== "step") return;
    const { tokens_per_sec: rate, resident_bytes: resident = 0 } = event.metrics;
    this.#seconds += event.stepTokens / rate;
    this.#steps += 1;
    this.#resident = Math.max(this.#resident, resident);
  }

  /** Writes and tells what the run took; nothing where it had no step to do. */
  async finish(): Promise<void> {
    const predicted = this.#predicted;
    if (predicted === undefined || this.#steps === 0) return;
    const largest = largestResident();
    const outcome: RunOutcome = {
      // Where the preparation took more, the largest of the samples after each step is all that is known.
      peakBytes: largest > this.#before ? largest : this.#resident,
      preparationPeakBytes: this.#before,
      steps: this.#steps,
      seconds: this.#seconds,
      secondsPerStep: this.#seconds / this.#steps,
    };
    await writeEstimate(this.#options.directory, { predicted, outcome });
    const time = (seconds: number | null) => (seconds === null ? "unknown" : formatDuration(seconds));
    this.#options.print(
      `  memory at the peak ${formatBytes(outcome.peakBytes)}, estimated ${formatBytes(predicted.peakBytes)}; ` +
        `a step ${time(outcome.secondsPerStep)}, estimated ${time(predicted.secondsPerStep)}`,
    );
  }
}
