/** AdamW over a model's flat parameter block. */
import type { Backend } from "../backend/backend.ts";
import type { OptimizerRecipe } from "../config/recipe.ts";
import type { Parameters } from "../model/parameters.ts";
import { type Block, Tensor } from "../tensor/tensor.ts";
import { matchNames } from "./patterns.ts";

/** Neighbouring parameters with the same decay: one kernel call. Frozen ones lie in no range. */
interface DecayRange {
  readonly start: number;
  readonly size: number;
  readonly weightDecay: number;
}

function decayRanges(parameters: Parameters, { weightDecay, noDecay }: OptimizerRecipe): DecayRange[] {
  const ranges = parameters.ranges();
  const exempt = matchNames(
    noDecay,
    ranges.map(({ name }) => name),
    "optimizer.noDecay",
  );
  const merged: DecayRange[] = [];
  for (const [index, { name, start }] of ranges.entries()) {
    if (parameters.isFrozen(name)) continue;
    // Padding after a parameter is zero with zero gradient, and stays so: it goes with what is before it.
    const end = ranges[index + 1]?.start ?? parameters.flatSize;
    const decay = exempt.has(name) ? 0 : weightDecay;
    const last = merged.at(-1);
    if (last?.weightDecay === decay && last.start + last.size === start)
      merged[merged.length - 1] = { ...last, size: end - last.start };
    else merged.push({ start, size: end - start, weightDecay: decay });
  }
  return merged;
}

/**
 * AdamW with decoupled decay (Loshchilov and Hutter, arXiv 1711.05101), as OLMoE trains: theta is first shrunk by
 * lr * decay, then moved by lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps).
 */
export class AdamW {
  /** First and second moments, laid out as the parameters. */
  readonly moments: { readonly m: Tensor; readonly v: Tensor };
  /** Steps taken in this run. */
  steps = 0;
  /** Steps that the moments had seen before this run: they count in the bias correction. */
  priorSteps = 0;
  readonly #backend: Backend;
  readonly #parameters: Parameters;
  readonly #recipe: OptimizerRecipe;
  readonly #ranges: readonly DecayRange[];
  readonly #grads: Tensor;
  readonly #blocks: readonly Block[];

  /** @throws ConfigError for a `noDecay` pattern that matches nothing. */
  constructor(backend: Backend, parameters: Parameters, recipe: OptimizerRecipe) {
    if (parameters.grads === undefined) throw new Error("internal: these parameters have no gradients");
    this.#backend = backend;
    this.#parameters = parameters;
    this.#recipe = recipe;
    this.#grads = parameters.grads;
    this.#ranges = decayRanges(parameters, recipe);
    const { flatSize } = parameters;
    this.#blocks = [backend.allocate(flatSize * 4), backend.allocate(flatSize * 4)];
    const [m, v] = this.#blocks.map((block) => new Tensor(block, "f32", [flatSize])) as [Tensor, Tensor];
    this.moments = { m, v };
  }

  /** Global L2 norm of the gradients of all that is trained. */
  gradientNorm(): number {
    this.#parameters.dropFrozenGradients();
    return Math.sqrt(this.#backend.kernels.sumSquares(this.#grads.pointer, this.#grads.size));
  }

  /**
   * One step, which leaves the gradients as they are. With clipping, they are scaled by
   * min(1, clipNorm / (norm + 1e-6)).
   * @param norm what `gradientNorm` gave.
   */
  step(lr: number, norm: number): void {
    this.steps += 1;
    const { beta1, beta2, eps, clipNorm } = this.#recipe;
    const scale = clipNorm === null ? 1 : Math.min(1, clipNorm / (norm + 1e-6));
    const seen = this.priorSteps + this.steps;
    const [bias1, bias2] = [1 - beta1 ** seen, 1 - beta2 ** seen];
    const { values } = this.#parameters;
    const { m, v } = this.moments;
    for (const { start, size, weightDecay } of this.#ranges) {
      const [param, grad, first, second] = [values, this.#grads, m, v].map((flat) => flat.slice(start, [size]).pointer);
      this.#backend.kernels.adamw(
        param as number,
        grad as number,
        first as number,
        second as number,
        size,
        lr,
        beta1,
        beta2,
        eps,
        weightDecay,
        bias1,
        bias2,
        scale,
      );
    }
  }

  /** Gives the moments' memory back. */
  dispose(): void {
    for (const block of this.#blocks) block.release();
  }
}
