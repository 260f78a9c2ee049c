/** Frozen parameters at the level of a step: the others get the gradients they always get, bit for bit. */
import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { smallConfig } from "../../test/models.ts";
import type { Backend } from "../backend/backend.ts";
import { lossSchema, optimizerSchema } from "../config/recipe.ts";
import { Decoder } from "../model/decoder.ts";
import { Parameters } from "../model/parameters.ts";
import { matchNames } from "../optim/patterns.ts";
import { TrainStep } from "./step.ts";

const LENGTH = 12;

/** Gradients before clipping, the step's result, and weights before and after, of one step on the same batch. */
function oneStep(backend: Backend, patterns: readonly string[], config = smallConfig()) {
  const names = new Parameters(backend, config, { trainable: false }).ranges().map(({ name }) => name);
  const frozen = matchNames(patterns, names, "freeze");
  const parameters = new Parameters(backend, config, { trainable: true, frozen });
  parameters.initialise(1);
  const trainer = new TrainStep(backend, new Decoder(backend, parameters), {
    sequenceLength: LENGTH,
    microBatchSize: 2,
    loss: lossSchema.parse({}),
    optimizer: optimizerSchema.parse({}),
  });
  const ids = new Draw(9).ints(4 * LENGTH, 0, config.vocabSize - 1);
  const copy = (flat = parameters.values) =>
    new Map(parameters.tensors(flat).map(({ name, data }) => [name, [...data]]));
  const before = copy();
  let gradients = copy(parameters.grads);
  const result = trainer.run({ ids, labels: ids }, 1e-2, {
    onGradients: () => {
      gradients = copy(parameters.grads);
    },
  });
  const moments = [copy(trainer.optimizer.moments.m), copy(trainer.optimizer.moments.v)];
  return { names, frozen, result, gradients, before, after: copy(), moments };
}

const zeros = (values: readonly number[] | undefined) => values?.every((value) => value === 0);

describe.each(gradientBackends)("on %s", (_, backend) => {
  const whole = oneStep(backend, []);

  it.each<[string, string[]]>([
    ["the embedding", ["model.embed_tokens.*"]],
    ["the routers", ["*.mlp.gate.weight"]],
    ["the first layer with all before it, so that no gradient flows that far", ["model.embed_*", "model.layers.0.*"]],
    ["the embedding, the norms, the first layer and the first expert", ["model.e*", "*.0.*", "*norm*"]],
    ["everything but the output matrix", ["model.*"]],
    ["everything but the first embedding", ["model.layers.*", "model.norm.weight", "lm_head.weight"]],
    ["single experts", ["*.experts.3.*", "*.experts.5.down_proj.weight"]],
  ])("freezing %s leaves them as they are, and the gradients of the others too", (_name, patterns) => {
    const { names, frozen, result, gradients, before, after, moments } = oneStep(backend, patterns);
    expect(frozen.size).toBeGreaterThan(0);
    expect(frozen.size).toBeLessThan(names.length);
    for (const name of names) {
      if (frozen.has(name)) {
        expect(after.get(name), name).toEqual(before.get(name));
        expect([gradients, ...moments].every((tensors) => zeros(tensors.get(name)))).toBe(true);
      } else {
        expect(gradients.get(name), name).toEqual(whole.gradients.get(name));
        expect(after.get(name), name).not.toEqual(before.get(name));
      }
    }
    const { gradientNorm, ...others } = result;
    const { gradientNorm: wholeNorm, ...wholeOthers } = whole.result;
    expect(others).toEqual(wholeOthers);
    const squares = [...gradients.values()].flat().reduce((sum, value) => sum + value * value, 0);
    expect(gradientNorm / Math.sqrt(squares)).toBeCloseTo(1, 5);
    expect(gradientNorm).toBeLessThan(wholeNorm);
  });

  it("freezing works for a dense twin with tied embeddings", () => {
    const config = smallConfig({ mlpType: "dense", numExperts: 1, numExpertsPerTok: 1, tieWordEmbeddings: true });
    const { frozen, before, after } = oneStep(backend, ["model.embed_tokens.weight", "*.self_attn.*"], config);
    for (const [name, values] of after) expect(values.join() === before.get(name)?.join(), name).toBe(frozen.has(name));
  });
});
