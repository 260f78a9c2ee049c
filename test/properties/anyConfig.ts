/** Any valid model config of a size that trains in milliseconds: a table of choices, one row for each subject. */
import fc from "fast-check";
import { type ModelConfig, modelConfigSchema } from "../../src/config/model.ts";
import { anyRouting } from "../routingChoices.ts";

/** Tokens of a sequence: what is routed together is no less, so that every expert has room for a token. */
export const LENGTH = 8;

const between = (min: number, max: number) => fc.integer({ min, max });

/** Keys that go together; a row yields some fields of a config. */
const ROWS: Readonly<Record<string, fc.Arbitrary<object>>> = {
  attention: fc
    .record({ kvHeads: between(1, 2), groups: between(1, 3), headPairs: between(1, 3) })
    .map(({ kvHeads, groups, headPairs }) => ({
      numKeyValueHeads: kvHeads,
      numAttentionHeads: kvHeads * groups,
      hiddenSize: kvHeads * groups * headPairs * 2,
    }))
    // Narrower than this, a model has hardly a direction to improve in.
    .filter(({ hiddenSize }) => hiddenSize >= 8),
  sizes: fc.record({ vocabSize: between(20, 40), numHiddenLayers: between(1, 4), intermediateSize: between(1, 9) }),
  norms: fc.record({
    normType: fc.constantFrom("rmsnorm", "layernorm", "layernorm_nonparametric"),
    qkNorm: fc.constantFrom("full", "head", "none"),
    rmsNormEps: fc.constantFrom(1e-5, 1e-6, 1e-3),
  }),
  clipping: fc.oneof(
    fc.constant({}),
    fc.record({ clipQkv: fc.constantFrom(0.5, 8), clipQkvPlacement: fc.constantFrom("after_norm", "before_norm") }),
  ),
  initialization: fc.oneof(
    fc.record({ initialization: fc.constantFrom("fan_in", "mitchell") }),
    fc.record({
      initialization: fc.constantFrom("truncated_normal", "normal", "megatron"),
      initializerRange: fc.constantFrom(0.02, 0.1),
    }),
  ),
  mlps: fc.oneof(
    { weight: 1, arbitrary: fc.constant({ mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 }) },
    {
      weight: 5,
      arbitrary: fc
        .record({
          routing: anyRouting(7, LENGTH),
          decoderSparseStep: fc.constantFrom(1, 1, 2, 3),
          denseIntermediateSize: fc.option(between(1, 9)),
          numSharedExperts: fc.constantFrom(0, 0, 1, 2),
          layerSharedMoe: fc.constantFrom("none", "none", "experts", "moe"),
        })
        .map(({ routing, ...mlp }) => ({ ...mlp, ...routing })),
    },
  ),
  embeddings: fc.record({ tieWordEmbeddings: fc.boolean() }),
  positions: fc.record({
    ropeTheta: fc.constantFrom(100, 10_000, 500_000),
    maxPositionEmbeddings: fc.constantFrom(8, 32),
  }),
};

/** Rows that contradict each other are drawn again; the schema knows which do. */
export const anyConfig: fc.Arbitrary<ModelConfig> = fc
  .record(ROWS)
  .map((rows) => modelConfigSchema.safeParse(Object.assign({}, ...Object.values(rows))).data)
  .filter((config) => config !== undefined);

/** Every value that a choice may have. */
export const CHOICES = {
  mlpType: ["moe", "dense"],
  normTopkProb: [false, true],
  softmaxAfterTopk: [false, true],
  routing: ["token_choice", "expert_choice"],
  expertChoiceScope: ["sequence", "batch"],
  clipQkv: [null, 0.5, 8],
  tieWordEmbeddings: [false, true],
  normType: ["rmsnorm", "layernorm", "layernorm_nonparametric"],
  qkNorm: ["full", "head", "none"],
  clipQkvPlacement: ["after_norm", "before_norm"],
  initialization: ["truncated_normal", "normal", "megatron", "fan_in", "mitchell"],
  decoderSparseStep: [1, 2, 3],
  numSharedExperts: [0, 1, 2],
  layerSharedMoe: ["none", "experts", "moe"],
} as const satisfies Partial<Record<keyof ModelConfig, readonly unknown[]>>;
