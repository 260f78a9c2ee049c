/** L2 norms of gradients and weights by group of parameters and by layer. */
import type { Backend } from "../backend/backend.ts";
import type { Parameters } from "../model/parameters.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** What a parameter is for. An MLP without experts counts as one; a tied head belongs to the embeddings. */
export type ParameterGroup = "embeddings" | "attention" | "norms" | "router" | "experts" | "head" | "other";

/** The first pattern that fits a tensor's name tells its group: query and key norms are norms, not attention. */
const GROUPS: readonly (readonly [ParameterGroup, RegExp])[] = [
  ["norms", /norm\.(weight|bias)$/],
  ["router", /mlp\.gate\.weight$/],
  ["experts", /mlp\./],
  ["attention", /\.self_attn\./],
  ["embeddings", /(^|\.)embed_tokens\./],
  ["head", /^lm_head\./],
];

/** Group of a tensor, by its Hugging Face name. */
export function parameterGroup(name: string): ParameterGroup {
  return GROUPS.find(([, pattern]) => pattern.test(name))?.[0] ?? "other";
}

/** Layer of a tensor, by its name; undefined outside the layers. */
export function parameterLayer(name: string): number | undefined {
  const [, layer] = /^model\.layers\.(\d+)\./.exec(name) ?? [];
  return layer === undefined ? undefined : Number(layer);
}

/** Norms of one flat block. */
export interface Norms {
  /** Of each group that the model has. Their squares add up to the square of the norm of everything. */
  readonly groups: Readonly<Partial<Record<ParameterGroup, number>>>;
  /** [layer] of all parameters of a layer. */
  readonly layers: readonly number[];
}

/** Neighbouring tensors of one group and layer: one kernel call. */
interface NormRange {
  readonly group: ParameterGroup;
  readonly layer: number | undefined;
  readonly start: number;
  readonly size: number;
}

/** Computes norms over a model's flat blocks of values and gradients. */
export class NormMeter {
  readonly #backend: Backend;
  readonly #ranges: readonly NormRange[];

  constructor(backend: Backend, parameters: Parameters) {
    this.#backend = backend;
    const merged: NormRange[] = [];
    for (const { name, start, size } of parameters.ranges()) {
      const [group, layer, last] = [parameterGroup(name), parameterLayer(name), merged.at(-1)];
      // Padding between parameters is zero and adds nothing.
      if (last?.group === group && last.layer === layer) {
        merged[merged.length - 1] = { ...last, size: start + size - last.start };
      } else merged.push({ group, layer, start, size });
    }
    this.#ranges = merged;
  }

  /** @param flat one of the model's flat blocks. */
  measure(flat: Tensor): Norms {
    const groups: Partial<Record<ParameterGroup, number>> = {};
    const layers: number[] = [];
    for (const { group, layer, start, size } of this.#ranges) {
      const squares = this.#backend.kernels.sumSquares(flat.slice(start, [size]).pointer, size);
      groups[group] = (groups[group] ?? 0) + squares;
      if (layer !== undefined) layers[layer] = (layers[layer] ?? 0) + squares;
    }
    const roots = Object.entries(groups).map(([group, squares]) => [group, Math.sqrt(squares)]);
    return { groups: Object.fromEntries(roots), layers: layers.map(Math.sqrt) };
  }
}
