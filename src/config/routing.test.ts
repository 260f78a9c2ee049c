import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { anyRouting } from "../../test/routingChoices.ts";
import { tinyRecipe } from "../../test/tinyRecipe.ts";
import { ConfigError } from "../errors.ts";
import { configFromHuggingFace, configToHuggingFace } from "./huggingface.ts";
import { resolveModel } from "./presets.ts";
import { parseRecipe } from "./recipe.ts";
import { expertChoiceCapacity, slotCapacity } from "./routing.ts";
import { isVariant } from "./variant.ts";

type Changes = Readonly<Record<string, unknown>>;

const HINT = "see docs/configuration.md for every key";
const EXPERT_CHOICE = { routing: "expert_choice" };

function expectFault(recipe: Changes, fault: string): void {
  expect(() => parseRecipe(tinyRecipe(recipe), "my.yaml")).toThrow(
    new ConfigError(`my.yaml: ${fault}`, { hint: HINT }),
  );
}

describe("a model config", () => {
  it.each<[Changes, string]>([
    [
      { routing: "expertchoice" },
      'routing: "expertchoice", expected one of "token_choice"|"expert_choice", did you mean "expert_choice"?',
    ],
    [{ expertCapacityFactor: 0 }, "expertCapacityFactor: 0, expected number to be >0"],
    [{ expertCapacityFactor: "1.25" }, 'expertCapacityFactor: "1.25", expected number, received string'],
    [{ expertChoiceScope: "batch" }, 'expertChoiceScope: "batch", has a meaning only where routing is "expert_choice"'],
    [
      { softmaxAfterTopk: true, normTopkProb: true },
      "normTopkProb: true, must be false where softmaxAfterTopk is true: its weights sum to 1 already",
    ],
    [
      { ...EXPERT_CHOICE, normTopkProb: true },
      'normTopkProb: true, must be false where routing is "expert_choice": a token may have no expert at all',
    ],
    [
      { ...EXPERT_CHOICE, softmaxAfterTopk: true },
      'softmaxAfterTopk: true, must be false where routing is "expert_choice": tokens choose no top-k',
    ],
    [
      { ...EXPERT_CHOICE, expertCapacityFactor: 2 },
      'expertCapacityFactor: 2, must be null where routing is "expert_choice": numExpertsPerTok is the capacity factor there',
    ],
    [
      { ...EXPERT_CHOICE, mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 },
      'routing: "expert_choice", a model whose mlpType is "dense" has no router',
    ],
    [
      { expertCapacityFactor: 2, mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 },
      'expertCapacityFactor: 2, a model whose mlpType is "dense" has no router',
    ],
  ])("refuses %j", (changes, fault) => {
    expect(() => resolveModel({ preset: "tiny", ...changes })).toThrow(new ConfigError(`model: ${fault}`));
    expectFault({ model: changes, train: { loss: { balance: 0 } } }, `model.${fault}`);
  });

  it("has the released model's routing by default", () => {
    expect(resolveModel({ preset: "olmoe-1b-7b" })).toMatchObject({
      routing: "token_choice",
      expertChoiceScope: "sequence",
      expertCapacityFactor: null,
      softmaxAfterTopk: false,
      normTopkProb: false,
    });
  });

  it("is given back by config.json with any routing", () => {
    fc.assert(
      fc.property(anyRouting(64, 1), (choice) => {
        const config = resolveModel({ preset: "tiny", ...choice });
        expect(configFromHuggingFace(JSON.parse(JSON.stringify(configToHuggingFace(config))), "config.json")).toEqual(
          config,
        );
      }),
      { seed: 2, numRuns: 200 },
    );
  });

  it("is written so that transformers computes softmax after top-k, under its name for it", () => {
    const json = configToHuggingFace(resolveModel({ preset: "tiny", softmaxAfterTopk: true }));
    expect(json).toMatchObject({ model_type: "olmoe", norm_topk_prob: true, softmax_after_topk: true });
    expect(Object.keys(configToHuggingFace(resolveModel({ preset: "tiny" })))).not.toContain("softmax_after_topk");
  });

  it("is a variant that transformers does not compute only where experts choose", () => {
    const choices = [{}, { softmaxAfterTopk: true }, { expertCapacityFactor: 1 }, EXPERT_CHOICE];
    const variants = choices.map((changes) => isVariant(resolveModel({ preset: "tiny", ...changes })));
    expect(variants).toEqual([false, false, false, true]);
  });
});

describe("a recipe", () => {
  it("refuses a balance loss where experts choose, and takes it without", () => {
    const reason = 'must be 0 where model.routing is "expert_choice": every expert takes equally many tokens';
    expectFault({ model: EXPERT_CHOICE }, `train.loss.balance: 0.01, ${reason}`);
    const { model, train } = parseRecipe(tinyRecipe({ model: EXPERT_CHOICE, train: { loss: { balance: 0 } } }));
    expect([model, train.loss.balance]).toEqual([{ preset: "tiny", ...EXPERT_CHOICE }, 0]);
  });

  it("refuses sequences so short that experts would take no token, unless they choose in the whole batch", () => {
    const recipe = (changes: Changes) => ({
      model: { ...EXPERT_CHOICE, numExperts: 64, numExpertsPerTok: 1, ...changes },
      train: { loss: { balance: 0 } },
    });
    expectFault(recipe({}), 'model.routing: "expert_choice", leaves floor(1 * 32 / 64) = 0 tokens to an expert');
    expect(() => parseRecipe(tinyRecipe(recipe({ expertChoiceScope: "batch" })))).not.toThrow();
  });

  it("refuses a capacity of no slot at all", () => {
    const recipe = { model: { expertCapacityFactor: 0.02 }, train: { batchSize: 4, microBatchSize: 1 } };
    expectFault(recipe, "model.expertCapacityFactor: 0.02, leaves int(0.02 * 2 * 32 / 8) = 0 slots to an expert");
    expect(() => parseRecipe(tinyRecipe({ ...recipe, train: { batchSize: 8 } }))).not.toThrow();
    const batchWarmup = [{ steps: 1, batchSize: 1 }];
    expectFault(
      { ...recipe, train: { batchSize: 8, batchWarmup } },
      "model.expertCapacityFactor: 0.02, leaves int(0.02 * 2 * 32 / 8) = 0 slots to an expert",
    );
  });
});

describe("the capacity of an expert", () => {
  const sizes = { numExperts: 64, numExpertsPerTok: 8 };

  it("is rounded down", () => {
    expect([4096, 512, 9, 8, 7, 0].map((tokens) => expertChoiceCapacity(sizes, tokens))).toEqual([512, 64, 1, 1, 0, 0]);
    const bound = (expertCapacityFactor: number, tokens: number) =>
      slotCapacity({ ...sizes, expertCapacityFactor }, tokens);
    // int(1.25 * 8 * 4096 / 64) = 640; int(1.25 * 8 * 13 / 64) = int(2.03).
    expect([bound(1.25, 4096), bound(1.25, 13), bound(1e308, 4096)]).toEqual([640, 2, Number.POSITIVE_INFINITY]);
  });

  it("is no bound where it comes to 0 or there is no factor, as in megablocks", () => {
    expect(slotCapacity({ ...sizes, expertCapacityFactor: 0.5 }, 15)).toBeUndefined();
    expect(slotCapacity({ ...sizes, expertCapacityFactor: null }, 4096)).toBeUndefined();
  });
});
