/**
 * `routing.safetensors` of a checkpoint: what the next record of routing depends on. N counts the layers with experts.
 *
 *     expert_ids.N     [T * slots] experts of the probe's tokens at the last checkpoint, in rising order, -1 for none
 *     expert_counts.N  [E] slots of each expert since the last record
 *     chosen           [L] summed probability of the chosen experts since then
 *     since            [2] steps and tokens since then
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { SafetensorsFile, type TensorToWrite, writeSafetensors } from "../formats/io.ts";
import type { RoutingState } from "./routingMonitor.ts";

const pathIn = (folder: string) => join(folder, "routing.safetensors");

/** @throws ResourceError when it can not be written. */
export async function writeRoutingState(folder: string, state: RoutingState): Promise<void> {
  const { steps, tokens, counts, chosen, reference } = state;
  const tensors: TensorToWrite[] = [
    { name: "since", shape: [2], dtype: "F64", data: Float64Array.of(steps, tokens) },
    { name: "chosen", shape: [chosen.length], dtype: "F64", data: chosen },
    ...counts.map((data, layer): TensorToWrite => {
      return { name: `expert_counts.${layer}`, shape: [data.length], dtype: "F64", data };
    }),
    ...reference.map((data, layer): TensorToWrite => {
      return { name: `expert_ids.${layer}`, shape: [data.length], dtype: "I32", data };
    }),
  ];
  await writeSafetensors(pathIn(folder), tensors);
}

/**
 * Reads it back from a verified checkpoint.
 * @returns undefined where there is none: of a dense model, or of an earlier version.
 * @throws CheckpointError where it does not hold what it should.
 */
export async function readRoutingState(folder: string): Promise<RoutingState | undefined> {
  const path = pathIn(folder);
  if (!existsSync(path)) return undefined;
  const file = await SafetensorsFile.open(path);
  try {
    const named = (prefix: string) => {
      const count = [...file.tensors.keys()].filter((name) => name.startsWith(prefix)).length;
      return Array.from({ length: count }, (_, layer) => `${prefix}${layer}`);
    };
    const [steps, tokens] = await file.readF64("since");
    if (steps === undefined || tokens === undefined) throw new CheckpointError(`${path}: tensor "since" is too short`);
    const counts: Float64Array[] = [];
    for (const name of named("expert_counts.")) counts.push(await file.readF64(name));
    const reference: Int32Array[] = [];
    for (const name of named("expert_ids.")) reference.push(await file.readI32(name));
    return { steps, tokens, counts, chosen: await file.readF64("chosen"), reference };
  } finally {
    await file.close();
  }
}
