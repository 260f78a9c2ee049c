/**
 * Which type each tensor of a model gets: the presets of llama.cpp's `llama-quantize`, tensor for tensor (src/llama-quant.cpp,
 * without importance weights). Norms and routers stay as they are; what models are sensitive to gets more bits.
 */
import { STORAGE_TYPES, type StorageType } from "../tensor/stored.ts";

interface Preset {
  /** The type of most tensors. */
  readonly type: StorageType;
  /** GGUF's `general.file_type` (llama.h, llama_ftype). */
  readonly fileType: number;
}

export const QUANTIZE_PRESETS = {
  q2_k: { type: "Q2_K", fileType: 10 },
  q3_k_s: { type: "Q3_K", fileType: 11 },
  q3_k_m: { type: "Q3_K", fileType: 12 },
  q3_k_l: { type: "Q3_K", fileType: 13 },
  q4_0: { type: "Q4_0", fileType: 2 },
  q4_1: { type: "Q4_1", fileType: 3 },
  q4_k_s: { type: "Q4_K", fileType: 14 },
  q4_k_m: { type: "Q4_K", fileType: 15 },
  q5_0: { type: "Q5_0", fileType: 8 },
  q5_1: { type: "Q5_1", fileType: 9 },
  q5_k_s: { type: "Q5_K", fileType: 16 },
  q5_k_m: { type: "Q5_K", fileType: 17 },
  q6_k: { type: "Q6_K", fileType: 18 },
  q8_0: { type: "Q8_0", fileType: 7 },
  f16: { type: "F16", fileType: 1 },
  bf16: { type: "BF16", fileType: 32 },
} as const satisfies Readonly<Record<string, Preset>>;

export type QuantizePreset = keyof typeof QUANTIZE_PRESETS;

/** Sizes of a model that the presets depend on. */
export interface PresetSizes {
  readonly layers: number;
  /** Experts of a layer; 0 for a dense model. */
  readonly experts: number;
  readonly heads: number;
  readonly kvHeads: number;
}

/** A tensor under its name in GGUF. */
export interface PresetTensor {
  readonly name: string;
  readonly type: StorageType;
  /** Slowest dimension first. */
  readonly shape: readonly number[];
}

/** The place of a layer among others, for the rules of some layers only. */
interface Place {
  readonly index: number;
  readonly count: number;
}

/** The first and the last eighth of the layers, and every third between. */
function getsMoreBits({ index, count }: Place): boolean {
  const eighth = Math.floor(count / 8);
  return index < eighth || index >= Math.floor((7 * count) / 8) || (index - eighth) % 3 === 2;
}

/** Types by preset for one kind of tensor; undefined leaves the preset's own. */
type Rule = (preset: QuantizePreset, place: Place, sizes: PresetSizes) => StorageType | undefined;

const valueProjection: Rule = (preset, place, { experts, heads, kvHeads }) => {
  if (experts === 8) return "Q8_0";
  switch (preset) {
    case "q2_k":
      return heads / kvHeads >= 4 ? "Q4_K" : "Q3_K";
    case "q3_k_m":
      return place.index < 2 ? "Q5_K" : "Q4_K";
    case "q3_k_l":
      return "Q5_K";
    case "q4_k_s":
      return place.index < 4 ? "Q5_K" : undefined;
    case "q4_k_m":
    case "q5_k_m":
      return getsMoreBits(place) ? "Q6_K" : undefined;
    default:
      return undefined;
  }
};

const keyProjection: Rule = (_preset, _place, { experts }) => (experts === 8 ? "Q8_0" : undefined);

const downProjection: Rule = (preset, place) => {
  switch (preset) {
    case "q2_k":
      return "Q3_K";
    case "q3_k_m":
      return place.index < Math.floor(place.count / 16) ? "Q5_K" : "Q4_K";
    case "q3_k_l":
      return "Q5_K";
    case "q4_k_s":
      return place.index < Math.floor(place.count / 8) ? "Q5_K" : undefined;
    case "q4_k_m":
    case "q5_k_m":
      return getsMoreBits(place) ? "Q6_K" : undefined;
    default:
      return undefined;
  }
};

const OUTPUT_PROJECTION: Partial<Record<QuantizePreset, StorageType>> = {
  q2_k: "Q3_K",
  q3_k_m: "Q4_K",
  q3_k_l: "Q5_K",
};
const EIGHT_EXPERTS: readonly QuantizePreset[] = ["q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m"];

const outputProjection: Rule = (preset, _place, { experts }) => {
  if (experts === 8) return EIGHT_EXPERTS.includes(preset) ? "Q5_K" : undefined;
  return OUTPUT_PROJECTION[preset];
};

/** By what a tensor's name contains. */
const RULES: readonly (readonly [part: string, rule: Rule])[] = [
  ["attn_v.weight", valueProjection],
  ["attn_k.weight", keyProjection],
  ["attn_output.weight", outputProjection],
  ["ffn_down", downProjection],
];

/** What a type of 256 values a block is replaced by where rows do not end with a block. */
const SMALLER_BLOCKS: Partial<Record<StorageType, StorageType>> = {
  Q2_K: "Q4_0",
  Q3_K: "Q4_0",
  Q4_K: "Q5_0",
  Q5_K: "Q5_1",
  Q6_K: "Q8_0",
};

const fits = (type: StorageType, columns: number) => columns % STORAGE_TYPES[type].blockValues === 0;

/** The type, or one with smaller blocks, or f16. */
function fitting(type: StorageType, columns: number): StorageType {
  const candidates = [type, SMALLER_BLOCKS[type] ?? type, "F16"] as const;
  return candidates.find((candidate) => fits(candidate, columns))!;
}

/** Matrices but routers: a vector or a router is too small to matter and too sensitive. */
function isQuantised({ name, shape }: PresetTensor): boolean {
  return (
    shape.length >= 2 &&
    name.endsWith("weight") &&
    !name.includes("_norm.weight") &&
    !name.includes("ffn_gate_inp.weight")
  );
}

const layerOf = (name: string) => Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1);

/** The order of tensors in quantised files: what is of no layer, then layer by layer, each by name. */
export function byLayerAndName(a: { readonly name: string }, b: { readonly name: string }): number {
  return layerOf(a.name) - layerOf(b.name) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

/**
 * The type of each tensor, by name.
 * @param tensors all of a model; a model without `output.weight` uses its embedding as output.
 */
export function chooseTypes(
  preset: QuantizePreset,
  tensors: readonly PresetTensor[],
  sizes: PresetSizes,
): Map<string, StorageType> {
  const base = QUANTIZE_PRESETS[preset].type;
  const output = tensors.some(({ name }) => name === "output.weight") ? "output.weight" : "token_embd.weight";
  const valueProjections = tensors.filter(({ name }) => name.includes("attn_v.weight")).sort(byLayerAndName);
  const typeOf = (tensor: PresetTensor): StorageType => {
    const { name, shape } = tensor;
    const columns = shape.at(-1)!;
    if (!isQuantised(tensor)) return tensor.type;
    if (base === "F16" || base === "BF16") return base;
    if (name === output) return fitting(base === "Q8_0" || !fits(base, columns) ? "Q8_0" : "Q6_K", columns);
    const [, rule] = RULES.find(([part]) => name.includes(part)) ?? [];
    const place =
      rule === valueProjection
        ? { index: valueProjections.indexOf(tensor), count: valueProjections.length }
        : { index: layerOf(name), count: sizes.layers };
    return fitting(rule?.(preset, place, sizes) ?? base, columns);
  };
  return new Map(tensors.map((tensor) => [tensor.name, typeOf(tensor)]));
}
