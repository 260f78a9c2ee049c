/** Cases of the router. */
import {
  Draw,
  ELEMENTWISE,
  expected,
  input,
  type KernelCase,
  kernelCase,
  overwritten,
  overwrittenIds,
  SUM,
  type Values,
} from "./harness.ts";

const draw = new Draw(15);

export interface RouterSizes {
  readonly tokens: number;
  readonly experts: number;
  readonly topK: number;
  readonly normalise?: boolean;
  /**
   * Random logits up to `spread`; few different integers, so that ties are common; all equal; minus infinity for all
   * experts but two; or one NaN in each row.
   */
  readonly logits?: "random" | "tied" | "equal" | "masked" | "NaN";
  readonly spread?: number;
}

export function routerForwardCase(sizes: RouterSizes): KernelCase {
  const { tokens, experts, topK, normalise = false, logits: kind = "random", spread = 3 } = sizes;
  const change: Record<typeof kind, (value: number, expert: number) => number> = {
    random: (value) => value,
    tied: Math.round,
    equal: () => 0.25,
    masked: (value, expert) => (expert === 1 || expert === experts - 1 ? value : -Infinity),
    NaN: (value, expert) => (expert === 2 ? Number.NaN : value),
  };
  const logits = draw.floats(tokens * experts, spread).map((value, i) => change[kind](value, i % experts));
  const operands = {
    logits: input(logits),
    probs: overwritten({ rows: tokens, cols: experts }, ELEMENTWISE),
    lse: overwritten({ rows: 1, cols: tokens }, { relative: 1e-6, absolute: 1e-6 }),
    expertIds: topK === 0 ? null : overwrittenIds(tokens * topK),
    expertWeights: topK === 0 ? null : overwritten({ rows: tokens, cols: topK }, ELEMENTWISE),
  };
  return kernelCase("routerForward", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.routerForward(
      at.logits,
      at.probs,
      at.lse,
      at.expertIds,
      at.expertWeights,
      tokens,
      experts,
      topK,
      normalise ? 1 : 0,
    ),
  );
}

/** Which of the gradients that may be null are given. */
export interface RouterGradients {
  readonly weights?: boolean;
  readonly probs?: boolean;
  readonly mask?: boolean;
  readonly zCoef?: number;
  /** Every third slot has no expert. */
  readonly dropped?: boolean;
}

function maskOf(tokens: number): Float32Array {
  return Float32Array.from({ length: tokens }, () => draw.pick([0, 1, 1, 0.5]));
}

function withDroppedSlots(expertIds: Values): Values {
  return Int32Array.from(expertIds, (id, slot) => (slot % 3 === 0 ? draw.pick([-1, -100]) : id));
}

export function routerBackwardCase(sizes: RouterSizes, gradients: RouterGradients): KernelCase {
  const { tokens, experts, topK, normalise = false } = sizes;
  const forward = expected(routerForwardCase(sizes)).operands;
  const operands = {
    probs: input(forward.probs!),
    lse: input(forward.lse!),
    expertIds: input(gradients.dropped ? withDroppedSlots(forward.expertIds!) : forward.expertIds!),
    expertWeights: input(forward.expertWeights!),
    dweights: gradients.weights ? input(draw.floats(tokens * topK)) : null,
    probGrad: gradients.probs ? input(draw.floats(experts)) : null,
    tokenMask: gradients.mask ? input(maskOf(tokens)) : null,
    dlogits: overwritten({ rows: tokens, cols: experts }, SUM),
  };
  const name = `${JSON.stringify(sizes)} ${JSON.stringify(gradients)}`;
  return kernelCase("routerBackward", name, operands, (kernels, at) =>
    kernels.routerBackward(
      at.probs,
      at.lse,
      at.expertIds,
      at.expertWeights,
      at.dweights,
      at.probGrad,
      at.tokenMask,
      gradients.zCoef ?? 0,
      at.dlogits,
      tokens,
      experts,
      topK,
      normalise ? 1 : 0,
    ),
  );
}

export function routerStatsCase(sizes: RouterSizes, mask: boolean, dropped: boolean): KernelCase {
  const { tokens, experts, topK } = sizes;
  const forward = expected(routerForwardCase(sizes)).operands;
  const tokenMask = mask ? maskOf(tokens) : null;
  // Where a token is masked out its values may be anything.
  const probs = forward.probs!.map((prob, i) => (tokenMask?.[Math.floor(i / experts)] === 0 ? Number.NaN : prob));
  const length = 2 * experts + 2;
  const stats = new Float64Array(length).fill(Number.NaN);
  const operands = {
    probs: input(probs),
    lse: input(forward.lse!),
    expertIds: input(dropped ? withDroppedSlots(forward.expertIds!) : forward.expertIds!),
    tokenMask: tokenMask === null ? null : input(tokenMask),
    stats: { ...overwritten({ rows: 1, cols: length }, { relative: 1e-6 }), values: stats },
  };
  const name = `${JSON.stringify(sizes)}${mask ? " masked" : ""}${dropped ? " with dropped slots" : ""}`;
  return kernelCase("routerStats", name, operands, (kernels, at) =>
    kernels.routerStats(at.probs, at.lse, at.expertIds, at.tokenMask, at.stats, tokens, experts, topK),
  );
}

const shapes: readonly RouterSizes[] = [1, 2, 8, 17, 60, 64, 100, 128, 257].flatMap((experts) =>
  [...new Set([1, Math.min(2, experts), Math.min(8, experts), experts])].flatMap((topK) =>
    [false, true].map((normalise) => ({ tokens: draw.pick([1, 3, 5]), experts, topK, normalise })),
  ),
);

const allGradients: readonly RouterGradients[] = [
  {},
  { weights: true },
  { probs: true },
  { probs: true, mask: true },
  { weights: true, dropped: true },
  { zCoef: 0.01 },
  { zCoef: 0.01, mask: true },
  { weights: true, probs: true, mask: true, zCoef: 0.01 },
];

export const routerCases: readonly KernelCase[] = [
  ...shapes.flatMap((sizes) => [
    routerForwardCase(sizes),
    routerForwardCase({ ...sizes, logits: "tied" }),
    routerForwardCase({ ...sizes, logits: "equal" }),
    routerBackwardCase(sizes, { weights: true, probs: true, mask: true, zCoef: 0.01 }),
    routerStatsCase(sizes, false, false),
    routerStatsCase(sizes, true, true),
  ]),
  ...allGradients.flatMap((gradients) =>
    [false, true].map((normalise) => routerBackwardCase({ tokens: 7, experts: 8, topK: 3, normalise }, gradients)),
  ),
  routerForwardCase({ tokens: 0, experts: 8, topK: 2 }),
  routerForwardCase({ tokens: 7, experts: 17, topK: 0 }),
  routerForwardCase({ tokens: 7, experts: 64, topK: 0, normalise: true }),
  routerBackwardCase({ tokens: 0, experts: 8, topK: 2 }, { weights: true }),
  routerStatsCase({ tokens: 0, experts: 8, topK: 2 }, false, false),
  routerForwardCase({ tokens: 257, experts: 64, topK: 8 }),
  routerStatsCase({ tokens: 257, experts: 64, topK: 8 }, true, false),
  ...([2, 8, 60] as const).map((topK) => routerForwardCase({ tokens: 5, experts: 64, topK, logits: "masked" })),
  routerForwardCase({ tokens: 5, experts: 64, topK: 8, logits: "NaN" }),
  // One choice each: with logits so far apart all other probabilities are zero.
  routerForwardCase({ tokens: 9, experts: 64, topK: 1, spread: 1e4 }),
  routerForwardCase({ tokens: 9, experts: 64, topK: 1, normalise: true, spread: 1e30 }),
];
