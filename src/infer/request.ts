/** Checks of what callers ask of an engine. */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { checkInterventions } from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import { ConfigError, OlmoeError, ShapeError } from "../errors.ts";
import type { GenerationRequest } from "./engine.ts";
import { ROUTER_COLUMNS } from "./routes.ts";
import { checkSampling, type SamplingOptions } from "./sampling.ts";

const count = z.int().min(0);

const requestSchema = z.strictObject({
  maxTokens: count,
  seed: z.int(),
  stopIds: z.array(count),
  logprobs: count.optional(),
  promptLogprobs: count.optional(),
  routing: z
    .union([
      z.boolean(),
      z.strictObject({ prompt: z.boolean().optional(), columns: z.array(z.enum(ROUTER_COLUMNS)).optional() }),
    ])
    .optional(),
  speculate: count.optional(),
});

/** Ids of the model, as a copy. @throws ShapeError for one outside the vocabulary, and for more than the context holds. */
export function checkIds(ids: ArrayLike<number>, place: string, { vocabSize }: ModelConfig, context: number) {
  if (ids.length > context) {
    throw new ShapeError(`context: the ${place} is ${ids.length} tokens, the model holds ${context}`, {
      hint: `shorten the ${place} to at most ${context} tokens`,
    });
  }
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index] as number;
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
    throw new ShapeError(`${place}: id ${id} at position ${index} is outside 0..${vocabSize - 1}`);
  }
  return Int32Array.from(ids);
}

/** A request that has been checked. */
export interface CheckedRequest extends Omit<GenerationRequest, "prompt" | "signal"> {
  readonly prompt: Int32Array;
}

/**
 * @param context tokens the model holds.
 * @throws ConfigError listing every fault of the options; ShapeError for a prompt that is empty, too long, or has an id
 *   outside the vocabulary.
 */
export function checkRequest(request: GenerationRequest, config: ModelConfig, context: number): CheckedRequest {
  const { prompt, sampling, interventions: given, signal: _, ...counts } = request;
  const checked = parseConfig(requestSchema, counts, "generate");
  const interventions = given && checkInterventions(given, config, "generate");
  const checkedSampling: SamplingOptions = checkSampling(sampling, config.vocabSize);
  if ((checked.speculate ?? 0) > 0 && sampling.temperature !== 0) {
    throw new ConfigError(
      `generate: speculate: ${checked.speculate}, expected temperature 0, not ${sampling.temperature}`,
      {
        hint: "leave speculate out, or set temperature to 0",
      },
    );
  }
  if (prompt.length === 0) {
    throw new ShapeError("generate: the prompt is 0 tokens, expected at least 1", {
      hint: "start a document with the model's end of text",
    });
  }
  return { ...checked, interventions, sampling: checkedSampling, prompt: checkIds(prompt, "prompt", config, context) };
}

/** What requests of an engine end with that is closed. */
export function closedError(): OlmoeError {
  return new OlmoeError("E_CLOSED", "engine: it is closed, expected an open one", { hint: "open the model again" });
}
