/** estimate.json in a run's folder: what the run was expected to take, and what it took. */
import { join } from "node:path";
import { replaceFile } from "../util/files.io.ts";
import type { RunEstimate } from "./estimate.ts";

/** What a run took from its last start to its end. */
export interface RunOutcome {
  /** Resident memory at its largest while the model was trained. */
  readonly peakBytes: number;
  /** The same before that, while data was prepared and the estimate made. */
  readonly preparationPeakBytes: number;
  /** Steps since the last start. */
  readonly steps: number;
  /** Of these steps, without evaluations and checkpoints. */
  readonly seconds: number;
  readonly secondsPerStep: number;
}

export interface EstimateFile {
  readonly predicted: RunEstimate;
  /** Null until the run has ended. */
  readonly outcome: RunOutcome | null;
}

/** @throws ResourceError when it can not be written. */
export async function writeEstimate(directory: string, estimate: EstimateFile): Promise<void> {
  const text = `${JSON.stringify(estimate, null, 2)}\n`;
  await replaceFile(join(directory, "estimate.json"), (file) => file.writeFile(text));
}
