/** Profiles of training steps as files: profile.txt, profile.json and trace.json. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Pointer } from "../backend/kernels.ts";
import type { MachineLimits } from "../backend/measure.ts";
import type { Profile, Profiler } from "../backend/profile.ts";
import { type Parameters, parameterSpecs } from "../model/parameters.ts";
import { fileError, replaceFile } from "../util/files.io.ts";
import { profileTable, traceFile } from "./profileReport.ts";

/** Names the weights and gradients of a model for `Profiler.nameOf`: `q_proj`, the same for all layers. */
export function parameterNames(parameters: Parameters): Profiler["nameOf"] {
  const names = new Map<Pointer, string>();
  for (const { name } of parameterSpecs(parameters.config)) {
    const short = name.replace(/^model\.(layers\.\d+\.)?/, "").replace(/\.weight$/, "");
    const { value, grad } = parameters.get(name);
    names.set(value.pointer, short.replace(/^self_attn\./, ""));
    // Parameters that are not trained have their values in place of gradients.
    if (grad.pointer !== value.pointer) names.set(grad.pointer, short.replace(/^self_attn\./, ""));
  }
  return (pointer) => names.get(pointer);
}

/**
 * Writes a profile into a folder, which is made where it is missing.
 * @param title what was profiled and where, for the reader.
 * @returns the table that profile.txt holds.
 * @throws ResourceError when a file can not be written.
 */
export async function writeProfile(
  folder: string,
  profile: Profile,
  limits: MachineLimits,
  title: string,
): Promise<string> {
  const { events: _, ...totals } = profile;
  const text =
    `${title}\nlimits: ${(limits.flopsPerSecond / 1e9).toFixed(1)} GFLOP/s of multiply-adds, ` +
    `${(limits.bytesPerSecond / 1e9).toFixed(1)} GB/s of reads; mean of ${profile.steps} steps\n\n${profileTable(profile, limits)}`;
  const files = {
    "profile.txt": `${text}\n`,
    "profile.json": `${JSON.stringify({ title, limits, ...totals }, null, 2)}\n`,
    "trace.json": `${JSON.stringify(traceFile(profile, title))}\n`,
  };
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    throw fileError("write", folder, error);
  }
  for (const [name, content] of Object.entries(files)) {
    await replaceFile(join(folder, name), (file) => file.writeFile(content));
  }
  return text;
}
