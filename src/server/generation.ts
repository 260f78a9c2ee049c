/** A text of a model with the routing of its tokens, as lines for the page. */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import type { LanguageModel } from "../infer/model.ts";
import type { RoutedTokens, TextOptions } from "../infer/textGeneration.ts";

const requestSchema = z.strictObject({
  prompt: z.string(),
  /** Lay the prompt out as a conversation. */
  chat: z.boolean().default(false),
  /** 0: only the routing of the prompt. */
  maxTokens: z.int().min(0).max(100_000),
  temperature: z.number().min(0),
  seed: z.int().min(0),
  /** As data; the model's own check reads them. */
  interventions: z.array(z.unknown()).default([]),
});

/** Whole numbers and a few digits: a line is read by people, too, and weights are not exact to begin with. */
const rounded = (values: ArrayLike<number>) => Array.from(values, (value) => Number(value.toPrecision(4)));

/**
 * Lines: `{ tokens }` for tokens that the model has read, as columns of a trace, each with its text in the vocabulary's
 * writing; at last `{ end }`.
 * @param body what the page sent. @throws ConfigError for one that is no request; else as `LanguageModel.generate`.
 */
export async function* generationLines(
  model: LanguageModel,
  body: unknown,
  signal: AbortSignal,
): AsyncGenerator<object, void> {
  const request = parseConfig(requestSchema, body, "generate");
  const { maxTokens, temperature, seed } = request;
  const prompt = request.chat ? model.chatPrompt([{ role: "user", content: request.prompt }]) : request.prompt;
  const options = withInterventions({ signal }, request.interventions);
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

/** The one place where interventions go from the page to the engine. */
function withInterventions(options: TextOptions, interventions: readonly unknown[]): TextOptions {
  return interventions.length === 0 ? options : ({ ...options, interventions } as TextOptions);
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
