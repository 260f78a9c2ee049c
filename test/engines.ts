/** What the tests of engines share: requests, and everything that comes of one. */
import type { GeneratedToken, Generation, GenerationRequest } from "../src/infer/engine.ts";

/** Everything that a generation gives. */
export interface Outcome {
  readonly tokens: readonly GeneratedToken[];
  readonly generation: Generation;
}

export async function collect(generation: AsyncGenerator<GeneratedToken, Generation>): Promise<Outcome> {
  const tokens: GeneratedToken[] = [];
  for (;;) {
    const next = await generation.next();
    if (next.done) return { tokens, generation: next.value };
    tokens.push(next.value);
  }
}

/** The ids of a generation. */
export async function idsOf(generation: AsyncGenerator<GeneratedToken, Generation>): Promise<readonly number[]> {
  return (await collect(generation)).generation.ids;
}

export const GREEDY = { temperature: 0 };

/** A greedy request without an end of its own. */
export function request(changes: Partial<GenerationRequest> = {}): GenerationRequest {
  return { prompt: [1, 2, 3], maxTokens: 8, sampling: GREEDY, seed: 0, stopIds: [], ...changes };
}

/** Lets what is running go on for a pass. */
export function aPass(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
