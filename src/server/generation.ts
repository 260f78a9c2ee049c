/** A text of a model with the routing of its tokens, as lines for the page. */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { checkInterventions, type InterventionInput } from "../config/intervention.ts";
import type { LanguageModel } from "../infer/model.ts";
import type { RoutedTokens } from "../infer/textGeneration.ts";

const requestSchema = z.strictObject({
  prompt: z.string(),
  /** Lay the prompt out as a conversation. */
  chat: z.boolean().default(false),
  /** 0: only the routing of the prompt. */
  maxTokens: z.int().min(0).max(100_000),
  temperature: z.number().min(0),
  seed: z.int().min(0),
  /** As data, which the model's own check reads. */
  interventions: z.array(z.unknown()).default([]),
});

export type GenerationRequest = Omit<z.output<typeof requestSchema>, "interventions"> & {
  readonly interventions: readonly InterventionInput[];
};

/** @throws ConfigError listing every fault of the request, or of its interventions for this model. */
export function parseGeneration({ info }: LanguageModel, body: unknown): GenerationRequest {
  const request = parseConfig(requestSchema, body, "generate");
  const given = request.interventions as readonly InterventionInput[];
  return { ...request, interventions: checkInterventions(given, info.config, "generate") };
}

/** Whole numbers and a few digits: a line is read by people, too, and weights are not exact to begin with. */
const rounded = (values: ArrayLike<number>) => Array.from(values, (value) => Number(value.toPrecision(4)));

/**
 * Lines: `{ tokens }` for tokens that the model has read, as columns of a trace, each with its text in the vocabulary's
 * writing; at last `{ end }`.
 * @throws as `LanguageModel.generate`.
 */
export async function* generationLines(
  model: LanguageModel,
  request: GenerationRequest,
  signal: AbortSignal,
): AsyncGenerator<object, void> {
  const { maxTokens, temperature, seed, interventions } = request;
  const prompt = request.chat ? model.chatPrompt([{ role: "user", content: request.prompt }]) : request.prompt;
  const options = { interventions, signal };
  if (maxTokens === 0) {
    const ids = await model.tokenize(prompt);
    const known = ids.length > 0 ? ids : Int32Array.of(model.tokenizer.eosTokenId);
    const { tokens, experts, weights } = await model.trace(known, options);
    yield tokensLine(model, { ids: known, tokens, position: 0, experts: experts!, weights: weights! });
    yield { end: { finishReason: "length", tokensPerSec: null } };
    return;
  }
  const text = model.generate(prompt, { ...options, maxTokens, temperature, seed, routing: { prompt: true } });
  for await (const routed of text.routes()) yield tokensLine(model, routed);
  const { finishReason, tokensPerSec, newTokens, promptTokens, ids } = await text.result;
  const last = ids.at(-1);
  yield {
    end: {
      finishReason,
      tokensPerSec,
      newTokens,
      promptTokens,
      last: last === undefined ? null : { id: last, text: model.tokenizer.entry(last) },
    },
  };
}

function tokensLine({ tokenizer }: LanguageModel, routed: RoutedTokens): object {
  const { ids, position, experts, weights } = routed;
  return {
    tokens: {
      position,
      ids: Array.from(ids),
      texts: Array.from(ids, (id) => tokenizer.entry(id) ?? ""),
      experts: Array.from(experts),
      weights: rounded(weights),
    },
  };
}
