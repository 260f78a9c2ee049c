/** Where a decoder takes its weights from: parameters in memory that may be trained, or an opened model file. */
import type { Weight } from "../autograd/ops/stored.ts";
import type { ModelConfig } from "../config/model.ts";
import type { ParameterSpec } from "./parts.ts";

export type { Weight } from "../autograd/ops/stored.ts";

export interface WeightSource {
  readonly config: ModelConfig;
  /** The weight that a part of the model describes; norms and routers are always f32 variables. */
  weight(spec: ParameterSpec): Weight;
}
