/**
 * The decoder: one forward pass for training, scoring and generation. What differs between them is the graph (recording
 * or not), the cache and the observer; the arithmetic is the same.
 */
import { checkpoint } from "../autograd/checkpoint.ts";
import type { Graph, Variable } from "../autograd/graph.ts";
import { fillRotaryTable, type RotaryTable } from "../autograd/ops/attention.ts";
import { add, embedding, linear } from "../autograd/ops/basic.ts";
import type { RouterOptions, Routing } from "../autograd/ops/moe.ts";
import { isStored } from "../autograd/ops/stored.ts";
import type { Backend } from "../backend/backend.ts";
import { headDim, type ModelConfig } from "../config/model.ts";
import { ShapeError } from "../errors.ts";
import { type SequenceLayout, selfAttention } from "../nn/attention.ts";
import { type IntervenedToken, type InterventionPlan, intervenedTokens } from "../nn/intervention.ts";
import { mlp } from "../nn/mlp.ts";
import { normalise } from "../nn/norm.ts";
import { type Block, type DType, Tensor } from "../tensor/tensor.ts";
import { type CachedSequence, layOutPass, type PagePool, passPositions } from "./cache.ts";
import type { Parameters } from "./parameters.ts";
import { type LayerParts, type ModelParts, type ParameterSpec, weightParts } from "./parts.ts";
import { type RopeScaling, scaledContext, scaledFrequencies } from "./ropeScaling.ts";
import type { Weight, WeightSource } from "./weights.ts";

/**
 * Sees a pass from inside. Each tensor holds its values during the call only; T tokens, sequence after sequence.
 * What is left out costs nothing.
 */
export interface Observer {
  /** The residual stream [T, D]: index 0 after the embedding, N after layer N. */
  hidden?(index: number, hidden: Tensor): void;
  /** What attention adds to the stream, [T, D]. */
  attentionOutput?(layer: number, output: Tensor): void;
  /** What the experts (or the dense MLP) add to the stream, [T, D]. */
  mlpOutput?(layer: number, output: Tensor): void;
  /** Router logits and probabilities [T, E], and in each token's slots the experts that serve it, -1 for none. */
  routing?(layer: number, routing: Routing): void;
  /** After the last norm, [T, D]. */
  finalNorm?(hidden: Tensor): void;
}

export interface DecoderOptions {
  /** Read beyond the trained context: `config.maxPositionEmbeddings` is longer by the factor. Default: refused. */
  readonly ropeScaling?: RopeScaling | undefined;
}

export interface ForwardOptions {
  /** Sequences in `ids`, all of equal length; default 1. */
  readonly batch?: number | undefined;
  /**
   * Instead of `batch`: how many of `ids` are of each sequence, and what it has read before. They continue from there and
   * are added to it. Not with a recording graph, `positions`, `kvStart` or `dropTokens`.
   */
  readonly sequences?: readonly CachedSequence[] | undefined;
  /** Position of each token; default: counted from 0. */
  readonly positions?: ArrayLike<number> | undefined;
  /** First position that each token sees; default 0. Left padding and document borders. */
  readonly kvStart?: ArrayLike<number> | undefined;
  /** 1 for each token that counts in the router losses, 0 for padding; default: all count. */
  readonly tokenMask?: Tensor | undefined;
  /** Apply the config's `expertCapacityFactor`, as training does; default: dropless. */
  readonly dropTokens?: boolean | undefined;
  readonly observe?: Observer | undefined;
  /** What changes the routing of each sequence, undefined for nothing. Not with a recording graph or `dropTokens`. */
  readonly interventions?: readonly (InterventionPlan | undefined)[] | undefined;
  /** Layers whose activations are computed again on the way back instead of being kept. Of a recording graph only. */
  readonly recompute?: ReadonlySet<number> | undefined;
}

export interface ForwardResult {
  /** After the last norm, [T, D]. */
  readonly hidden: Variable;
  /** One for each layer with experts. */
  readonly routings: readonly Routing[];
}

/** What a layer needs of a pass's options, and of its own earlier run where it is run again. */
type LayerOptions = ForwardOptions &
  Pick<RouterOptions, "lossGradient"> & { readonly intervened?: readonly IntervenedToken[] | undefined };

/** Where the tokens of a pass stand, and the pages that it reads and writes. */
interface PassLayout extends SequenceLayout {
  /** `positions` as they were given. */
  readonly places: ArrayLike<number>;
  readonly pool?: PagePool | undefined;
}

/**
 * An OLMoE decoder over weights in memory, or as a model file stores them: operations pick their kernels by that.
 * S is where the weights come from; code that only reads takes a `Decoder<WeightSource>`.
 */
export class Decoder<S extends WeightSource = Parameters> {
  readonly config: ModelConfig;
  readonly parameters: S;
  readonly #parts: ModelParts<Weight, Variable>;
  readonly #rotaryBlock: Block;
  readonly #rotary: RotaryTable;

  /**
   * @throws ConfigError for a scaling of positions that can not be; ShapeError for a source that gives a norm or a router
   *   as it is stored.
   */
  constructor(backend: Backend, parameters: S, { ropeScaling }: DecoderOptions = {}) {
    this.config = scaledContext(parameters.config, ropeScaling);
    this.parameters = parameters;
    const exact = (spec: ParameterSpec) => {
      const weight = parameters.weight(spec);
      if (isStored(weight)) throw new ShapeError(`${spec.name}: stored as ${weight.type}, expected f32 in memory`);
      return weight;
    };
    this.#parts = weightParts(this.config, (spec) => parameters.weight(spec), exact);
    const shape = [this.config.maxPositionEmbeddings, headDim(this.config) / 2] as const;
    const bytes = shape[0] * shape[1] * 4;
    this.#rotaryBlock = backend.allocate(2 * bytes);
    this.#rotary = {
      cosine: new Tensor(this.#rotaryBlock, "f32", shape),
      sine: new Tensor(this.#rotaryBlock, "f32", shape, bytes),
    };
    fillRotaryTable(this.#rotary, scaledFrequencies(parameters.config, ropeScaling));
  }

  /**
   * @param ids [T], sequence after sequence.
   * @throws ShapeError for ids outside the vocabulary, positions beyond the model's context, and options that do not fit
   *   the ids or each other; ResourceError where the cache has too few pages.
   */
  forward(graph: Graph, ids: ArrayLike<number>, options: ForwardOptions): ForwardResult {
    const { sequences, observe } = options;
    const layout =
      sequences === undefined
        ? this.#layout(graph, ids.length, options)
        : this.#cachedLayout(graph, ids.length, sequences, options);
    const layerOptions: LayerOptions =
      options.interventions === undefined
        ? options
        : { ...options, intervened: this.#intervened(graph, layout, options) };
    const routings: Routing[] = [];
    let stream = embedding(graph, this.#parts.embedding, graph.ids(ids));
    observe?.hidden?.(0, stream.value);
    for (const index of this.#parts.layers.keys()) {
      stream = options.recompute?.has(index)
        ? this.#recomputedLayer(graph, index, stream, layout, layerOptions, routings)
        : this.#layer(graph, index, stream, layout, layerOptions, routings);
      observe?.hidden?.(index + 1, stream.value);
    }
    for (const { tokens, cache } of sequences ?? []) cache.commit(tokens);
    const hidden = normalise(graph, stream, this.#parts.norm);
    graph.discard(stream);
    observe?.finalNorm?.(hidden.value);
    return { hidden, routings };
  }

  /** The output matrix [V, D]: the embedding where the two are tied. */
  get outputWeight(): ReturnType<S["weight"]> {
    return this.#parts.output as ReturnType<S["weight"]>;
  }

  /** Logits [T, V] of hidden states [T, D]. Training uses `linearCrossEntropy` instead, which never holds them all. */
  logits(graph: Graph, hidden: Variable): Variable {
    return linear(graph, hidden, this.outputWeight);
  }

  /** Gives the decoder's own memory back; the parameters are their owner's. */
  dispose(): void {
    this.#rotaryBlock.release();
  }

  #layout(graph: Graph, tokens: number, { batch = 1, positions, kvStart }: ForwardOptions): PassLayout {
    if (tokens % batch !== 0) throw new ShapeError(`forward: ${tokens} ids are not ${batch} sequences of equal length`);
    const length = tokens / batch;
    const places = positions ?? Array.from({ length: tokens }, (_, index) => index % length);
    checkIndices("positions", places, tokens);
    if (kvStart !== undefined) checkIndices("kvStart", kvStart, tokens);
    this.#checkPositions(places);
    return {
      batch,
      places,
      positions: graph.ids(places),
      kvStart: kvStart === undefined ? undefined : graph.ids(kvStart),
      rotary: this.#rotary,
    };
  }

  #cachedLayout(
    graph: Graph,
    tokens: number,
    sequences: readonly CachedSequence[],
    { batch, positions, kvStart, dropTokens }: ForwardOptions,
  ): PassLayout {
    if (graph.recording) throw new ShapeError("forward: no gradients flow through a cache");
    const others = Object.entries({ batch, positions, kvStart, dropTokens }).filter(([, value]) => value !== undefined);
    if (others.length > 0) throw new ShapeError(`forward: ${others[0]?.[0]} can not be given with sequences`);
    const places = passPositions(tokens, sequences);
    this.#checkPositions(places);
    const pool = sequences[0]?.cache.pool;
    if (!pool?.fits(this.config)) throw new ShapeError("forward: the cache is for a model of another shape");
    const cached = layOutPass(graph, sequences);
    return { batch: 1, places, positions: graph.ids(places), rotary: this.#rotary, cached, pool };
  }

  /** @throws ShapeError for interventions that are not one for each sequence, or where gradients or full experts are asked for. */
  #intervened(
    graph: Graph,
    { batch, places }: PassLayout,
    { interventions = [], sequences, dropTokens }: ForwardOptions,
  ): IntervenedToken[] {
    if (graph.recording) throw new ShapeError("forward: no gradients flow through interventions");
    if (dropTokens) throw new ShapeError("forward: dropTokens can not be given with interventions");
    const lengths = sequences?.map(({ tokens }) => tokens) ?? new Array<number>(batch).fill(places.length / batch);
    if (interventions.length !== lengths.length) {
      throw new ShapeError(`forward: interventions for ${interventions.length} sequences, there are ${lengths.length}`);
    }
    return intervenedTokens(interventions, lengths, places);
  }

  /** Kernels look positions up in the rotary table without asking. */
  #checkPositions(places: ArrayLike<number>): void {
    const most = this.config.maxPositionEmbeddings - 1;
    for (let index = 0; index < places.length; index++) {
      const place = places[index] as number;
      if (Number.isInteger(place) && place >= 0 && place <= most) continue;
      throw new ShapeError(`context: position ${place}, the model holds ${most + 1} (positions 0..${most})`, {
        hint: "shorten the input",
      });
    }
  }

  /** A layer that keeps its input, its output and what the router losses read. */
  #recomputedLayer(
    graph: Graph,
    index: number,
    stream: Variable,
    layout: PassLayout,
    options: LayerOptions,
    routings: Routing[],
  ): Variable {
    if (!graph.recording) return this.#layer(graph, index, stream, layout, options, routings);
    const routed: Routing[] = [];
    const next = checkpoint(graph, stream, (inner, input) => {
      if (inner.recording) {
        // The losses have been computed by now: their gradient goes to the router that is run again.
        const replay = { ...options, observe: undefined, lossGradient: routed[0]?.lossGradient };
        return { out: this.#layer(inner, index, input, layout, replay, []), kept: [] };
      }
      const out = this.#layer(inner, index, input, layout, options, routed);
      return { out, kept: routed.flatMap(tensorsOf) };
    });
    routings.push(...routed);
    return next;
  }

  #layer(
    graph: Graph,
    index: number,
    stream: Variable,
    layout: PassLayout,
    { observe, tokenMask, dropTokens, lossGradient, intervened: changed }: LayerOptions,
    routings: Routing[],
  ): Variable {
    const { config } = this;
    const { inputNorm, attention, mlpNorm, mlp: mlpParts } = this.#parts.layers[index] as LayerParts<Weight, Variable>;
    const normed = normalise(graph, stream, inputNorm);
    const attended = selfAttention(graph, normed, attention, config, layout, layout.pool?.layer(index));
    observe?.attentionOutput?.(index, attended.value);
    const middle = add(graph, stream, attended);
    graph.discard(normed, attended, stream);

    const mlpInput = normalise(graph, middle, mlpNorm);
    const intervened = changed && { layer: index, tokens: changed };
    const pass = { sequences: layout.batch, tokenMask, dropTokens, lossGradient, intervened };
    const { out: output, routing } = mlp(graph, mlpInput, mlpParts, config, pass);
    if (routing !== undefined) {
      routings.push(routing);
      observe?.routing?.(index, routing);
    }
    observe?.mlpOutput?.(index, output.value);
    const next = add(graph, middle, output);
    graph.discard(mlpInput, output, middle);
    return next;
  }
}

/** The tensors that a routing's losses and statistics are read from: all but the logits, which only observers see. */
function tensorsOf({ logits: _, ...routing }: Routing): Tensor<DType>[] {
  return Object.values(routing).filter((value) => value instanceof Tensor);
}

/** Kernels take on trust that there is one index for each token and none below 0. */
function checkIndices(name: string, values: ArrayLike<number>, tokens: number): void {
  if (values.length !== tokens) throw new ShapeError(`forward: ${values.length} ${name} for ${tokens} ids`);
  const negative = Array.prototype.findIndex.call(values, (value: number) => value < 0);
  if (negative >= 0) throw new ShapeError(`forward: ${name}[${negative}] is ${values[negative]}, must be at least 0`);
}
