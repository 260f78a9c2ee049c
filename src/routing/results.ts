/** What analyses give, told apart by `analysis`. */
import type { CoactivationResult } from "./coactivation.ts";
import type { PathResult } from "./crossLayer.ts";
import type { DomainResult, SpecialisationTest } from "./domains.ts";
import type { LoadChangeResult, LoadResult } from "./load.ts";
import type { MassResult } from "./mass.ts";
import type { ChurnResult, SaturationResult } from "./saturation.ts";
import type { TokenIdResult } from "./tokenIds.ts";
import type { VocabularyResult } from "./vocabulary.ts";

export type RoutingResult =
  | SaturationResult
  | ChurnResult
  | LoadResult
  | LoadChangeResult
  | DomainResult
  | SpecialisationTest
  | CoactivationResult
  | PathResult
  | VocabularyResult
  | TokenIdResult
  | MassResult;
