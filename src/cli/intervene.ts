/** The option of commands that run a model under interventions. */
import type { Command } from "commander";
import type { Intervention } from "../config/intervention.ts";
import { modelDigest } from "../formats/modelDigest.io.ts";
import { readInterventions } from "../infer/interventions.io.ts";
import type { OlmoeModel } from "../infer/model.io.ts";
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
