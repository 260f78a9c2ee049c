/**
 * Routing choices of a model config: which experts serve which tokens. What goes together is checked here, for a model
 * and for a training run of it. The router itself always computes in f32.
 */
import { z } from "zod";

/** Fields of a model config; the defaults are the released models' dropless token choice. */
export const routingFields = {
  /** Who chooses: each token its experts, or each expert its tokens (OLMoE paper, section 4.1.4). */
  routing: z.enum(["token_choice", "expert_choice"]).default("token_choice"),
  /** The tokens among which an expert chooses: one sequence, or all of a forward pass. */
  expertChoiceScope: z.enum(["sequence", "batch"]).default("sequence"),
  /** Bound on an expert's tokens while training, over an even share; what is beyond it is dropped. Null: dropless. */
  expertCapacityFactor: z.number().positive().nullable().default(null),
  /** Softmax over the chosen logits instead of over all. */
  softmaxAfterTopk: z.boolean().default(false),
};

/** Their values in models of transformers. */
export const ROUTING_DEFAULTS = z.object(routingFields).parse({});

/** What routing needs of a model config. */
export interface RoutingConfig extends Readonly<z.output<z.ZodObject<typeof routingFields>>> {
  readonly mlpType: "moe" | "dense";
  readonly numExperts: number;
  readonly numExpertsPerTok: number;
  readonly normTopkProb: boolean;
}

/** Reports settings of a model that exclude each other. */
export function checkRouting(config: RoutingConfig, fault: (key: keyof RoutingConfig, message: string) => void): void {
  const { routing, expertChoiceScope, expertCapacityFactor, softmaxAfterTopk, normTopkProb } = config;
  if (config.mlpType === "dense") {
    for (const key of Object.keys(ROUTING_DEFAULTS) as (keyof typeof ROUTING_DEFAULTS)[]) {
      if (config[key] !== ROUTING_DEFAULTS[key])
        fault(key, `${JSON.stringify(config[key])}, a model whose mlpType is "dense" has no router`);
    }
  } else if (routing === "expert_choice") {
    const because = 'where routing is "expert_choice":';
    if (normTopkProb) fault("normTopkProb", `true, must be false ${because} a token may have no expert at all`);
    if (softmaxAfterTopk) fault("softmaxAfterTopk", `true, must be false ${because} tokens choose no top-k`);
    if (expertCapacityFactor !== null) {
      const reason = "numExpertsPerTok is the capacity factor there";
      fault("expertCapacityFactor", `${expertCapacityFactor}, must be null ${because} ${reason}`);
    }
  } else {
    if (expertChoiceScope !== "sequence") {
      fault("expertChoiceScope", `"${expertChoiceScope}", has a meaning only where routing is "expert_choice"`);
    }
    if (softmaxAfterTopk && normTopkProb) {
      fault("normTopkProb", "true, must be false where softmaxAfterTopk is true: its weights sum to 1 already");
    }
  }
}

/** What a training run adds: its balance loss, and the tokens of its smallest forward pass. */
export interface RoutingRun {
  readonly balance: number;
  readonly sequenceLength: number;
  /** Sequences in that pass. */
  readonly sequences: number;
}

/** Reports settings of a run that its model's routing excludes, at their paths in the recipe. */
export function checkRoutingRun(
  config: RoutingConfig,
  run: RoutingRun,
  fault: (path: readonly string[], message: string) => void,
): void {
  const { routing, numExperts: experts, numExpertsPerTok: topK, expertCapacityFactor: factor } = config;
  const pass = run.sequences * run.sequenceLength;
  if (routing === "expert_choice") {
    if (run.balance > 0) {
      const message = `${run.balance}, must be 0 where model.routing is "expert_choice": every expert takes equally many tokens`;
      fault(["train", "loss", "balance"], message);
    }
    const tokens = config.expertChoiceScope === "batch" ? pass : run.sequenceLength;
    if (expertChoiceCapacity(config, tokens) === 0) {
      const message = `"expert_choice", leaves floor(${topK} * ${tokens} / ${experts}) = 0 tokens to an expert`;
      fault(["model", "routing"], message);
    }
  } else if (factor !== null && slotCapacity(config, pass) === undefined) {
    const message = `${factor}, leaves int(${factor} * ${topK} * ${pass} / ${experts}) = 0 slots to an expert`;
    fault(["model", "expertCapacityFactor"], message);
  }
}

/** Tokens that each expert takes of `tokens` under expert choice: floor(C * tokens / E), C = numExpertsPerTok. */
export function expertChoiceCapacity(
  { numExperts, numExpertsPerTok }: Pick<RoutingConfig, "numExperts" | "numExpertsPerTok">,
  tokens: number,
): number {
  return Math.floor((numExpertsPerTok * tokens) / numExperts);
}

/**
 * Slots that one expert may hold of `tokens` tokens: int(factor * K * tokens / E). As in megablocks, a capacity that comes
 * to 0 is no bound.
 * @returns undefined for no bound.
 */
export function slotCapacity(
  config: Pick<RoutingConfig, "numExperts" | "numExpertsPerTok" | "expertCapacityFactor">,
  tokens: number,
): number | undefined {
  const { numExperts, numExpertsPerTok, expertCapacityFactor: factor } = config;
  if (factor === null) return undefined;
  const capacity = Math.floor(factor * ((numExpertsPerTok * tokens) / numExperts));
  return capacity === 0 ? undefined : capacity;
}
