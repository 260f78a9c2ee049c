/** Log-probabilities of a token and of the best in its place. */
import type { TokenLogprob, TokenLogprobs } from "./engine.ts";
import { largest } from "./selection.ts";
import type { Row } from "./work.ts";

/** @param best how many of the best tokens to name. */
export function logprobsOf(row: Row, id: number, best: number): TokenLogprobs {
  const logprob = row.logprob(id);
  const { logits } = row;
  // The logarithm of the sum over all tokens, as the kernel had it.
  const logTotal = (logits[id] as number) - logprob;
  const top: TokenLogprob[] = Array.from(largest(logits, best), (other) => ({
    id: other,
    logprob: other === id ? logprob : (logits[other] as number) - logTotal,
  }));
  return { id, logprob, top };
}
