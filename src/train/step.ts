/** One optimiser step: forward and backward over micro-batches, losses, clipping, AdamW. */
import { Graph } from "../autograd/graph.ts";
import { linearCrossEntropy } from "../autograd/ops/crossEntropy.ts";
import type { Routing } from "../autograd/ops/moe.ts";
import type { Backend } from "../backend/backend.ts";
import type { StepPhase } from "../backend/profile.ts";
import { type LossRecipe, type OptimizerRecipe, recomputedLayers, type TrainRecipe } from "../config/recipe.ts";
import { TrainingError } from "../errors.ts";
import type { Decoder } from "../model/decoder.ts";
import type { RouterStats } from "../nn/losses.ts";
import { applyRouterLosses, type RouterLosses } from "../nn/routerLosses.ts";
import { AdamW } from "../optim/adamw.ts";
import { Arena } from "../tensor/arena.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Sequences of one step. Letters: B sequences of S tokens. */
export interface StepBatch {
  /** [B * S] */
  readonly ids: Int32Array;
  /** [B * S] the target of each position, below 0 for none. */
  readonly labels: Int32Array;
  /** [B * S] first position each token sees; absent: 0. */
  readonly kvStart?: Int32Array | undefined;
}

export interface StepOptions {
  readonly sequenceLength: number;
  /** Sequences in one forward pass. */
  readonly microBatchSize: number;
  readonly loss: LossRecipe;
  readonly optimizer: OptimizerRecipe;
  /** Layers whose activations are computed again on the way back instead of being kept; default: none. */
  readonly recompute?: TrainRecipe["recompute"] | undefined;
  /** Told where a step is, to see where its time goes (backend/profile.ts). */
  readonly onPhase?: ((phase: StepPhase) => void) | undefined;
}

/** Who looks into a step. */
export interface StepHooks {
  readonly onGradients?: (() => void) | undefined;
  readonly onRouting?: ((routings: readonly Routing[], start: number) => void) | undefined;
}

/** What one step measured. Losses are raw; `loss` is their weighted sum, which was differentiated. */
export interface StepResult {
  readonly loss: number;
  /** Nats per target. */
  readonly crossEntropy: number;
  /** Load-balancing loss at the recipe's scale, mean over micro-batches. */
  readonly balance: number;
  /** Router z-loss at the recipe's scale. */
  readonly z: number;
  /** Global norm of the gradient before clipping. */
  readonly gradientNorm: number;
  readonly lr: number;
  readonly tokens: number;
  /** [layer][expert] slots each expert received. */
  readonly expertCounts: readonly Float64Array[];
  /** [layer] mean over tokens of the chosen experts' summed probability, of each layer with experts. */
  readonly chosenProbabilities: readonly number[];
  /** [layer] slots that found their expert full, where the model has an `expertCapacityFactor`. */
  readonly droppedSlots: readonly number[];
}

/** What to do about numbers that are not finite, or far too large. */
export const DIVERGED =
  "start again with a lower train.optimizer.lr, more train.schedule.warmupSteps or a smaller train.optimizer.clipNorm";

interface MicroBatchResult {
  readonly crossEntropySum: number;
  readonly losses: RouterLosses;
}

/** Trains a model's parameters in place. */
export class TrainStep {
  readonly optimizer: AdamW;
  readonly #backend: Backend;
  readonly #decoder: Decoder;
  readonly #options: StepOptions;
  readonly #arena: Arena;
  readonly #recompute: ReadonlySet<number>;

  /**
   * @param decoder over trainable parameters.
   * @throws ConfigError for a layer to recompute that the model does not have.
   */
  constructor(backend: Backend, decoder: Decoder, options: StepOptions) {
    this.#backend = backend;
    this.#decoder = decoder;
    this.#options = options;
    this.#arena = new Arena(backend);
    this.#recompute = recomputedLayers(options.recompute, decoder.config.numHiddenLayers);
    this.optimizer = new AdamW(backend, decoder.parameters, options.optimizer);
  }

  /** Bytes that activations take; flat after the first steps. */
  get activationBytes(): number {
    return this.#arena.reservedBytes;
  }

  /**
   * One step with the given learning rate.
   * @param hooks see what is there for a moment only: the gradients when they are complete, before they are clipped and used
   *   up; and the routing of each micro-batch, whose tokens begin at `start` of the batch.
   * @throws TrainingError when a loss or gradient is not finite, ShapeError for ids the model can not take. After any
   *   error the parameters are as before the step.
   */
  run(batch: StepBatch, lr: number, { onGradients, onRouting }: StepHooks = {}): StepResult {
    const { sequenceLength, microBatchSize, loss: weights, onPhase } = this.#options;
    onPhase?.("step");
    const tokens = batch.ids.length;
    const targets = batch.labels.reduce((sum, label) => sum + (label >= 0 ? 1 : 0), 0);
    const denominator = Math.max(1, weights.crossEntropyOver === "tokens" ? tokens : targets);
    const size = microBatchSize * sequenceLength;
    this.#decoder.parameters.outdateGradients();
    const parts = Array.from({ length: Math.ceil(tokens / size) }, (_, index) =>
      this.#forwardBackward(batch, index * size, Math.min(tokens, (index + 1) * size), denominator, onRouting),
    );
    this.#decoder.parameters.clearOutdatedGradients();
    const mean = (value: (losses: RouterLosses) => number) =>
      parts.reduce((sum, { losses }) => sum + value(losses), 0) / parts.length;
    const crossEntropySum = parts.reduce((sum, part) => sum + part.crossEntropySum, 0);
    const [balance, z] = [mean((losses) => losses.balance), mean((losses) => losses.z)];
    const loss = crossEntropySum / denominator + weights.balance * balance + weights.z * z;
    onPhase?.("optimizer");
    const gradientNorm = this.optimizer.gradientNorm();
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) this.#fail(loss, gradientNorm);
    onGradients?.();
    this.optimizer.step(lr, gradientNorm);
    const layers = parts[0]?.losses.layers ?? [];
    onPhase?.("end");
    return {
      loss,
      crossEntropy: crossEntropySum / Math.max(1, targets),
      balance,
      z,
      gradientNorm,
      lr,
      tokens,
      expertCounts: sumCounts(parts.map(({ losses }) => losses)),
      chosenProbabilities: layers.map((_, layer) =>
        mean((losses) => {
          const { chosenProbSum, tokens: t } = losses.layers[layer] as RouterStats;
          return chosenProbSum / t;
        }),
      ),
      droppedSlots: layers.map((_, layer) =>
        parts.reduce((sum, { losses }) => sum + (losses.layers[layer]?.dropped ?? 0), 0),
      ),
    };
  }

  /** @throws TrainingError naming the first weight, or AdamW's moment of it, that is NaN or infinite. */
  checkFinite(): void {
    const { moments, steps } = this.optimizer;
    const names = {
      "": this.#nonfinite(this.#decoder.parameters.values),
      "the first moment of ": this.#nonfinite(moments.m),
      "the second moment of ": this.#nonfinite(moments.v),
    };
    const [culprit] = Object.entries(names).filter(([, name]) => name !== undefined);
    if (culprit === undefined) return;
    throw new TrainingError(`step ${steps}: ${culprit.join("")} is not finite after it`, { hint: DIVERGED });
  }

  /** Gives activations and moments back. */
  dispose(): void {
    this.#arena.dispose();
    this.optimizer.dispose();
  }

  #forwardBackward(
    batch: StepBatch,
    start: number,
    end: number,
    denominator: number,
    onRouting: StepHooks["onRouting"],
  ): MicroBatchResult {
    this.#options.onPhase?.("forward");
    this.#arena.reset();
    const graph = new Graph(this.#backend, this.#arena, { record: true });
    const share = (end - start) / batch.ids.length;
    const { hidden, routings } = this.#decoder.forward(graph, batch.ids.subarray(start, end), {
      batch: (end - start) / this.#options.sequenceLength,
      kvStart: batch.kvStart?.subarray(start, end),
      dropTokens: true,
      recompute: this.#recompute,
    });
    onRouting?.(routings, start);
    const labels = graph.ids(batch.labels.subarray(start, end));
    const losses = linearCrossEntropy(graph, hidden, this.#decoder.outputWeight, labels, { scale: 1 / denominator });
    const crossEntropySum = losses.data.reduce((sum, value) => sum + value, 0);
    const layerShared = this.#decoder.config.layerSharedMoe !== "none";
    const routerLosses = applyRouterLosses(graph, routings, { ...this.#options.loss, layerShared }, share);
    this.#options.onPhase?.("backward");
    graph.backward();
    return { crossEntropySum, losses: routerLosses };
  }

  /** Names the first weight, or else the first gradient, that is not finite. */
  #fail(loss: number, gradientNorm: number): never {
    const { parameters } = this.#decoder;
    const weight = this.#nonfinite(parameters.values);
    const gradient = this.#nonfinite(parameters.grads);
    const culprit = weight ?? (gradient && `the gradient of ${gradient}`);
    throw new TrainingError(
      `step ${this.optimizer.steps + 1}: loss ${loss}, gradient norm ${gradientNorm}` +
        (culprit === undefined ? "" : `; ${culprit} is not finite`),
      { hint: DIVERGED },
    );
  }

  /** Name of the first parameter with a NaN or infinite element in one of the flat blocks. */
  #nonfinite(flat: Tensor | undefined): string | undefined {
    if (flat === undefined || this.#backend.kernels.firstNonfinite(flat.pointer, flat.size) < 0) return undefined;
    return this.#decoder.parameters
      .ranges()
      .find(({ start, size }) => this.#backend.kernels.firstNonfinite(flat.slice(start, [size]).pointer, size) >= 0)
      ?.name;
  }
}

/** Adds up the counts of the micro-batches, layer by layer. */
function sumCounts(parts: readonly RouterLosses[]): Float64Array[] {
  const [first, ...others] = parts;
  return (first?.layers ?? []).map(({ counts }, layer) =>
    counts.map((count, e) => others.reduce((sum, { layers }) => sum + (layers[layer]?.counts[e] ?? 0), count)),
  );
}
