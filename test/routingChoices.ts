/** Routing settings that go together, for property tests. */
import fc from "fast-check";
import type { RoutingConfig } from "../src/config/routing.ts";

/** The fields of a model config that say how tokens and experts come together, without `mlpType`. */
export type RoutingChoice = Omit<RoutingConfig, "mlpType">;

const capacityFactor = fc.option(fc.double({ min: 0.5, max: 4, noNaN: true }), { nil: null });

/**
 * Any valid routing of a model with experts. At `leastTokens` in the group that is routed together (a forward pass for
 * token choice, a sequence or a pass for expert choice) every expert has room for a token; expert choice trains with
 * `train.loss.balance` 0 only.
 */
export function anyRouting(mostExperts: number, leastTokens: number): fc.Arbitrary<RoutingChoice> {
  const counts = fc
    .tuple(fc.integer({ min: 1, max: mostExperts }), fc.double({ min: 0, max: 1, noNaN: true }))
    .map(([numExperts, chosen]) => ({ numExperts, numExpertsPerTok: 1 + Math.floor(chosen * (numExperts - 1)) }));
  const none = { expertChoiceScope: "sequence", expertCapacityFactor: null, softmaxAfterTopk: false } as const;
  const tokenChoice = fc
    .record({ weights: fc.constantFrom("raw", "renormalised", "softmaxAfterTopk"), factor: capacityFactor })
    .map(({ weights, factor }) => ({
      ...none,
      routing: "token_choice" as const,
      normTopkProb: weights === "renormalised",
      softmaxAfterTopk: weights === "softmaxAfterTopk",
      expertCapacityFactor: factor,
    }));
  const expertChoice = fc.constantFrom("sequence" as const, "batch" as const).map((expertChoiceScope) => ({
    ...none,
    routing: "expert_choice" as const,
    normTopkProb: false,
    expertChoiceScope,
  }));
  return fc
    .tuple(counts, fc.oneof(tokenChoice, expertChoice))
    .map(([sizes, choice]) => ({ ...sizes, ...choice }))
    .filter(({ numExperts, numExpertsPerTok, expertCapacityFactor }) => {
      return ((expertCapacityFactor ?? 1) * numExpertsPerTok * leastTokens) / numExperts >= 1;
    });
}
