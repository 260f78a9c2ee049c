/** Reads files of interventions, and the traces that they name. */
import { dirname, resolve } from "node:path";
import { moeLayers } from "../config/architecture.ts";
import {
  checkInterventions,
  type FileIntervention,
  type Intervention,
  type InterventionInput,
  parseInterventionFile,
  type RecordedRoute,
} from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import { ConfigError } from "../errors.ts";
import { parseJson } from "../formats/json.ts";
import { openTrace } from "../formats/trace.io.ts";
import type { Trace } from "../formats/trace.ts";
import { routeOf } from "../formats/traceRoute.ts";
import { readSmallFile } from "../util/files.io.ts";

const MOST_BYTES = 2 ** 20;
/** Levels of a valid file are five. */
const MAX_DEPTH = 16;

/** What interventions are read for. */
export interface IntervenedModel {
  readonly config: ModelConfig;
  /** What the model's traces have as `header.model.digest`; asked for only where a file names a trace. */
  digest(): Promise<string>;
}

type FileReplay = Extract<FileIntervention, { kind: "replay" }>;

/**
 * Interventions of a file, checked for a model, with the routes of the traces they name.
 * @throws ConfigError listing every fault, for what is no JSON, and for a trace of another model; CheckpointError for a
 *   missing file; DataError for what is no trace; the signal's reason.
 */
export async function readInterventions(
  path: string,
  model: IntervenedModel,
  signal?: AbortSignal,
): Promise<readonly Intervention[]> {
  const json = parseJson(await readSmallFile(path, MOST_BYTES), { maxDepth: MAX_DEPTH });
  if ("fault" in json) throw new ConfigError(`${path}: ${json.fault}, expected a file of interventions`);
  const interventions: InterventionInput[] = [];
  for (const [index, one] of parseInterventionFile(json.value, path).entries()) {
    if (one.kind !== "replay") {
      interventions.push(one);
      continue;
    }
    const { kind, layers, tokens } = one;
    const place = `${path}: interventions.${index}`;
    interventions.push({ kind, layers, tokens, trace: await readRoute(one, path, place, model, signal) });
  }
  return checkInterventions(interventions, model.config, path);
}

async function readRoute(
  { trace: name, sequence, weights }: FileReplay,
  path: string,
  place: string,
  model: IntervenedModel,
  signal: AbortSignal | undefined,
): Promise<RecordedRoute> {
  const trace = await openTrace(resolve(dirname(path), name));
  try {
    await refuseOther(trace, name, place, model);
    const route = await routeOf(trace, sequence, weights === "recorded", signal);
    if (route !== undefined) return route;
    throw new ConfigError(`${place}.sequence: ${sequence}, ${name} has no such sequence`);
  } finally {
    await trace.close();
  }
}

/** @throws ConfigError for a trace of another model. */
async function refuseOther(
  { header }: Trace,
  name: string,
  place: string,
  { config, digest }: IntervenedModel,
): Promise<void> {
  const shape = (experts: number, layers: readonly number[]) => `${experts} experts in layers ${layers.join(", ")}`;
  const [theirs, ours] = [shape(header.numExperts, header.layers), shape(config.numExperts, moeLayers(config))];
  if (theirs !== ours) {
    throw new ConfigError(`${place}.trace: ${name} is of a model with ${theirs}, this one has ${ours}`, {
      hint: "record a trace of this model with `olmoe trace`",
    });
  }
  const own = await digest();
  if (header.model.digest !== own) {
    const fault = `${name} is of ${header.model.name} (digest ${header.model.digest}), this model's digest is ${own}`;
    throw new ConfigError(`${place}.trace: ${fault}`, { hint: "record a trace of this model with `olmoe trace`" });
  }
}
