/** An engine that says what it is told to, for tests of what is above it. */
import { resolveModel } from "../src/config/presets.ts";
import type { Engine, GeneratedToken, Generation, GenerationRequest } from "../src/infer/engine.ts";

export interface FakeEngine extends Engine {
  /** What it was asked for. */
  readonly requests: GenerationRequest[];
  /** Generations that were left before their end. */
  left: number;
}

/**
 * @param answer the tokens of a generation, a stop id among them ends it.
 * @param config changes to preset tiny.
 */
export function fakeEngine(
  answer: (request: GenerationRequest) => Iterable<GeneratedToken>,
  config: object = {},
): FakeEngine {
  const fake: FakeEngine = {
    config: resolveModel({ preset: "tiny", vocabSize: 512, eosTokenId: 0, ...config }),
    requests: [],
    left: 0,
    trace: () => Promise.reject(new Error("internal: a fake engine has no experts")),
    async *generate(request): AsyncGenerator<GeneratedToken, Generation> {
      fake.requests.push(request);
      const ids: number[] = [];
      let finishReason: Generation["finishReason"] | undefined;
      const end = (): Generation => ({
        promptTokens: request.prompt.length,
        cachedTokens: 3,
        ids,
        finishReason: finishReason ?? "length",
        ...(request.promptLogprobs === undefined
          ? {}
          : {
              promptLogprobs: Array.from(request.prompt)
                .slice(1)
                .map((id) => ({ id, logprob: -id, top: [{ id: 0, logprob: -0.5 }] })),
            }),
      });
      if (request.maxTokens === 0) {
        finishReason = "length";
        return end();
      }
      try {
        for (const token of answer(request)) {
          await new Promise((resolve) => setTimeout(resolve));
          request.signal?.throwIfAborted();
          if (request.stopIds.includes(token.id)) {
            finishReason = "stop";
            return end();
          }
          ids.push(token.id);
          yield token;
          if (ids.length === request.maxTokens) break;
        }
        finishReason = "length";
        return end();
      } finally {
        if (finishReason === undefined) fake.left += 1;
      }
    },
    logprobs: async (ids) =>
      Float32Array.from({ length: Math.max(0, ids.length - 1) }, (_, i) => -(ids[i + 1] as number)),
    logits: async (ids) => new Float32Array(ids.length * fake.config.vocabSize),
    embed: async (ids) => Float32Array.of(ids.length),
    stats: () => Promise.reject(new Error("not asked for")),
    close: async () => undefined,
  };
  return fake;
}
