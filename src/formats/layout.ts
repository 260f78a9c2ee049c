/**
 * How a format lays a model's tensors out. Formats differ in names, in what they join to one tensor (the experts of a
 * layer; queries, keys and values) and in which matrices they transpose. A layout says for each stored tensor which tensors
 * it consists of, under Hugging Face's names of one tensor per expert. Reading and writing follow the same layout.
 */
import type { ModelConfig } from "../config/model.ts";
import { CheckpointError } from "../errors.ts";
import { parameterSpecs } from "../model/parameters.ts";
import type { StorageType } from "../tensor/stored.ts";
import { formatShape, shapeSize } from "../tensor/tensor.ts";
import { storedBytes } from "./gguf.ts";
import { dtypeBytes } from "./safetensors.ts";
import { countedNames, type WeightPlan } from "./weightPlan.ts";

/** A tensor under Hugging Face's name, as part of a stored one. */
export interface LaidSlice {
  readonly name: string;
  /** As Hugging Face has it. */
  readonly shape: readonly number[];
  /** Stored with rows and columns exchanged. */
  readonly transposed: boolean;
}

/** A stored tensor: its slices one after another. */
export interface LaidTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly slices: readonly LaidSlice[];
}

/** A tensor of files. */
export interface PlacedTensor {
  readonly type: StorageType;
  readonly shape: readonly number[];
  /** From the start of its file. */
  readonly byteOffset: number;
  /** Index of its file. */
  readonly file: number;
}

/** Where the values of one of Hugging Face's tensors are. */
export interface PlacedSlice extends PlacedTensor {
  readonly byteLength: number;
  /** `shape` is Hugging Face's; the stored matrix has rows and columns exchanged. */
  readonly transposed: boolean;
}

/** Hugging Face's tensors of a model with their shapes, in the order of its parameters. */
export function sliceShapes(config: ModelConfig): Map<string, readonly number[]> {
  const slices = parameterSpecs(config).flatMap(({ slices }) => slices);
  return new Map(slices.map(({ name, shape }) => [name, shape]));
}

/** A stored tensor that is one of Hugging Face's. */
export function laid(name: string, slice: string, shapes: ReadonlyMap<string, readonly number[]>): LaidTensor {
  const shape = shapes.get(slice) as readonly number[];
  return { name, shape, slices: [{ name: slice, shape, transposed: false }] };
}

/** Whether a tensor is a vector or a router, which formats for inference keep as f32. */
export function staysF32(slice: string, shape: readonly number[]): boolean {
  return shape.length === 1 || slice.endsWith(".mlp.gate.weight");
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/**
 * Finds every tensor of a layout.
 * @throws CheckpointError listing at once everything missing, not wanted and of another shape.
 */
export function placeSlices(
  layout: readonly LaidTensor[],
  tensors: ReadonlyMap<string, PlacedTensor>,
  place: string,
): Map<string, PlacedSlice> {
  const missing: string[] = [];
  const misshaped: string[] = [];
  const placed = new Map<string, PlacedSlice>();
  for (const { name, shape, slices } of layout) {
    const tensor = tensors.get(name);
    if (tensor === undefined) missing.push(name);
    else if (!sameShape(tensor.shape, shape)) {
      misshaped.push(`${name} ${formatShape(tensor.shape)}, expected ${formatShape(shape)}`);
    } else {
      let { byteOffset } = tensor;
      for (const { name: slice, shape, transposed } of slices) {
        const byteLength = storedBytes(tensor.type, transposed ? shape.toReversed() : shape);
        placed.set(slice, { type: tensor.type, shape, byteOffset, byteLength, file: tensor.file, transposed });
        byteOffset += byteLength;
      }
    }
  }
  const wanted = new Set(layout.map(({ name }) => name));
  const surplus = [...tensors.keys()].filter((name) => !wanted.has(name));
  const groups: [string, readonly string[]][] = [
    ["missing", missing],
    ["not wanted", surplus],
    ["of another shape", misshaped],
  ];
  const faults = groups.filter(([, names]) => names.length > 0).map(([what, names]) => countedNames(what, names));
  if (faults.length > 0) {
    throw new CheckpointError(`${place}: ${faults.join("; ")}`, {
      hint: "the tensors do not belong to this config, or the file is incomplete: fetch or write the model again",
    });
  }
  return placed;
}

/** Values of all tensors of a layout. */
export function layoutSize(layout: readonly LaidTensor[]): number {
  return layout.reduce((sum, { shape }) => sum + shapeSize(shape), 0);
}

/**
 * Where a plan's tensors lie in their files.
 * @param indexOf number of the file of a source.
 */
export function plannedSlices<Source>(
  { reads }: WeightPlan<Source>,
  indexOf: (source: Source) => number,
): Map<string, PlacedSlice> {
  const slices = new Map<string, PlacedSlice>();
  for (const { wanted, stored, start } of reads) {
    const { dtype, byteOffset } = stored.info;
    const width = dtypeBytes(dtype);
    slices.set(wanted.name, {
      type: dtype as StorageType,
      shape: wanted.shape,
      byteOffset: byteOffset + start * width,
      byteLength: shapeSize(wanted.shape) * width,
      file: indexOf(stored.source),
      transposed: false,
    });
  }
  return slices;
}
