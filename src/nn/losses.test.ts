import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  type BalanceLoss,
  huggingFaceBalanceLoss,
  layerSharedBalanceLoss,
  loadBalancingLoss,
  type RouterStats,
  routerZLoss,
  zLossCoefficient,
} from "./losses.ts";

/** One layer from its slots per expert and mean probabilities. */
function layer(topK: number, counts: number[], meanProbs: number[], meanSquaredLse = 0): RouterStats {
  const tokens = counts.reduce((sum, count) => sum + count, 0) / topK;
  return {
    tokens,
    topK,
    counts: Float64Array.from(counts),
    probSums: Float64Array.from(meanProbs, (p) => p * tokens),
    squaredLseSum: meanSquaredLse * tokens,
    chosenProbSum: 0,
    dropped: 0,
  };
}

/** The layers' loss in the paper's scale, in transformers', and in transformers' layer by layer, as Table 6 has it. */
function scales(layers: readonly RouterStats[]): number[] {
  const perLayer = layers.map((one) => huggingFaceBalanceLoss([one]).value);
  return [
    loadBalancingLoss(layers).value,
    huggingFaceBalanceLoss(layers).value,
    perLayer.reduce((sum, value) => sum + value, 0) / layers.length,
  ];
}

const uniform = (experts: number) => Array<number>(experts).fill(1 / experts);
const balanced = layer(2, [2, 2, 2, 2], uniform(4));
const collapsed = layer(2, [4, 4, 0, 0], [0.6, 0.4, 0, 0]);
// The worked example of docs/losses.md: two layers whose imbalances are opposite.
const skewed = layer(2, [4, 2, 2, 0], [0.4, 0.3, 0.2, 0.1], 2);
const opposite = layer(2, [0, 2, 2, 4], [0.1, 0.2, 0.3, 0.4], 4);

describe("balance losses", () => {
  it("of shared experts is E / (T K) times the dot of counts and probabilities averaged over layers", () => {
    const layers = [layer(2, [4, 2, 2, 0], [0.4, 0.3, 0.2, 0.1]), layer(2, [2, 2, 0, 4], [0.2, 0.2, 0.2, 0.4])];
    // Mean counts 3, 2, 1, 2 and probabilities 0.3, 0.25, 0.2, 0.25; 4 experts, 4 tokens, 2 each.
    const dot = 3 * 0.3 + 2 * 0.25 + 1 * 0.2 + 2 * 0.25;
    expect(layerSharedBalanceLoss(layers).value).toBeCloseTo((4 / (4 * 2)) * dot, 12);
    expect(layerSharedBalanceLoss([skewed, opposite]).value).toBeCloseTo(1, 12);
    expect(layerSharedBalanceLoss([skewed]).value).toBeCloseTo(loadBalancingLoss([skewed]).value, 12);
  });

  it.each([
    ["balance: 1, and K", [balanced], [1, 2, 2]],
    [
      "balance of one expert for each of 8 tokens' slots: 1, and K",
      [layer(8, Array(64).fill(1), uniform(64))],
      [1, 8, 8],
    ],
    ["collapse on K experts: E / K, and E", [collapsed], [2, 4, 4]],
    [
      "collapse on one of 64 experts: E, and E",
      [layer(1, [9, ...Array(63).fill(0)], [1, ...Array(63).fill(0)])],
      [64, 64, 64],
    ],
    ["a skewed layer", [skewed], [1.3, 2.6, 2.6]],
    ["two layers, which only pooling calls balanced", [skewed, opposite], [1.3, 2, 2.6]],
    ["a balanced and a collapsed layer", [balanced, collapsed], [1.5, 2.5, 3]],
    [
      "every token on every expert: 1, and K, whatever the probabilities are",
      [layer(3, [5, 5, 5], [0.7, 0.2, 0.1])],
      [1, 3, 3],
    ],
    ["one expert", [layer(1, [5], [1])], [1, 1, 1]],
  ])("of %s", (_, layers, expected) => {
    expect(scales(layers)).toBeAllClose(expected, { atol: 1e-12 });
  });

  const opposites: readonly RouterStats[] = [skewed, opposite];

  it.each([
    [
      "the paper's",
      loadBalancingLoss,
      [
        [0.25, 0.125, 0.125, 0],
        [0, 0.125, 0.125, 0.25],
      ],
    ],
    [
      "transformers'",
      huggingFaceBalanceLoss,
      [
        [0.25, 0.25, 0.25, 0.25],
        [0.25, 0.25, 0.25, 0.25],
      ],
    ],
  ] as const)("change with each probability as differences say, in %s scale", (_, lossOf, expected) => {
    const { probGrads } = lossOf(opposites);
    expect(probGrads.flatMap((row) => [...row])).toBeAllClose(expected.flat(), { atol: 1e-12 });
    // The loss is linear in the probabilities: a step of any size gives the derivative up to rounding.
    const differences = opposites.map((one, l) =>
      [...one.probSums].map((_, e) => {
        const moved = one.probSums.map((sum, other) => (other === e ? sum + 1 : sum));
        return lossOf(opposites.with(l, { ...one, probSums: moved })).value - lossOf(opposites).value;
      }),
    );
    expect(probGrads.flatMap((row) => [...row])).toBeAllClose(differences.flat(), { atol: 1e-12 });
  });

  it("and their gradients are 0 where no token counts, and where there is no layer", () => {
    const empty = layer(2, [0, 0, 0], [0, 0, 0]);
    const nothing: BalanceLoss = { value: 0, probGrads: [new Float64Array(3)] };
    for (const lossOf of [loadBalancingLoss, huggingFaceBalanceLoss]) {
      expect(lossOf([empty])).toEqual(nothing);
      expect(lossOf([])).toEqual({ value: 0, probGrads: [] });
    }
  });
});

describe("routerZLoss", () => {
  it("is the mean of lse^2 over layers and tokens, and that over K in the training code's scale", () => {
    const layers = [skewed, opposite];
    expect([routerZLoss(layers, "paper"), routerZLoss(layers, "megablocks")]).toEqual([3, 1.5]);
    expect([zLossCoefficient(layers, "paper"), zLossCoefficient(layers, "megablocks")]).toEqual([1 / 8, 1 / 16]);
  });

  it("is 0 where no token counts, and where there is no layer", () => {
    const empty = layer(2, [0, 0, 0], [0, 0, 0]);
    for (const layers of [[empty], []]) {
      expect([routerZLoss(layers, "paper"), zLossCoefficient(layers, "paper")]).toEqual([0, 0]);
    }
  });
});

describe("docs/losses.md", () => {
  it("shows the values that its example has", () => {
    const page = readFileSync(new URL("../../docs/losses.md", import.meta.url), "utf8");
    const layers = [skewed, opposite];
    const names = ["layer 0 alone", "layer 1 alone", "both layers"];
    const rows = [[skewed], [opposite], layers].map((some, index) =>
      [
        `| ${names[index]}`,
        ...scales(some).map((value) => value.toFixed(1)),
        routerZLoss(some, "paper").toFixed(1),
        `${routerZLoss(some, "megablocks").toFixed(1)} |`,
      ].join(" | "),
    );
    for (const row of rows) expect(page).toContain(row);
    const [targets, tokens, nats] = [3, 4, 6];
    const router = 0.01 * loadBalancingLoss(layers).value + 0.001 * routerZLoss(layers, "megablocks");
    for (const denominator of [tokens, targets]) {
      expect(page).toContain(`= ${(nats / denominator + router).toFixed(4)}`);
    }
  });
});
