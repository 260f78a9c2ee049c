/** Interventions that fit a model, for property tests. */
import fc from "fast-check";
import { moeLayers } from "../src/config/architecture.ts";
import { checkInterventions, type InterventionInput } from "../src/config/intervention.ts";
import type { ModelConfig } from "../src/config/model.ts";
import { ConfigError } from "../src/errors.ts";

/** Up to five interventions on any layers and tokens, together valid for the model. @param tokens of the longest sequence. */
export function anyInterventions(config: ModelConfig, tokens: number): fc.Arbitrary<readonly InterventionInput[]> {
  const { numExperts } = config;
  const all = moeLayers(config);
  const layers = fc.oneof(
    fc.constant("all" as const),
    fc.subarray(all, { minLength: 1 }).map((chosen) => [...chosen]),
  );
  const range = fc
    .record({ from: fc.nat(tokens - 1), length: fc.integer({ min: 1, max: tokens }) })
    .map(({ from, length }) => ({ from, ...(from + length > tokens ? {} : { to: from + length }) }));
  const experts = fc.uniqueArray(fc.nat(numExperts - 1), { minLength: 1, maxLength: 3 });
  const number = fc.double({ min: -3, max: 3, noNaN: true });
  const trace = fc
    .record({ slots: fc.integer({ min: 1, max: numExperts }), positions: fc.integer({ min: 1, max: tokens }) })
    .chain(({ slots, positions }) =>
      fc
        .array(
          fc.shuffledSubarray(
            Array.from({ length: numExperts }, (_, e) => e),
            { minLength: 1, maxLength: slots },
          ),
          {
            minLength: all.length * positions,
            maxLength: all.length * positions,
          },
        )
        .map((rows) => {
          const padded = rows.flatMap((row) => Array.from({ length: slots }, (_, slot) => row[slot] ?? -1));
          return { layers: all, positions, slots, experts: Int16Array.from(padded) };
        }),
    );
  const what: fc.Arbitrary<InterventionInput> = fc.oneof(
    fc.record({ kind: fc.constant("mask" as const), experts }),
    fc.record({ kind: fc.constant("force" as const), experts, weight: fc.option(number, { nil: undefined }) }),
    fc.record({ kind: fc.constant("bias" as const), experts, value: number }),
    fc.record({ kind: fc.constant("scale" as const), experts, factor: number }),
    fc.record({ kind: fc.constant("top_k" as const), k: fc.integer({ min: 1, max: numExperts }) }),
    fc.record({ kind: fc.constant("temperature" as const), value: fc.double({ min: 0.1, max: 5, noNaN: true }) }),
    fc.record({ kind: fc.constant("random" as const), seed: fc.nat(9) }),
    fc.record({ kind: fc.constant("uniform" as const) }),
    fc.record({ kind: fc.constant("replay" as const), trace }),
    fc.uniqueArray(fc.nat(numExperts - 1), { minLength: 2, maxLength: 2 }).map((pair): InterventionInput => {
      return { kind: "swap", experts: pair as [number, number] };
    }),
  );
  const one = fc.tuple(what, layers, range).map(([first, where, when]) => ({ ...first, layers: where, tokens: when }));
  return fc.array(one, { maxLength: 5 }).filter((interventions) => isValid(interventions, config));
}

function isValid(interventions: readonly InterventionInput[], config: ModelConfig): boolean {
  try {
    checkInterventions(interventions, config, "");
    return true;
  } catch (error) {
    if (error instanceof ConfigError) return false;
    throw error;
  }
}
