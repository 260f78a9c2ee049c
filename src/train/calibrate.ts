/**
 * How long a training step takes here: real steps of the model cut down to one and two layers, everything else as it is
 * (width, experts, vocabulary, length). What two layers take more than one is a layer's time; both scale by the
 * matrix-product FLOPs of layers, AdamW by parameters. Where only every so many layers have experts, a group of layers
 * that ends with such a one stands for a layer here.
 */
import type { Backend } from "../backend/backend.ts";
import type { StepPhase } from "../backend/profile.ts";
import type { ModelConfig } from "../config/model.ts";
import { recomputedLayers } from "../config/recipe.ts";
import { countParameters, flopsPerToken } from "../model/counts.ts";
import { Decoder } from "../model/decoder.ts";
import { Parameters, parameterSpecs } from "../model/parameters.ts";
import { TrainStep } from "./step.ts";
import { type TrainingMemoryOptions, totalBytes, trainingMemory } from "./trainingMemory.ts";

export interface CalibrationOptions {
  /** Memory that may be taken for a moment. */
  readonly freeBytes: number;
  /** Resident memory of this process, where that can be known. */
  readonly residentBytes?: () => number;
  readonly signal?: AbortSignal | undefined;
}

export interface Calibration {
  /** Of a whole step of the whole model. */
  readonly secondsPerStep: number;
  /** Resident memory of the program besides the model's blocks: runtime, libraries, scratch memory of the kernels. */
  readonly runtimeBytes: number | undefined;
  /** Tokens of the passes that were timed. */
  readonly tokens: number;
  /** Layers of the models that were timed. */
  readonly layers: readonly number[];
}

const MOST_TOKENS = 2048;
/** Filling more takes longer than timing it. */
const MOST_BYTES = 8 * 2 ** 30;
const PROBE_TOKENS = 64;
/** A timed step should take no longer than this: fewer tokens are taken on slow backends. */
const STEP_SECONDS = 2;
/** Steps of each cut-down model: one to warm up, and others as long as there is time. */
const [LEAST_STEPS, MOST_STEPS, TIMED_SECONDS] = [2, 5, 0.6];

/** Seconds of one step by phase. */
export type PhaseSeconds = Record<"forward" | "backward" | "optimizer", number>;

/** Values as a new model has them in size, without the time that good random numbers take. */
function fill(parameters: Parameters): void {
  const pattern = Float32Array.from({ length: 65_521 }, (_, i) => 0.035 * (((i * 40_503) % 65_521) / 32_760 - 1));
  for (const { name, initial } of parameterSpecs(parameters.config)) {
    const { data } = parameters.get(name).value;
    if ("fill" in initial) data.fill(initial.fill);
    else
      for (let start = 0; start < data.length; start += pattern.length) {
        data.set(pattern.subarray(0, Math.min(pattern.length, data.length - start)), start);
      }
  }
}

/** A cut-down model that is trained for timing. */
class CutDown {
  readonly #trainer: TrainStep;
  readonly #decoder: Decoder;
  readonly #ids: Int32Array;
  readonly #phases: PhaseSeconds = { forward: 0, backward: 0, optimizer: 0 };
  #phase: { readonly name: StepPhase; readonly start: number } | undefined;

  constructor(backend: Backend, config: ModelConfig, options: TrainingMemoryOptions, length: number, batch: number) {
    const parameters = new Parameters(backend, config, { trainable: true });
    fill(parameters);
    this.#decoder = new Decoder(backend, parameters);
    this.#trainer = new TrainStep(backend, this.#decoder, {
      ...options,
      recompute: "none",
      sequenceLength: length,
      microBatchSize: batch,
      onPhase: (phase) => this.#enter(phase),
    });
    this.#ids = Int32Array.from({ length: batch * length }, (_, i) => (i * 7919) % config.vocabSize);
  }

  #enter(name: StepPhase): void {
    const now = performance.now();
    const last = this.#phase;
    if (last !== undefined && last.name in this.#phases) {
      this.#phases[last.name as keyof PhaseSeconds] += (now - last.start) / 1000;
    }
    this.#phase = { name, start: now };
  }

  step(): PhaseSeconds {
    Object.assign(this.#phases, { forward: 0, backward: 0, optimizer: 0 });
    this.#trainer.run({ ids: this.#ids, labels: this.#ids }, 1e-6);
    return { ...this.#phases };
  }

  /** Bytes of its blocks: weights, gradients, two moments, and the arena as it is now. */
  get heldBytes(): number {
    return 4 * this.#decoder.parameters.values.byteLength + this.#trainer.activationBytes;
  }

  dispose(): void {
    this.#trainer.dispose();
    this.#decoder.dispose();
    this.#decoder.parameters.dispose();
  }
}

const seconds = ({ forward, backward, optimizer }: PhaseSeconds): number => forward + backward + optimizer;

/** Lets signals through, and throws the signal's reason. */
async function turn(signal: AbortSignal | undefined): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
  signal?.throwIfAborted();
}

/** The step of middle length. */
function median(steps: readonly PhaseSeconds[]): PhaseSeconds {
  const sorted = steps.toSorted((a, b) => seconds(a) - seconds(b));
  return sorted[Math.floor((sorted.length - 1) / 2)] as PhaseSeconds;
}

async function timeSteps(model: CutDown, signal: AbortSignal | undefined): Promise<PhaseSeconds> {
  model.step();
  const steps: PhaseSeconds[] = [];
  const spent = () => steps.reduce((sum, step) => sum + seconds(step), 0);
  while (steps.length < LEAST_STEPS || (steps.length < MOST_STEPS && spent() < TIMED_SECONDS)) {
    await turn(signal);
    steps.push(model.step());
  }
  return median(steps);
}

/** Fewer experts where memory is short: cost follows the chosen ones. Undefined where even those do not fit. */
function fitting(config: ModelConfig, options: TrainingMemoryOptions, freeBytes: number): ModelConfig | undefined {
  for (let numExperts = config.numExperts; ; numExperts = Math.max(config.numExpertsPerTok, numExperts >> 1)) {
    const cut = { ...config, numExperts };
    if (totalBytes(trainingMemory(cut, options)) < freeBytes) return cut;
    if (numExperts <= config.numExpertsPerTok) return undefined;
  }
}

/**
 * Times steps of cut-down models; takes a few seconds at the most where kernels are fast.
 * @returns undefined where not even those fit in the memory that is free.
 * @throws the signal's reason when it is aborted.
 */
export async function calibrate(
  backend: Backend,
  config: ModelConfig,
  options: TrainingMemoryOptions,
  { freeBytes, residentBytes, signal }: CalibrationOptions,
): Promise<Calibration | undefined> {
  const group = config.decoderSparseStep;
  const layers = config.numHiddenLayers < 2 * group ? [group] : [group, 2 * group];
  const most = layers.at(-1) as number;
  const length = Math.min(options.sequenceLength, MOST_TOKENS);
  const small = {
    ...options,
    sequenceLength: length,
    microBatchSize: Math.min(options.microBatchSize, Math.max(1, Math.floor(MOST_TOKENS / length))),
    recompute: "none" as const,
    // Patterns of tensors may be of layers that are cut; frozen parameters are timed as if they were trained.
    freeze: [],
    optimizer: { ...options.optimizer, noDecay: [] },
    evaluates: false,
  };
  const of = { ...config, numHiddenLayers: most, maxPositionEmbeddings: length };
  const fits = fitting(of, small, Math.min(freeBytes, MOST_BYTES));
  if (fits === undefined) return undefined;

  const probe = new CutDown(backend, { ...fits, numHiddenLayers: group }, small, Math.min(length, PROBE_TOKENS), 1);
  let allowed: number;
  try {
    probe.step();
    allowed = (Math.min(length, PROBE_TOKENS) * STEP_SECONDS) / seconds(probe.step());
  } finally {
    probe.dispose();
  }
  const usedLength = Math.min(length, Math.max(PROBE_TOKENS, Math.floor(allowed)));
  const batch = Math.min(small.microBatchSize, Math.max(1, Math.floor(allowed / usedLength)));

  const times: PhaseSeconds[] = [];
  let runtimeBytes: number | undefined;
  for (const numHiddenLayers of layers) {
    await turn(signal);
    const model = new CutDown(backend, { ...fits, numHiddenLayers }, small, usedLength, batch);
    try {
      times.push(await timeSteps(model, signal));
      if (residentBytes !== undefined) runtimeBytes = Math.max(0, residentBytes() - model.heldBytes);
    } finally {
      model.dispose();
    }
  }
  const tokens = batch * usedLength;
  const secondsPerStep = extrapolate(config, fits, options, times, usedLength, tokens);
  return { secondsPerStep, runtimeBytes, tokens, layers };
}

/**
 * Seconds of a whole step of the whole model, from those of the same model with one group of layers and with two.
 * @param cut the config that was timed, which may have fewer experts; @param times of one group, and of two where there
 *   are two; @param cutTokens tokens of their passes, in sequences of `cutLength`.
 */
export function extrapolate(
  config: ModelConfig,
  cut: ModelConfig,
  options: TrainingMemoryOptions,
  times: readonly PhaseSeconds[],
  cutLength: number,
  cutTokens: number,
): number {
  const layerFlops = (of: ModelConfig, length: number) => {
    const { forward, output } = flopsPerToken(of, length);
    return forward - 2 * output;
  };
  const [one, two] = times as [PhaseSeconds, PhaseSeconds | undefined];
  const group = cut.decoderSparseStep;
  const flopsOfOne = cutTokens * layerFlops({ ...cut, numHiddenLayers: group }, cutLength);
  // Noise must not make a layer take no time, or more than the model it is in.
  const layerOf = (phase: "forward" | "backward") => {
    const difference = two === undefined ? one[phase] : two[phase] - one[phase];
    return Math.min(Math.max(difference, 0.2 * one[phase]), one[phase]);
  };
  const [forward, backward] = [layerOf("forward"), layerOf("backward")];
  const rest = one.forward + one.backward - forward - backward;
  const tokens = options.batchSize * options.sequenceLength;
  const layers = (tokens * layerFlops(config, options.sequenceLength)) / flopsOfOne;
  const recomputed = recomputedLayers(options.recompute, config.numHiddenLayers).size / config.numHiddenLayers;
  const passes = layers * (forward * (1 + recomputed) + backward) + (tokens / cutTokens) * rest;
  const timed = two ?? one;
  const cutParameters = countParameters({ ...cut, numHiddenLayers: times.length * group }).total;
  return passes + (timed.optimizer * countParameters(config).total) / cutParameters;
}
