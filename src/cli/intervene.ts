/** The option of commands that run a model under interventions. */
import { createHash } from "node:crypto";
import type { Command } from "commander";
import type { Intervention } from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import { modelDigest } from "../formats/modelDigest.io.ts";
import { readInterventions } from "../infer/interventions.io.ts";
import type { OlmoeModel } from "../infer/model.io.ts";
import { InterventionPlan } from "../nn/intervention.ts";
import type { TraceHeaderOptions } from "../routing/traceHeader.io.ts";
import type { Session } from "./common.ts";

/** Values of the option that `addInterveneOption` adds. */
export interface InterveneFlags {
  readonly intervene?: string;
}

export function addInterveneOption(command: Command): Command {
  return command.option("--intervene <file>", "change the routing: interventions as JSON (docs/routing.md)");
}

/** The interventions that are asked for, if any. @throws as `readInterventions`. */
export async function interventionsOf(
  { intervene }: InterveneFlags,
  { info }: OlmoeModel,
  { signal }: Session,
): Promise<readonly Intervention[] | undefined> {
  if (intervene === undefined) return undefined;
  const model = { config: info.config, digest: () => modelDigest(info.path, signal) };
  return readInterventions(intervene, model, signal);
}

/** What the header of a trace under interventions says of them: of a replay its shape and a digest of what it replays. */
export function intervenedHeader(
  interventions: readonly Intervention[],
  config: ModelConfig,
): Pick<TraceHeaderOptions, "slots" | "interventions"> {
  const { slots } = new InterventionPlan(interventions, config);
  const described = interventions.map((one) => {
    if (one.kind !== "replay") return one;
    const { experts, weights, ...shape } = one.trace;
    const hash = createHash("sha256")
      .update(experts)
      .update(weights ?? new Float32Array());
    return { ...one, trace: { ...shape, digest: `sha256:${hash.digest("hex")}` } };
  });
  return { slots, interventions: described };
}
