/**
 * Matches the tensors a model wants with those a checkpoint has, before a value is read. Experts may be stored one by one
 * (`mlp.experts.3.gate_proj.weight`) or, as transformers 5 holds them, fused: `mlp.experts.gate_up_proj` [E, 2F, D] with
 * each expert's gate rows first, and `mlp.experts.down_proj` [E, D, F]. Either way one wanted tensor is one run of values.
 */
import { formatShape, shapeSize } from "../tensor/tensor.ts";
import { quoted } from "./json.ts";
import { isWeightDType, type TensorInfo } from "./safetensors.ts";

/** A tensor to load: where its values go, and what it must look like. */
export interface WantedTensor {
  /** Hugging Face's name, one per expert. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly target: Float32Array;
}

/** A tensor of the checkpoint. */
export interface StoredTensor<Source> {
  readonly info: TensorInfo;
  readonly source: Source;
}

/** One run of values to read. */
export interface PlannedRead<Source> {
  readonly wanted: WantedTensor;
  readonly stored: StoredTensor<Source>;
  readonly storedName: string;
  /** First element within the stored tensor. */
  readonly start: number;
}

export interface WeightPlan<Source> {
  readonly reads: readonly PlannedRead<Source>[];
  /** Phrases for an error message; empty where everything fits. */
  readonly faults: readonly string[];
}

const EXPERT = /^(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight$/;
const NAMES_SHOWN = 8;

/** "2 tensors missing (a, b)", with the first names only where there are many; names may come from a hostile file. */
export function countedNames(what: string, names: readonly string[]): string {
  const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : "";
  const noun = names.length === 1 ? "tensor" : "tensors";
  const shown = names.slice(0, NAMES_SHOWN).map((name) => (/^[ -~]{1,200}$/.test(name) ? name : quoted(name)));
  return `${names.length} ${noun} ${what} (${shown.join(", ")}${more})`;
}

/** Surplus tensors that change nothing. */
function isHarmless(name: string, shape: readonly number[]): boolean {
  // The output matrix again where it is tied to the embedding; rotary frequencies of old transformers; the router of a
  // dense model, which is stored as one expert: a softmax over one expert is 1 whatever its weight.
  return (
    name === "lm_head.weight" ||
    name.endsWith(".rotary_emb.inv_freq") ||
    (name.endsWith(".mlp.gate.weight") && shape[0] === 1)
  );
}

interface FusedPlace {
  readonly name: string;
  /** What the whole fused tensor must look like. */
  readonly shape: readonly number[];
  readonly start: number;
}

/** Where an expert's tensor would lie in the fused layout; undefined for other tensors. */
function fusedPlace({ name, shape }: WantedTensor, numExperts: (prefix: string) => number): FusedPlace | undefined {
  const match = EXPERT.exec(name);
  if (match === null || shape.length !== 2) return undefined;
  const [, prefix = "", index, kind] = match;
  const [rows, columns] = shape as [number, number];
  const expert = Number(index) * rows * columns;
  const experts = numExperts(prefix);
  if (kind === "down") return { name: `${prefix}.down_proj`, shape: [experts, rows, columns], start: expert };
  const start = 2 * expert + (kind === "up" ? rows * columns : 0);
  return { name: `${prefix}.gate_up_proj`, shape: [experts, 2 * rows, columns], start };
}

/** Experts that are wanted under each prefix. */
function countExperts(wanted: readonly WantedTensor[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { name } of wanted) {
    const match = EXPERT.exec(name);
    if (match?.[3] === "gate") counts.set(match[1]!, (counts.get(match[1]!) ?? 0) + 1);
  }
  return counts;
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dimension, axis) => dimension === b[axis]);
}

/**
 * Plans the reading of all wanted tensors.
 * @param stored every tensor of the checkpoint by name; undefined for one whose file could not be opened, which is a
 *   fault of its own and not reported here again.
 */
export function planWeights<Source>(
  stored: ReadonlyMap<string, StoredTensor<Source> | undefined>,
  wanted: readonly WantedTensor[],
): WeightPlan<Source> {
  const counts = countExperts(wanted);
  const reads: PlannedRead<Source>[] = [];
  const used = new Set<string>();
  const missing: string[] = [];
  const misshaped = new Set<string>();
  const mistyped = new Set<string>();
  for (const tensor of wanted) {
    const fused = stored.has(tensor.name) ? undefined : fusedPlace(tensor, (prefix) => counts.get(prefix) ?? 0);
    const { name, shape, start } = fused !== undefined && stored.has(fused.name) ? fused : { ...tensor, start: 0 };
    used.add(name);
    const found = stored.get(name);
    if (found === undefined) {
      if (!stored.has(name)) missing.push(name);
    } else if (!sameShape(found.info.shape, shape)) {
      misshaped.add(`${name} ${formatShape(found.info.shape)}, expected ${formatShape(shape)}`);
    } else if (!isWeightDType(found.info.dtype)) {
      mistyped.add(`${name} ${found.info.dtype}, expected F32, F16 or BF16`);
    } else if (shapeSize(tensor.shape) > 0) {
      reads.push({ wanted: tensor, stored: found, storedName: name, start });
    }
  }
  const surplus = [...stored].filter(
    ([name, tensor]) => !used.has(name) && tensor !== undefined && !isHarmless(name, tensor.info.shape),
  );
  const groups: [string, readonly string[]][] = [
    ["missing", missing],
    ["not wanted", surplus.map(([name]) => name)],
    ["of another shape", [...misshaped]],
    ["of another type", [...mistyped]],
  ];
  const faults = groups.filter(([, names]) => names.length > 0).map(([what, names]) => countedNames(what, names));
  return { reads, faults };
}
