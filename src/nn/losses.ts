/**
 * Router losses as pure functions of a layer's routing statistics, in the three scales that are in use. They differ by
 * factors, not in what they want; docs/losses.md puts them side by side.
 *
 * Letters: L layers, T tokens counted, E experts, K experts per token; c[e] slots sent to expert e (their sum is T * K),
 * P[e] the mean probability of e over the tokens.
 */

/** What the losses need of one layer's routing of one micro-batch. */
export interface RouterStats {
  /** T: tokens that count. */
  readonly tokens: number;
  readonly topK: number;
  /** [E] slots sent to each expert, those that were dropped among them. */
  readonly counts: Float64Array;
  /** [E] sum over tokens of each expert's probability. */
  readonly probSums: Float64Array;
  /** Sum over tokens of (log sum exp of the logits)^2. */
  readonly squaredLseSum: number;
  /** Sum over tokens of the chosen experts' probabilities. */
  readonly chosenProbSum: number;
  /** Slots that found their expert full, of all tokens. */
  readonly dropped: number;
}

/** A loss and how it changes with each layer's probabilities. */
export interface BalanceLoss {
  readonly value: number;
  /** [L][E]: the derivative with respect to the probability of expert e, the same for every counted token of the layer. */
  readonly probGrads: readonly Float64Array[];
}

const meanOver = <T>(items: readonly T[], value: (item: T) => number): number =>
  items.length === 0 ? 0 : items.reduce((sum, item) => sum + value(item), 0) / items.length;

/**
 * Load-balancing loss at the paper's scale (equation 3), which is also megablocks': the mean over layers of
 * E * sum_e f[e] * P[e] with f[e] = c[e] / (T K). Perfect balance gives 1, all tokens on K experts E / K. The counts are
 * not differentiated. Unweighted.
 */
export function loadBalancingLoss(layers: readonly RouterStats[]): BalanceLoss {
  const value = meanOver(layers, ({ counts, probSums, tokens, topK }) => {
    const product = counts.reduce((sum, count, e) => sum + count * (probSums[e] as number), 0);
    return tokens === 0 ? 0 : (counts.length * product) / (tokens * tokens * topK);
  });
  const probGrads = layers.map(({ counts, tokens, topK }) =>
    counts.map((count) => (tokens === 0 ? 0 : (counts.length * count) / (layers.length * tokens * tokens * topK))),
  );
  return { value, probGrads };
}

/**
 * Load-balancing loss as transformers computes it (`load_balancing_loss_func`): all layers' tokens are pooled, so that
 * one layer's imbalance can cancel another's, and slots are summed instead of averaged. Perfect balance gives K.
 */
export function huggingFaceBalanceLoss(layers: readonly RouterStats[]): BalanceLoss {
  const experts = layers[0]?.counts.length ?? 0;
  const tokens = layers.reduce((sum, layer) => sum + layer.tokens, 0);
  const pooled = new Float64Array(experts);
  for (const { counts } of layers)
    for (let e = 0; e < experts; e++) pooled[e] = (pooled[e] as number) + (counts[e] as number);
  const gradient = pooled.map((count) => (tokens === 0 ? 0 : (experts * count) / (tokens * tokens)));
  const value = layers.reduce(
    (sum, { probSums }) => sum + probSums.reduce((inner, p, e) => inner + p * (gradient[e] as number), 0),
    0,
  );
  return { value, probGrads: layers.map(() => gradient) };
}

/**
 * Load-balancing loss of experts that all layers share, as the paper's code computes it: counts and mean probabilities are
 * first averaged over layers, and E / (T K) * sum_e c[e] * P[e] is the loss. This is the pooled loss over K. Perfect
 * balance over all layers together gives 1, whatever each layer does by itself.
 */
export function layerSharedBalanceLoss(layers: readonly RouterStats[]): BalanceLoss {
  const topK = layers[0]?.topK ?? 1;
  const { value, probGrads } = huggingFaceBalanceLoss(layers);
  return { value: value / topK, probGrads: probGrads.map((gradient) => gradient.map((part) => part / topK)) };
}

/** The scale of a router z-loss: the paper's equation 4, or the training code's, which divides by K besides. */
export type ZLossScale = "paper" | "megablocks";

/** Weight of each token's squared log-sum-exp in the z-loss. */
export function zLossCoefficient(layers: readonly RouterStats[], scale: ZLossScale): number {
  const [first] = layers;
  if (first === undefined || first.tokens === 0) return 0;
  return 1 / (layers.length * first.tokens * (scale === "megablocks" ? first.topK : 1));
}

/**
 * Router z-loss: the mean over layers and tokens of (log sum exp of the logits)^2 (equation 4), over K in the training
 * code's scale. Unweighted.
 */
export function routerZLoss(layers: readonly RouterStats[], scale: ZLossScale): number {
  return zLossCoefficient(layers, scale) * layers.reduce((sum, layer) => sum + layer.squaredLseSum, 0);
}
