/**
 * Experts that tell two sets of texts apart, and interventions that lean a model to the one or the other: a bias on the
 * logits of the experts that one set uses more.
 */
import type { InterventionInput } from "../config/intervention.ts";
import type { Engine } from "../infer/engine.ts";
import type { ExpertPlace } from "./ablation.ts";
import type { Sequence } from "./recordTrace.ts";

/** How often each expert of some layers serves the tokens of some texts. */
export interface ExpertUse {
  /** N_D: tokens. */
  readonly tokens: number;
  /** N_{E,D}: [layers][E] tokens that an expert is among the experts of. */
  readonly counts: readonly Float64Array[];
}

const AT_ONCE = 8;

/** Counts the experts of all tokens. @throws as `Engine.trace`. */
export async function expertUse(
  engine: Pick<Engine, "trace">,
  sequences: readonly Sequence[],
  { layers, numExperts }: { readonly layers: number; readonly numExperts: number },
  signal?: AbortSignal,
): Promise<ExpertUse> {
  const counts = Array.from({ length: layers }, () => new Float64Array(numExperts));
  let tokens = 0;
  for (let first = 0; first < sequences.length; first += AT_ONCE) {
    const some = sequences.slice(first, first + AT_ONCE);
    for (const { experts, tokens: read } of await Promise.all(some.map(({ ids }) => engine.trace(ids, { signal })))) {
      if (experts === undefined) throw new Error("internal: a trace without experts");
      tokens += read;
      const size = experts.length / layers;
      for (const [layer, count] of counts.entries()) {
        for (const expert of experts.subarray(layer * size, (layer + 1) * size)) {
          if (expert >= 0) count[expert] = (count[expert] as number) + 1;
        }
      }
    }
  }
  return { tokens, counts };
}

/** How differently two sets of texts use an expert. */
export interface UseDifference extends ExpertPlace {
  /** N_{E,D} / N_D of each. */
  readonly towards: number;
  readonly away: number;
  /** The first less the second. */
  readonly difference: number;
  /**
   * The difference over its standard deviation if both sets used the expert alike and tokens were independent of each other
   * (two proportions, pooled). Neighbouring tokens are not: it is too large, alike for all experts, and ranks them.
   */
  readonly z: number;
}

/**
 * All experts, those whose use differs most first; of equals the lower layer and expert.
 * @param layers numbers of the layers that were counted.
 */
export function useDifferences(towards: ExpertUse, away: ExpertUse, layers: readonly number[]): UseDifference[] {
  const [n, m] = [towards.tokens, away.tokens];
  const all = layers.flatMap((layer, place) =>
    Array.from(towards.counts[place] as Float64Array, (count, expert) => {
      const other = away.counts[place]?.[expert] as number;
      const difference = count / n - other / m;
      const pooled = (count + other) / (n + m);
      const deviation = Math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m));
      const z = deviation === 0 ? 0 : difference / deviation;
      return { layer, expert, towards: count / n, away: other / m, difference, z };
    }),
  );
  return all.sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference));
}

/**
 * Adds `strength` to the logits of the experts that the first set uses more, and takes it off those of the others. A
 * negative strength leans the other way; 0 changes nothing.
 */
export function steeringInterventions(
  differences: readonly UseDifference[],
  strength: number,
): readonly Extract<InterventionInput, { kind: "bias" }>[] {
  const layers = [...new Set(differences.map(({ layer }) => layer))].sort((a, b) => a - b);
  return layers.flatMap((layer) =>
    [1, -1].flatMap((sign) => {
      const experts = differences
        .filter((one) => one.layer === layer && Math.sign(one.difference) === sign)
        .map(({ expert }) => expert)
        .sort((a, b) => a - b);
      return experts.length === 0 ? [] : [{ kind: "bias" as const, experts, value: sign * strength, layers: [layer] }];
    }),
  );
}
