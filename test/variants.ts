/** One model for each choice of architecture, as changes to a small model of `numHiddenLayers` 2, and some together. */
export const VARIANTS: readonly (readonly [name: string, changes: Readonly<Record<string, unknown>>])[] = [
  ["LayerNorm", { normType: "layernorm" }],
  ["LayerNorm without parameters", { normType: "layernorm_nonparametric" }],
  ["QK-norm of each head", { qkNorm: "head" }],
  ["LayerNorm of each head", { qkNorm: "head", normType: "layernorm" }],
  ["no QK-norm", { qkNorm: "none" }],
  ["clipping before the QK-norm", { clipQkv: 0.6, clipQkvPlacement: "before_norm" }],
  ["clipping without QK-norm", { clipQkv: 0.6, qkNorm: "none" }],
  ["every second layer dense", { decoderSparseStep: 2 }],
  ["every second layer dense, of its own width", { decoderSparseStep: 2, denseIntermediateSize: 5 }],
  ["shared experts", { numSharedExperts: 2 }],
  ["experts that all layers share", { layerSharedMoe: "experts" }],
  ["experts and router that all layers share", { layerSharedMoe: "moe" }],
  [
    "a shared MoE with shared experts, in every second of four layers",
    { layerSharedMoe: "moe", numSharedExperts: 1, decoderSparseStep: 2, numHiddenLayers: 4 },
  ],
  [
    "many choices at once",
    {
      normType: "layernorm",
      qkNorm: "head",
      clipQkv: 0.6,
      clipQkvPlacement: "before_norm",
      decoderSparseStep: 2,
      numHiddenLayers: 3,
      numSharedExperts: 1,
      tieWordEmbeddings: true,
      normTopkProb: true,
      ropeTheta: 500,
    },
  ],
];
