/**
 * Choices of architecture that the OLMoE paper (arXiv 2409.02060, sections 4.1 and 4.2) compares. The defaults are the
 * released model's; docs/configuration.md has the paper's findings.
 */
import { z } from "zod";

/** Fields of a model config. */
export const architectureFields = {
  /**
   * Every norm of the model: RMSNorm with a weight, LayerNorm with weight and bias, or LayerNorm without parameters, as
   * OLMo's. `rmsNormEps` is the epsilon of all three.
   */
  normType: z.enum(["rmsnorm", "layernorm", "layernorm_nonparametric"]).default("rmsnorm"),
  /** Norm of queries and keys: over all heads together, over each head by itself with one shared weight, or none. */
  qkNorm: z.enum(["full", "head", "none"]).default("full"),
  /** Where `clipQkv` bounds q and k: after the QK-norm, as transformers does, or before it, as OLMo's code does. */
  clipQkvPlacement: z.enum(["after_norm", "before_norm"]).default("after_norm"),
  /** How matrices are drawn (model/initialization.ts has the formulas). */
  initialization: z.enum(["truncated_normal", "normal", "megatron", "fan_in", "mitchell"]).default("truncated_normal"),
  /** Layer i has experts where i + 1 is a multiple of this, and one dense MLP elsewhere. */
  decoderSparseStep: z.int().min(1).default(1),
  /** Inner width of the dense layers' MLP; null: as wide as all the experts that one token uses in the other layers. */
  denseIntermediateSize: z.int().min(1).nullable().default(null),
  /** Experts that serve every token beside the routed ones, unweighted; one SwiGLU, this many times as wide as an expert. */
  numSharedExperts: z.int().min(0).default(0),
  /** What of the MoE exists once for all layers: nothing, its experts (each layer has a router), or all of it. */
  layerSharedMoe: z.enum(["none", "experts", "moe"]).default("none"),
};

/** What the checks and helpers below read of a model config. */
interface Architecture extends Readonly<z.output<z.ZodObject<typeof architectureFields>>> {
  readonly mlpType: "moe" | "dense";
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numExpertsPerTok: number;
  readonly clipQkv: number | null;
  readonly initializerRange: number;
  readonly initializerCutoffFactor: number;
}

/** How many layers have experts. */
function countMoeLayers({ mlpType, decoderSparseStep, numHiddenLayers }: Architecture): number {
  return mlpType === "dense" ? 0 : Math.floor(numHiddenLayers / decoderSparseStep);
}

/** Indices of the layers that have experts, in order. */
export function moeLayers(config: Architecture): number[] {
  const step = config.decoderSparseStep;
  return Array.from({ length: countMoeLayers(config) }, (_, index) => (index + 1) * step - 1);
}

/** Whether a layer has experts. */
export function hasExperts({ mlpType, decoderSparseStep }: Architecture, layer: number): boolean {
  return mlpType === "moe" && (layer + 1) % decoderSparseStep === 0;
}

/** Inner width of the MLP of a layer without experts. */
export function denseWidth(config: Architecture): number {
  if (config.mlpType === "dense") return config.intermediateSize;
  const used = config.numExpertsPerTok + config.numSharedExperts;
  return config.denseIntermediateSize ?? used * config.intermediateSize;
}

/** Standard deviations that `initialization` sets by itself, so that `initializerRange` has nothing to say. */
const WITHOUT_RANGE: readonly string[] = ["fan_in", "mitchell"];
const WITHOUT_CUTOFF: readonly string[] = ["normal", "fan_in"];

type Fault = (path: keyof Architecture, message: string) => void;

function checkMlps(config: Architecture, fault: Fault): void {
  const { mlpType, decoderSparseStep, denseIntermediateSize, numSharedExperts, layerSharedMoe, numHiddenLayers } =
    config;
  if (mlpType === "dense") {
    const settings = {
      decoderSparseStep: decoderSparseStep !== 1,
      denseIntermediateSize: denseIntermediateSize !== null,
      numSharedExperts: numSharedExperts !== 0,
      layerSharedMoe: layerSharedMoe !== "none",
    };
    for (const [key, given] of Object.entries(settings) as [keyof typeof settings, boolean][]) {
      if (given) fault(key, `${JSON.stringify(config[key])}, is of experts, which a model of mlpType "dense" has not`);
    }
    return;
  }
  if (decoderSparseStep > Math.max(1, numHiddenLayers)) {
    const limit = `must be at most numHiddenLayers (${numHiddenLayers}): no layer would have experts`;
    fault("decoderSparseStep", `${decoderSparseStep}, ${limit}`);
    return;
  }
  if (denseIntermediateSize !== null && decoderSparseStep === 1) {
    fault("denseIntermediateSize", `${denseIntermediateSize}, every layer has experts where decoderSparseStep is 1`);
  }
  const layers = countMoeLayers(config);
  if (layerSharedMoe !== "none" && layers < 2) {
    fault("layerSharedMoe", `"${layerSharedMoe}", only ${layers} layer has experts: there is nothing to share`);
  }
}

/** Reports combinations that contradict each other or in which a setting would have no effect. */
export function checkArchitecture(config: Architecture, fault: Fault): void {
  const { qkNorm, clipQkv, clipQkvPlacement, initialization } = config;
  checkMlps(config, fault);
  if (clipQkvPlacement !== "after_norm" && clipQkv === null) {
    fault("clipQkvPlacement", `"${clipQkvPlacement}", nothing is clipped where clipQkv is null`);
  } else if (clipQkvPlacement !== "after_norm" && qkNorm === "none") {
    fault("clipQkvPlacement", `"${clipQkvPlacement}", there is no norm where qkNorm is "none"`);
  }
  const idle = {
    initializerRange: WITHOUT_RANGE.includes(initialization) && config.initializerRange !== 0.02,
    initializerCutoffFactor: WITHOUT_CUTOFF.includes(initialization) && config.initializerCutoffFactor !== 3,
  };
  for (const [key, isIdle] of Object.entries(idle) as [keyof typeof idle, boolean][]) {
    if (isIdle) fault(key, `${config[key]}, has no effect where initialization is "${initialization}": leave it out`);
  }
}
