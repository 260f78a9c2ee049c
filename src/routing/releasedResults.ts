/** Everything that the released counts tell: the paper's numbers, by the statistics of this package. */
import { ConfigError } from "../errors.ts";
import type { AllOptions, AnalysisName } from "./allAnalyses.ts";
import { pathShares } from "./crossLayer.ts";
import { domainShares } from "./domains.ts";
import { mergeIds } from "./idTables.ts";
import { loadChange, loadShares } from "./load.ts";
import { ID_MODEL, type ReleasedCounts, releasedExperts, releasedPaths, releasedTokenIds } from "./released.ts";
import type { RoutingResult } from "./results.ts";
import { figureExperts, tokenIdHistograms } from "./tokenIds.ts";
import { vocabularyShares } from "./vocabulary.ts";

/** What can be told of counts alone, without sequences. */
export const RELEASED_ANALYSES: readonly AnalysisName[] = [
  "load",
  "domains",
  "cross-layer",
  "vocabulary",
  "token-ids",
  "load-change",
];

/** The domain that base and adapted models were both run on. */
const ADAPTATION_DOMAIN = "tulu";
const ADAPTED = ["olmoe-sft", "olmoe-dpo"];

/**
 * @param model one of the files' models: olmoe, mistral.
 * @throws ConfigError for a model that is not there, an analysis that counts do not allow, or a k other than 1 and the model's.
 */
export function analyseReleased(
  { experts, paths, ids }: ReleasedCounts,
  model: string,
  { only = RELEASED_ANALYSES, k }: Pick<AllOptions, "only" | "k"> = {},
): RoutingResult[] {
  const impossible = only.find((name) => !RELEASED_ANALYSES.includes(name));
  if (impossible !== undefined) {
    throw new ConfigError(`counts: ${impossible} needs a trace, counts allow ${RELEASED_ANALYSES.join(", ")}`);
  }
  const all = releasedExperts(experts, model, "topk");
  if (k !== undefined && k !== 1 && k !== all.k) {
    throw new ConfigError(`k: ${k}, the counts of ${model} are of k 1 and ${all.k}`);
  }
  const ranks = (["top1", "topk"] as const).filter((one) => k === undefined || (one === "top1" ? 1 : all.k) === k);
  const first = releasedExperts(experts, model, "top1");
  const counted = { top1: first, topk: all };
  const ofIds = model === ID_MODEL && ids.size > 0 && ranks.includes("topk");
  const made: Partial<Record<AnalysisName, () => RoutingResult[]>> = {
    load: () => ranks.map((one) => loadShares(counted[one])),
    domains: () => ranks.map((one) => domainShares(counted[one])),
    "cross-layer": () => (paths === undefined ? [] : [pathShares(releasedPaths(paths, model, "top1", all.k))]),
    vocabulary: () => {
      const [one] = ids.values();
      if (!ofIds || one === undefined) return [];
      return [vocabularyShares({ ...one, ids: mergeIds(Array.from(ids.values(), (each) => each.ids)) })];
    },
    "token-ids": () =>
      ofIds
        ? [
            tokenIdHistograms(
              releasedTokenIds(ids, { layers: all.layers.slice(-1), experts: figureExperts(all.numExperts) }),
            ),
          ]
        : [],
    "load-change": () =>
      model === ID_MODEL && ranks.includes("topk")
        ? ADAPTED.filter((name) => Object.hasOwn(experts.models, name)).map((name) => {
            const load = (one: string) => ({
              name: one,
              counts: releasedExperts(experts, one, "topk", [ADAPTATION_DOMAIN]),
            });
            return loadChange(load(model), load(name));
          })
        : [],
  };
  return RELEASED_ANALYSES.filter((name) => only.includes(name)).flatMap((name) => made[name]?.() ?? []);
}
