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
import { NO_EXPERT, type Trace } from "../formats/trace.ts";
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

/** The experts of one sequence of a trace, all positions from 0 on; undefined where it is not there. */
export async function routeOf(
  trace: Trace,
  sequence: number,
  recordedWeights: boolean,
  signal?: AbortSignal,
): Promise<RecordedRoute | undefined> {
  const { layers, slots } = trace.header;
  let [start, end, positions] = [Number.POSITIVE_INFINITY, 0, 0];
  for await (const { run, place } of runsOf(trace.chunks({ columns: [], signal }), sequence)) {
    start = Math.min(start, place);
    end = Math.max(end, place + run.tokens);
    positions = Math.max(positions, run.position + run.tokens);
  }
  if (end === 0) return undefined;
  const size = layers.length * positions * slots;
  const experts = new Int16Array(size).fill(NO_EXPERT);
  const weights = recordedWeights ? new Float32Array(size) : undefined;
  const columns = recordedWeights ? (["experts", "weights"] as const) : (["experts"] as const);
  for await (const { chunk, run, place } of runsOf(trace.chunks({ columns, start, end, signal }), sequence)) {
    const first = place - chunk.start;
    for (const layer of layers.keys()) {
      const from = (layer * chunk.tokens + first) * slots;
      const to = (layer * positions + run.position) * slots;
      experts.set(chunk.experts?.subarray(from, from + run.tokens * slots) ?? [], to);
      weights?.set(chunk.weights?.subarray(from, from + run.tokens * slots) ?? [], to);
    }
  }
  return { layers, positions, slots, experts, ...(weights === undefined ? {} : { weights }) };
}

/** The runs of a sequence, each with its chunk and its first token's place in the trace. */
async function* runsOf(chunks: ReturnType<Trace["chunks"]>, sequence: number) {
  for await (const chunk of chunks) {
    let place = chunk.start;
    for (const run of chunk.runs) {
      if (run.sequence === sequence) yield { chunk, run, place };
      place += run.tokens;
    }
  }
}
