/** Learning rates by step. */
import type { ScheduleRecipe } from "../config/recipe.ts";

/**
 * Learning rate of one step: a straight line from `warmupStartRatio` of the peak up to the peak, then down to
 * `finalRatio` of it at the last step (spec 3.1: OLMo warms up from 10 %, and counts a batch before it asks for the rate).
 *
 * @param step counted from 1; a fraction where steps differ in size, see `fullSteps`.
 * @param steps of the whole run; later steps keep the final rate.
 */
export function learningRate(schedule: ScheduleRecipe, peak: number, step: number, steps: number): number {
  const { kind, warmupSteps, warmupStartRatio, finalRatio } = schedule;
  if (step < warmupSteps) return peak * (warmupStartRatio + ((1 - warmupStartRatio) * step) / warmupSteps);
  if (kind === "constant") return peak;
  const done = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
  const shape = kind === "linear" ? 1 - done : (1 + Math.cos(Math.PI * done)) / 2;
  return peak * (finalRatio + (1 - finalRatio) * shape);
}
