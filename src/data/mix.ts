/** How much of each source a stage takes. */
import type { DataFields } from "../config/data.ts";

/** A source as a stage sees it. */
export interface MixSource {
  readonly name: string;
  /** Its own weight in the recipe. */
  readonly weight: number;
  /** Training tokens of it that there are. */
  readonly tokens: number;
}

export interface MixPortion {
  /** Share of the sequences, relative to the other sources. */
  readonly weight: number;
  /** Times it is gone through in one pass over the mix. */
  readonly repeat: number;
}

/**
 * Portions of the sources in a stage. Where some are given in tokens or repetitions, a source that the stage does not name
 * is taken once; else by its own weight. A weight of 0 leaves a source out.
 * @param stage name of one of the recipe's stages; undefined for the sources' own weights.
 */
export function mixOf(
  sources: readonly MixSource[],
  { stages }: Pick<DataFields, "stages">,
  stage?: string,
): MixPortion[] {
  const portions = stage === undefined ? {} : (stages[stage]?.sources ?? {});
  const olmo = stage !== undefined && stages[stage]?.order === "olmo";
  const byAmount =
    olmo || Object.values(portions).some(({ tokens, repeat }) => tokens !== undefined || repeat !== undefined);
  return sources.map(({ name, weight, tokens }) => {
    const portion = portions[name];
    if (!byAmount) return { weight: portion?.weight ?? weight, repeat: 1 };
    const repeat = portion?.tokens === undefined ? (portion?.repeat ?? 1) : portion.tokens / tokens;
    return { weight: repeat * tokens, repeat };
  });
}
