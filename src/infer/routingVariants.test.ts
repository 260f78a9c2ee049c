/** What a model with each routing can be asked for: generation, scores, a pass laid open. */
import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { ConfigError } from "../errors.ts";
import { generate } from "./generate.ts";
import { inspectForward } from "./inspect.ts";
import { tokenLogProbs } from "./score.ts";

const EXPERT_CHOICE = { routing: "expert_choice" };
const IDS = new Draw(4).ints(20, 0, 49);

describe.each(gradientBackends)("on %s, a model whose experts choose", (_, backend) => {
  const decoder = createDecoder(backend, smallConfig(EXPERT_CHOICE), { trainable: true });

  it("is refused by generation with the reason", async () => {
    const generation = generate(backend, decoder, [1, 2, 3], { maxTokens: 3, sampling: { temperature: 0 } });
    await expect(generation.next()).rejects.toThrow(
      new ConfigError(
        'cache: a model whose routing is "expert_choice" can not read token by token: which experts serve a token ' +
          "depends on those after it",
        { hint: 'score whole sequences with it; to generate, train with model.routing "token_choice"' },
      ),
    );
  });

  it("scores whole sequences, the same each time", () => {
    const scores = tokenLogProbs(backend, decoder, IDS);
    expect(scores.length).toBe(19);
    expect(scores.every((score) => score < 0 && Number.isFinite(score))).toBe(true);
    expect(tokenLogProbs(backend, decoder, IDS)).toEqual(scores);
  });

  it("is laid open with -1 where a slot holds no expert, and a total loss without the balance loss", () => {
    const results = inspectForward(backend, decoder, { batch: 2, inputIds: IDS, labels: IDS, gradients: true });
    const named = (name: string) => results.find((result) => result.name === name);
    const experts = named("layers.0.selected_experts");
    expect(experts?.shape).toEqual([20, 8]);
    // floor(2 * 10 / 8) = 2 tokens of each of two sequences for each expert.
    expect([...(experts?.data ?? [])].filter((id) => id === -1).length).toBe(160 - 32);
    expect([...(named("layers.0.routing_weights")?.data ?? [])].filter((weight) => weight === 0).length).toBe(128);
    expect(named("loss.total")?.data).toEqual(named("loss.ce")?.data);
    const router = named("grad.model.layers.0.mlp.gate.weight")?.data ?? new Float32Array();
    expect(router.length).toBe(8 * 32);
    expect(router.every(Number.isFinite) && router.some((value) => value !== 0)).toBe(true);
  });
});

it.each(gradientBackends)(
  "on %s, a model with a capacity factor generates what it would without one",
  async (_, backend) => {
    const written = async (model: object) => {
      const decoder = createDecoder(backend, smallConfig(model));
      const ids: number[] = [];
      for await (const id of generate(backend, decoder, IDS, { maxTokens: 12, sampling: { temperature: 0 } }))
        ids.push(id);
      return ids;
    };
    expect(await written({ expertCapacityFactor: 0.5 })).toEqual(await written({}));
  },
);
