/**
 * Batch-size warm-up: a run starts with smaller batches, which learn more from each token while gradients still agree, and
 * reaches `batchSize` in stages, as GPT-3 (arXiv 2005.14165, section 2.3) and PaLM (arXiv 2204.02311, section 5) did.
 * OLMoE itself trains with one size.
 */

/** The fields of a recipe's `train` that say how many sequences a step takes. */
export interface BatchPlan {
  readonly steps: number;
  /** Sequences of a step after the warm-up. */
  readonly batchSize: number;
  /** Stages in order: so many steps of so many sequences. */
  readonly batchWarmup: readonly { readonly steps: number; readonly batchSize: number }[];
  readonly microBatchSize?: number | undefined;
}

/** Sequences of one step. @param step counted from 1. */
export function batchSizeAt({ batchSize, batchWarmup }: BatchPlan, step: number): number {
  let end = 0;
  for (const stage of batchWarmup) {
    end += stage.steps;
    if (step <= end) return stage.batchSize;
  }
  return batchSize;
}

/** Sequences of the first `step` steps together. */
export function sequencesThrough({ batchSize, batchWarmup }: BatchPlan, step: number): number {
  let [rest, sequences] = [step, 0];
  for (const stage of batchWarmup) {
    const taken = Math.min(rest, stage.steps);
    sequences += taken * stage.batchSize;
    rest -= taken;
  }
  return sequences + rest * batchSize;
}

/** Sequences of a run's smallest forward pass. */
export function leastPass({ batchSize, batchWarmup, microBatchSize = batchSize }: BatchPlan): number {
  return batchWarmup.reduce((least, stage) => Math.min(least, stage.batchSize), microBatchSize);
}

/** Tokens of a whole run. */
export function plannedTokens(plan: BatchPlan & { readonly sequenceLength: number }): number {
  return sequencesThrough(plan, plan.steps) * plan.sequenceLength;
}

/**
 * How far a run is after a step, in steps of the full batch: schedules run by tokens, as OLMo's do, so that a step of half
 * the sequences counts half. Without a warm-up this is the step itself.
 */
export function fullSteps(plan: BatchPlan, step: number): number {
  return sequencesThrough(plan, step) / plan.batchSize;
}

/** What is wrong with a warm-up, each fault with its path below `batchWarmup`. */
export function batchWarmupFaults(plan: BatchPlan): { path: (string | number)[]; message: string }[] {
  const { steps, batchSize, batchWarmup, microBatchSize } = plan;
  const faults = batchWarmup.flatMap((stage, index) => {
    const next = batchWarmup[index + 1]?.batchSize ?? batchSize;
    const name = index + 1 < batchWarmup.length ? "the next stage's" : "train.batchSize";
    const path = [index, "batchSize"];
    if (stage.batchSize >= next) return [{ path, message: `${stage.batchSize}, must be below ${name} (${next})` }];
    if (microBatchSize !== undefined && stage.batchSize > microBatchSize && stage.batchSize % microBatchSize !== 0) {
      return [
        { path, message: `${stage.batchSize}, must be a multiple of microBatchSize (${microBatchSize}) or below` },
      ];
    }
    return [];
  });
  const warmup = batchWarmup.reduce((sum, stage) => sum + stage.steps, 0);
  if (batchWarmup.length > 0 && warmup >= steps) {
    return [...faults, { path: [], message: `takes ${warmup} steps, must end before the last of ${steps} steps` }];
  }
  return faults;
}
