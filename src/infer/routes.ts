/**
 * The routing of a sequence's tokens, kept as passes compute it: chunk by chunk, again after a restart, or taken over with
 * pages of the prefix cache. Letters: L layers with experts, S slots of a token, E experts.
 */
import type { Routing } from "../autograd/ops/moe.ts";
import { moeLayers } from "../config/architecture.ts";
import type { ModelConfig } from "../config/model.ts";

/** What may be kept of a router besides the experts and weights. */
export const ROUTER_COLUMNS = ["probabilities", "logits"] as const;
export type RouterColumn = (typeof ROUTER_COLUMNS)[number];

/** The experts of one token's pass. */
export interface TokenRouting {
  /** [L * S], layer after layer, the most probable expert first; -1 in a slot that holds none. */
  readonly experts: Int16Array;
  /** [L * S] what multiplies the experts' outputs. */
  readonly weights: Float32Array;
  /** [L * E] the router's probabilities before any expert is chosen; where they were asked for. */
  readonly probabilities?: Float32Array;
  /** [L * E] what the softmax is taken of; where they were asked for. */
  readonly logits?: Float32Array;
}

/** The same for T neighbouring tokens, as traces have it: all tokens of a layer, then those of the next. */
export interface TokensRouting {
  /** Of the first token in its sequence. */
  readonly position: number;
  /** T. */
  readonly tokens: number;
  /** [L, T, S] */
  readonly experts: Int16Array;
  /** [L, T, S] */
  readonly weights: Float32Array;
  /** [L, T, E] */
  readonly probabilities?: Float32Array;
  /** [L, T, E] */
  readonly logits?: Float32Array;
}

export interface RouteShape {
  readonly layers: number;
  readonly slots: number;
  readonly numExperts: number;
  readonly columns: readonly RouterColumn[];
}

/** @param slots more than the model's K where interventions give a token more. */
export function routeShape(
  config: ModelConfig,
  columns: readonly RouterColumn[] = [],
  slots: number = config.numExpertsPerTok,
): RouteShape {
  const { numExperts } = config;
  return { layers: moeLayers(config).length, slots, numExperts, columns };
}

/** Token by token, so that tokens can be added, cut out and put in: [T, L, width] in each array. */
class Rows {
  readonly shape: RouteShape;
  experts: Int16Array;
  weights: Float32Array;
  readonly router: Map<RouterColumn, Float32Array>;

  constructor(shape: RouteShape, tokens: number) {
    this.shape = shape;
    this.experts = new Int16Array(tokens * this.slotWidth);
    this.weights = new Float32Array(tokens * this.slotWidth);
    this.router = new Map(shape.columns.map((column) => [column, new Float32Array(tokens * this.expertWidth)]));
  }

  get slotWidth(): number {
    return this.shape.layers * this.shape.slots;
  }

  get expertWidth(): number {
    return this.shape.layers * this.shape.numExperts;
  }

  /** Makes room for more tokens. */
  grow(tokens: number): void {
    const larger = new Rows(this.shape, tokens);
    larger.copy(this, 0, 0, this.weights.length / Math.max(1, this.slotWidth));
    this.experts = larger.experts;
    this.weights = larger.weights;
    for (const [column, values] of larger.router) this.router.set(column, values);
  }

  /** Copies `tokens` rows of another one's from `start` to `at`. */
  copy(from: Rows, start: number, at: number, tokens: number): void {
    const { slotWidth, expertWidth } = this;
    const rows = <A extends Int16Array | Float32Array>(values: A, width: number) =>
      values.subarray(start * width, (start + tokens) * width);
    this.experts.set(rows(from.experts, slotWidth), at * slotWidth);
    this.weights.set(rows(from.weights, slotWidth), at * slotWidth);
    for (const [column, values] of this.router) {
      values.set(rows(from.router.get(column) as Float32Array, expertWidth), at * expertWidth);
    }
  }
}

/** The rows of a page of the prefix cache. */
export interface RoutePage {
  readonly start: number;
  readonly tokens: number;
  readonly rows: Rows;
}

export class RouteStore {
  /** First position that is kept. */
  readonly from: number;
  readonly shape: RouteShape;
  readonly #rows: Rows;
  #room: number;

  /** @param room tokens that are expected; more can come. */
  constructor(shape: RouteShape, from: number, room: number) {
    this.shape = shape;
    this.from = from;
    this.#room = Math.max(1, room);
    this.#rows = new Rows(shape, this.#room);
  }

  /**
   * Takes what a pass computed in one layer.
   * @param layer counted among those with experts.
   * @param first the row of the pass that is the token at `position`.
   */
  take(layer: number, position: number, tokens: number, routing: Routing, first: number): void {
    const skipped = Math.max(0, this.from - position);
    const count = tokens - skipped;
    if (count <= 0) return;
    const at = position + skipped - this.from;
    this.#reserve(at + count);
    const { shape } = this;
    const wide = routing.expertIds.dim(1);
    const [ids, weights] = [routing.expertIds.data, routing.expertWeights.value.data];
    const used = Math.min(wide, shape.slots);
    const { experts: toIds, weights: toWeights } = this.#rows;
    for (let token = 0; token < count; token++) {
      const source = (first + skipped + token) * wide;
      const target = ((at + token) * shape.layers + layer) * shape.slots;
      for (let slot = 0; slot < used; slot++) {
        toIds[target + slot] = ids[source + slot] as number;
        toWeights[target + slot] = weights[source + slot] as number;
      }
      for (let slot = used; slot < shape.slots; slot++) {
        toIds[target + slot] = -1;
        toWeights[target + slot] = 0;
      }
    }
    for (const [column, values] of this.#rows.router) {
      const from = column === "logits" ? routing.logits.data : routing.probs.data;
      const width = shape.numExperts;
      for (let token = 0; token < count; token++) {
        const source = (first + skipped + token) * width;
        values.set(from.subarray(source, source + width), ((at + token) * shape.layers + layer) * width);
      }
    }
  }

  /** A copy of positions that were taken. */
  page(position: number, tokens: number): RoutePage {
    const rows = new Rows(this.shape, tokens);
    rows.copy(this.#rows, position - this.from, 0, tokens);
    return { start: position, tokens, rows };
  }

  /** Whether a page has all that is kept here of its positions, or none of them are kept. */
  accepts(page: RoutePage | undefined, end: number): boolean {
    if (end <= this.from) return true;
    const { columns, slots } = this.shape;
    return page?.rows.shape.slots === slots && columns.every((column) => page.rows.router.has(column));
  }

  /** Puts a page's rows in. */
  put({ start, tokens, rows }: RoutePage): void {
    const skipped = Math.max(0, this.from - start);
    if (skipped >= tokens) return;
    const at = start + skipped - this.from;
    this.#reserve(at + tokens - skipped);
    this.#rows.copy(rows, skipped, at, tokens - skipped);
  }

  /** Of the token at a position. */
  token(position: number): TokenRouting {
    const { slotWidth, expertWidth, experts, weights, router } = this.#rows;
    const at = position - this.from;
    const row = (values: Float32Array) => values.slice(at * expertWidth, (at + 1) * expertWidth);
    return {
      experts: experts.slice(at * slotWidth, (at + 1) * slotWidth),
      weights: weights.slice(at * slotWidth, (at + 1) * slotWidth),
      ...Object.fromEntries([...router].map(([column, values]) => [column, row(values)])),
    };
  }

  /** Of the tokens at positions `start` to before `end`. */
  tokens(start: number, end: number): TokensRouting {
    const { layers, slots, numExperts } = this.shape;
    const tokens = end - start;
    const byLayer = <A extends Int16Array | Float32Array>(values: A, width: number): A => {
      const result = new (values.constructor as new (length: number) => A)(layers * tokens * width);
      for (let token = 0; token < tokens; token++) {
        for (let layer = 0; layer < layers; layer++) {
          const source = ((start - this.from + token) * layers + layer) * width;
          const target = (layer * tokens + token) * width;
          for (let index = 0; index < width; index++) result[target + index] = values[source + index] as number;
        }
      }
      return result;
    };
    return {
      position: start,
      tokens,
      experts: byLayer(this.#rows.experts, slots),
      weights: byLayer(this.#rows.weights, slots),
      ...Object.fromEntries([...this.#rows.router].map(([column, values]) => [column, byLayer(values, numExperts)])),
    };
  }

  #reserve(tokens: number): void {
    if (tokens <= this.#room) return;
    this.#room = Math.max(tokens, 2 * this.#room);
    this.#rows.grow(this.#room);
  }
}

/** A token's routing as that of a run of one. */
export function runOfOne(position: number, { experts, weights, ...router }: TokenRouting): TokensRouting {
  return { position, tokens: 1, experts, weights, ...router };
}
