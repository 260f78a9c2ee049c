/** Keys and values of the positions that a model has already read, so that each new token costs one position. */
import type { ModelConfig } from "../config/model.ts";
import { headDim } from "../config/model.ts";
import { ConfigError, ShapeError } from "../errors.ts";
import type { LayerCache } from "../nn/attention.ts";
import { type Allocator, type Block, Tensor } from "../tensor/tensor.ts";

/** One cache for `batch` sequences of equal length. */
export class KeyValueCache {
  readonly batch: number;
  /** Positions it can hold. */
  readonly capacity: number;
  readonly #blocks: Block[] = [];
  readonly #layers: { readonly keys: Tensor; readonly values: Tensor }[];
  #length = 0;
  #pending = 0;

  /**
   * @throws ConfigError for a model whose experts choose their tokens; ResourceError when there is no memory: 8 bytes for
   *   each layer, position and key/value channel.
   */
  constructor(allocator: Allocator, config: ModelConfig, batch: number, capacity: number) {
    if (config.routing === "expert_choice") {
      throw new ConfigError(
        'cache: a model whose routing is "expert_choice" can not read token by token: which experts serve a token ' +
          "depends on those after it",
        { hint: 'score whole sequences with it; to generate, train with model.routing "token_choice"' },
      );
    }
    this.batch = batch;
    this.capacity = capacity;
    const width = config.numKeyValueHeads * headDim(config);
    const tensor = () => {
      const block = allocator.allocate(batch * capacity * width * 4);
      this.#blocks.push(block);
      return new Tensor(block, "f32", [batch, capacity, width]);
    };
    this.#layers = Array.from({ length: config.numHiddenLayers }, () => ({ keys: tensor(), values: tensor() }));
  }

  /** Positions held. */
  get length(): number {
    return this.#length;
  }

  /** Forgets the positions from `length` on. */
  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
  }

  /** Makes room for a pass of `tokens` in each sequence. @throws ShapeError when it does not fit. */
  begin(batch: number, tokens: number): void {
    if (batch !== this.batch) throw new ShapeError(`cache: ${batch} sequences, it is for ${this.batch}`);
    if (this.#length + tokens > this.capacity) {
      throw new ShapeError(`cache: ${this.#length} + ${tokens} positions, it holds ${this.capacity}`);
    }
    this.#pending = tokens;
  }

  /** Ends a pass: its positions count from now on. */
  commit(): void {
    this.#length += this.#pending;
    this.#pending = 0;
  }

  /** One layer's part during a pass. */
  layer(index: number): LayerCache {
    const layer = this.#layers[index];
    if (layer === undefined) throw new Error(`internal: no cache for layer ${index}`);
    const { batch, capacity } = this;
    const [start, count] = [this.#length, this.#pending];
    const copy = (from: Tensor, to: Tensor) => {
      const width = to.dim(-1);
      const [source, target] = [from.data, to.data];
      for (let b = 0; b < batch; b++) {
        const rows = source.subarray(b * count * width, (b + 1) * count * width);
        target.set(rows, (b * capacity + start) * width);
      }
    };
    return {
      ...layer,
      capacity,
      store(k, v) {
        copy(k, layer.keys);
        copy(v, layer.values);
        return start + count;
      },
    };
  }

  /** Gives the memory back. */
  dispose(): void {
    for (const block of this.#blocks) block.release();
  }
}
