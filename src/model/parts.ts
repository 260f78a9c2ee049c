/**
 * A model as data: which norms, projections and MLPs each layer has, and the tensors they consist of. The layout of
 * memory, the counts and the decoder all read this one description.
 *
 * The parts of a layer that kernels use together are one parameter: one expert's gate and up matrices are neighbours, so
 * that the stack of all experts is at once transformers' fused `gate_up_proj` and, slice by slice, the per-expert tensors
 * of the published checkpoints.
 */
import { denseWidth, hasExperts } from "../config/architecture.ts";
import { headDim, type ModelConfig } from "../config/model.ts";
import type { AttentionParameters } from "../nn/attention.ts";
import type { MlpParameters, SwigluParameters } from "../nn/mlp.ts";
import type { Norm } from "../nn/norm.ts";
import { type Initial, initialMatrix } from "./initialization.ts";

/** A tensor under its Hugging Face name, as part of a parameter. */
export interface TensorSlice {
  readonly name: string;
  readonly shape: readonly number[];
  /** First element within the parameter. */
  readonly offset: number;
}

/** One parameter as the kernels see it. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initial: Initial;
  /** What it consists of in a checkpoint, covering it without gaps. */
  readonly slices: readonly TensorSlice[];
}

/** One layer; P stands for a matrix and F for what is always f32 in memory: the parameters of norms and routers. */
export interface LayerParts<P, F = P> {
  readonly inputNorm: Norm<F>;
  readonly attention: AttentionParameters<P, F>;
  /** The norm before the experts, whatever its name says. */
  readonly mlpNorm: Norm<F>;
  readonly mlp: MlpParameters<P, F>;
}

export interface ModelParts<P, F = P> {
  /** [V, D] */
  readonly embedding: P;
  readonly layers: readonly LayerParts<P, F>[];
  readonly norm: Norm<F>;
  /** [V, D]: the embedding itself where the two are tied. */
  readonly output: P;
}

/** Parameters that exist once for all layers are below this name. */
const SHARED_MLP = "model.mlp";

/** Turns a parameter's description into whatever stands for it; shared parameters are asked for at each use. */
export type Take<P> = (spec: ParameterSpec) => P;

/** How matrices are taken, and what is always f32 in memory. */
interface Takes<P, F> {
  readonly matrix: Take<P>;
  readonly exact: Take<F>;
}

function whole(name: string, shape: readonly number[], initial: Initial): ParameterSpec {
  return { name, shape, initial, slices: [{ name, shape, offset: 0 }] };
}

function normParts<P>(config: ModelConfig, take: Take<P>, name: string, width: number): Norm<P> {
  const { normType, rmsNormEps: epsilon } = config;
  const vector = (part: string, fill: number) => take(whole(`${name}.${part}`, [width], { fill }));
  switch (normType) {
    case "rmsnorm":
      return { type: "rmsnorm", width, epsilon, weight: vector("weight", 1) };
    case "layernorm":
      return { type: "layernorm", width, epsilon, weight: vector("weight", 1), bias: vector("bias", 0) };
    case "layernorm_nonparametric":
      return { type: "layernorm", width, epsilon };
  }
}

function attentionParts<P, F>(
  config: ModelConfig,
  take: Takes<P, F>,
  layer: number,
  name: string,
): AttentionParameters<P, F> {
  const { hiddenSize: width, numKeyValueHeads, qkNorm } = config;
  const [channels, kvWidth] = [headDim(config), numKeyValueHeads * headDim(config)];
  const matrix = (part: string, rows: number, addedInLayer?: number) =>
    take.matrix(whole(`${name}.${part}_proj.weight`, [rows, width], initialMatrix(config, width, addedInLayer)));
  const norm = (part: string, full: number) =>
    qkNorm === "none"
      ? undefined
      : normParts(config, take.exact, `${name}.${part}_norm`, qkNorm === "head" ? channels : full);
  return {
    q: matrix("q", width),
    k: matrix("k", kvWidth),
    v: matrix("v", kvWidth),
    o: matrix("o", width, layer),
    qNorm: norm("q", width),
    kNorm: norm("k", kvWidth),
  };
}

/** A SwiGLU under names of its own. */
function swigluParts<P>(
  config: ModelConfig,
  take: Take<P>,
  layer: number,
  name: string,
  inner: number,
): SwigluParameters<P> {
  const { hiddenSize: width } = config;
  const half = (part: string, offset: number) => ({
    name: `${name}.${part}_proj.weight`,
    shape: [inner, width],
    offset,
  });
  return {
    gateUp: take({
      name: `${name}.gate_up_proj.weight`,
      shape: [2 * inner, width],
      initial: initialMatrix(config, width),
      slices: [half("gate", 0), half("up", inner * width)],
    }),
    down: take(whole(`${name}.down_proj.weight`, [width, inner], initialMatrix(config, inner, layer))),
  };
}

/** The stacks of all experts. */
function expertSpecs(config: ModelConfig, layer: number, name: string): SwigluParameters<ParameterSpec> {
  const { hiddenSize: width, intermediateSize: inner, numExperts } = config;
  const ids = Array.from({ length: numExperts }, (_, id) => id);
  const matrix = (id: number, part: string) => `${name}.${id}.${part}_proj.weight`;
  return {
    gateUp: {
      name: `${name}.gate_up_proj`,
      shape: [numExperts, 2 * inner, width],
      initial: initialMatrix(config, width),
      slices: ids.flatMap((id) => [
        { name: matrix(id, "gate"), shape: [inner, width], offset: id * 2 * inner * width },
        { name: matrix(id, "up"), shape: [inner, width], offset: (id * 2 + 1) * inner * width },
      ]),
    },
    down: {
      name: `${name}.down_proj`,
      shape: [numExperts, width, inner],
      initial: initialMatrix(config, inner, layer),
      slices: ids.map((id) => ({ name: matrix(id, "down"), shape: [width, inner], offset: id * width * inner })),
    },
  };
}

/** The MLP of a layer without experts. */
function denseParts<P>(config: ModelConfig, take: Take<P>, layer: number, name: string): SwigluParameters<P> {
  if (config.mlpType === "moe") return swigluParts(config, take, layer, name, denseWidth(config));
  // The dense twin's is stored as the one expert of a mixture, which transformers loads.
  const { gateUp, down } = expertSpecs(config, layer, `${name}.experts`);
  const withoutExpertAxis = (spec: ParameterSpec) => take({ ...spec, shape: spec.shape.slice(1) });
  return { gateUp: withoutExpertAxis(gateUp), down: withoutExpertAxis(down) };
}

function mlpParts<P, F>(config: ModelConfig, take: Takes<P, F>, layer: number, own: string): MlpParameters<P, F> {
  if (!hasExperts(config, layer)) return { always: denseParts(config, take.matrix, layer, own) };
  const { hiddenSize: width, intermediateSize: inner, numExperts, numSharedExperts, layerSharedMoe } = config;
  const [layers, step] = [config.numHiddenLayers, config.decoderSparseStep];
  const name = layerSharedMoe === "none" ? own : SHARED_MLP;
  // What layers share is drawn as that of the last of them, which bounds the sum of what all of them add to the stream.
  const depth = layerSharedMoe === "none" ? layer : layers - (layers % step) - 1;
  const routerName = `${layerSharedMoe === "moe" ? SHARED_MLP : own}.gate.weight`;
  const router = take.exact(whole(routerName, [numExperts, width], initialMatrix(config, width)));
  const { gateUp, down } = expertSpecs(config, depth, `${name}.experts`);
  return {
    routed: { router, gateUp: take.matrix(gateUp), down: take.matrix(down) },
    always:
      numSharedExperts === 0
        ? undefined
        : swigluParts(config, take.matrix, depth, `${name}.shared_experts`, numSharedExperts * inner),
  };
}

/**
 * Describes a model. Parameters are taken in the order in which they lie in memory.
 * @param take called for each use of a parameter, so more than once for what layers share.
 */
export function modelParts<P>(config: ModelConfig, take: Take<P>): ModelParts<P> {
  return describedParts(config, { matrix: take, exact: take });
}

/** The same, with what is always f32 in memory (norms and routers) taken in its own way. */
export function weightParts<P, F>(config: ModelConfig, matrix: Take<P>, exact: Take<F>): ModelParts<P, F> {
  return describedParts(config, { matrix, exact });
}

function describedParts<P, F>(config: ModelConfig, take: Takes<P, F>): ModelParts<P, F> {
  const { vocabSize, hiddenSize: width, numHiddenLayers, tieWordEmbeddings } = config;
  const matrix = (name: string) => take.matrix(whole(name, [vocabSize, width], initialMatrix(config, width)));
  const embedding = matrix("model.embed_tokens.weight");
  const layers = Array.from({ length: numHiddenLayers }, (_, index) => {
    const name = `model.layers.${index}`;
    return {
      inputNorm: normParts(config, take.exact, `${name}.input_layernorm`, width),
      attention: attentionParts(config, take, index, `${name}.self_attn`),
      mlpNorm: normParts(config, take.exact, `${name}.post_attention_layernorm`, width),
      mlp: mlpParts(config, take, index, `${name}.mlp`),
    };
  });
  const norm = normParts(config, take.exact, "model.norm", width);
  return { embedding, layers, norm, output: tieWordEmbeddings ? embedding : matrix("lm_head.weight") };
}
