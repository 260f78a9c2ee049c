/** A text of a model with the routing of its tokens, as lines for the page. */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { checkInterventions, type InterventionInput } from "../config/intervention.ts";
import type { LanguageModel } from "../infer/model.ts";
import type { RoutedTokens } from "../infer/textGeneration.ts";

/** An array of a route, as a list of numbers. All of it has one fault: a list may have a million. */
const listOf = (expected: string, fits: (value: unknown) => boolean) =>
  z.custom<readonly number[]>((list) => Array.isArray(list) && list.every(fits), {
    error: ({ input }) => {
      const wrong = Array.isArray(input) ? input.find((value) => !fits(value)) : input;
      return `${String(JSON.stringify(wrong)).slice(0, 60)}, expected a list of ${expected}`;
    },
  });
const isNumber = (value: unknown): value is number => typeof value === "number";
const isExpert = (value: unknown) => Number.isInteger(value) && isNumber(value) && -1 <= value && value < 2 ** 15;

/** The route of a replay. The model's own check reads what is not turned back into an array here. */
const routeSchema = z.looseObject({
  experts: listOf("experts' numbers, or -1 for none", isExpert).transform((list) => Int16Array.from(list)),
  weights: listOf("numbers", isNumber)
    .transform((list) => Float32Array.from(list))
    .optional(),
});

const requestSchema = z
  .strictObject({
    /** What the text begins with. */
    prompt: z.string().optional(),
    /** In place of a prompt: a conversation, whose answer is the text. */
    messages: z
      .array(z.strictObject({ role: z.string(), content: z.string() }))
      .min(1)
      .optional(),
    /** 0: only the routing of the prompt. */
    maxTokens: z.int().min(0).max(100_000),
    temperature: z.number().min(0),
    seed: z.int().min(0),
    /** As data, which the model's own check reads; a replay has its route here. */
    interventions: z.array(z.looseObject({ trace: routeSchema.optional() })).default([]),
  })
  .refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
    path: ["prompt"],
    error: "expected a prompt or messages, one of the two",
  });

export type GenerationRequest = Omit<z.output<typeof requestSchema>, "interventions"> & {
  readonly interventions: readonly InterventionInput[];
};

/** @throws ConfigError listing every fault of the request, or of its interventions for this model. */
export function parseGeneration({ info }: LanguageModel, body: unknown): GenerationRequest {
  const request = parseConfig(requestSchema, body, "generate");
  const given = request.interventions as unknown as readonly InterventionInput[];
  return { ...request, interventions: checkInterventions(given, info.config, "generate") };
}

/** Whole numbers and a few digits: a line is read by people, too, and weights are not exact to begin with. */
const rounded = (values: ArrayLike<number>) => Array.from(values, (value) => Number(value.toPrecision(4)));

/**
 * Lines: `{ tokens }` for tokens of the prompt or after it that the model has read, as columns of a trace, each with its
 * text in the vocabulary's writing; at last `{ end }`.
 * @throws as `LanguageModel.generate`.
 */
export async function* generationLines(
  model: LanguageModel,
  request: GenerationRequest,
  signal: AbortSignal,
): AsyncGenerator<object, void> {
  const { prompt = "", messages, maxTokens, temperature, seed, interventions } = request;
  const encoded = await model.tokenize(messages === undefined ? prompt : model.chatPrompt(messages));
  const known = encoded.length > 0 ? encoded : Int32Array.of(model.tokenizer.eosTokenId);
  const line = (routed: RoutedTokens) => tokensLine(model, routed, routed.position < known.length);
  const options = { interventions, signal };
  if (maxTokens === 0) {
    const { tokens, experts, weights } = await model.trace(known, options);
    yield line({ ids: known, tokens, position: 0, experts: experts!, weights: weights! });
    yield { end: { finishReason: "length", tokensPerSec: null } };
    return;
  }
  const text = model.generate(known, { ...options, maxTokens, temperature, seed, routing: { prompt: true } });
  for await (const routed of text.routes()) yield line(routed);
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

function tokensLine({ tokenizer }: LanguageModel, routed: RoutedTokens, prompt: boolean): object {
  const { ids, position, experts, weights } = routed;
  return {
    tokens: {
      position,
      prompt,
      ids: Array.from(ids),
      texts: Array.from(ids, (id) => tokenizer.entry(id) ?? ""),
      experts: Array.from(experts),
      weights: rounded(weights),
    },
  };
}
