/** Losses of the same texts under different interventions. */
import type { InterventionInput } from "../config/intervention.ts";
import type { Engine } from "../infer/engine.ts";
import type { Sequence } from "./recordTrace.ts";

/** Sequences that are in the engine at once: a pass computes them together, whatever interventions each has. */
const AT_ONCE = 16;

/** Tokens of a sequence that are scored: all but the first. */
export function scoredTokens({ ids }: Sequence): number {
  return Math.max(0, ids.length - 1);
}

/**
 * Scores all sequences under each of several interventions, undefined for none.
 * @yields [sequences] nats of each, summed over its tokens after the first, in the order of the variants.
 * @throws ConfigError for interventions that do not fit the model; the signal's reason.
 */
export async function* lossesUnder(
  engine: Pick<Engine, "logprobs">,
  sequences: readonly Sequence[],
  variants: Iterable<readonly InterventionInput[] | undefined>,
  signal?: AbortSignal,
): AsyncGenerator<Float64Array, void> {
  const running: Promise<number>[] = [];
  let nats: number[] = [];
  const nextOf = async () => {
    nats.push(await (running.shift() as Promise<number>));
    if (nats.length < sequences.length) return undefined;
    const whole = Float64Array.from(nats);
    nats = [];
    return whole;
  };
  for (const interventions of variants) {
    for (const { ids } of sequences) {
      signal?.throwIfAborted();
      const one = engine.logprobs(ids, { interventions, signal }).then(sumOfNats);
      // It may fail while the caller is busy with an earlier one, and where one has failed nobody waits for the others.
      one.catch(() => undefined);
      running.push(one);
      const whole = running.length < AT_ONCE ? undefined : await nextOf();
      if (whole !== undefined) yield whole;
    }
  }
  while (running.length > 0) {
    const whole = await nextOf();
    if (whole !== undefined) yield whole;
  }
}

function sumOfNats(logprobs: Float32Array): number {
  return logprobs.reduce((sum, logprob) => sum - logprob, 0);
}
