/** Whole models with each routing: gradients of every parameter, and what holds of a pass. */
import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { expectAgreement, gradientBackends } from "../../test/gradients.ts";
import { allBackends, createCache, createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import { checkGradients } from "../autograd/gradientCheck.ts";
import type { Graph } from "../autograd/graph.ts";
import { linearCrossEntropy } from "../autograd/ops/crossEntropy.ts";
import { resolveModel } from "../config/presets.ts";
import { ConfigError } from "../errors.ts";
import { applyRouterLosses } from "../nn/routerLosses.ts";
import { PagePool } from "./cache.ts";
import { parameterSpecs } from "./parameters.ts";

const EXPERT_CHOICE = { routing: "expert_choice" };
const VOCABULARY = 50;
const randomIds = (count: number) => [...new Draw(6).ints(count, 0, VOCABULARY - 1)];

/** As in gradients.test.ts: narrow, with weights of order 1, and the tolerance that rounding leaves. */
const REDUCED = {
  preset: "tiny",
  vocabSize: 7,
  hiddenSize: 8,
  intermediateSize: 3,
  numAttentionHeads: 2,
  numExperts: 4,
  initializerRange: 0.5,
  rmsNormEps: 1e-2,
};
const TOLERANCE = 3e-3;
/** One at which no step of a weight goes so far that another expert or token is chosen. */
const SEED = 9;
const [BATCH, LENGTH] = [2, 4];
const TOKENS = BATCH * LENGTH;

describe.each(gradientBackends)("the gradients of a whole model on %s agree with central differences", (_, backend) => {
  it.each([
    { name: "softmax after top-k", model: { softmaxAfterTopk: true }, balance: 0.5 },
    { name: "dropped slots", model: { expertCapacityFactor: 0.5 }, balance: 0.5 },
    {
      name: "dropped slots, renormalised",
      model: { expertCapacityFactor: 0.75, normTopkProb: true },
      balance: 0,
    },
    { name: "expert choice by sequence", model: EXPERT_CHOICE, balance: 0 },
    { name: "expert choice by batch", model: { ...EXPERT_CHOICE, expertChoiceScope: "batch" }, balance: 0 },
  ])("with $name", ({ model, balance }) => {
    const config = resolveModel({ ...REDUCED, ...model });
    const decoder = createDecoder(backend, config, { trainable: true, seed: SEED });
    const draw = new Draw(SEED);
    const [ids, labels] = [draw.ints(TOKENS, 0, config.vocabSize - 1), draw.ints(TOKENS, 0, config.vocabSize - 1)];
    const loss = (graph: Graph) => {
      const { hidden, routings } = decoder.forward(graph, ids, { batch: BATCH, dropTokens: true });
      const output = decoder.outputWeight;
      const losses = linearCrossEntropy(graph, hidden, output, graph.ids(labels), { scale: 1 / TOKENS });
      const router = applyRouterLosses(graph, routings, { balance, z: 0.1 });
      const nats = losses.data.reduce((sum, value) => sum + value, 0);
      return nats / TOKENS + balance * router.balance + 0.1 * router.z;
    };
    const parameters = parameterSpecs(config).map(({ name }) => [name, decoder.parameters.get(name)]);
    expectAgreement(checkGradients(backend, Object.fromEntries(parameters), loss), TOLERANCE);
  });
});

describe.each(allBackends)("a decoder on %s", (_, backend) => {
  it.each([EXPERT_CHOICE, { expertCapacityFactor: 0.5 }, { softmaxAfterTopk: true }])(
    "gives the sequences of a batch the bits that they have alone, %j",
    (changes) => {
      const decoder = createDecoder(backend, smallConfig(changes));
      const ids = randomIds(3 * 17);
      const together = logitsOf(backend, decoder, ids, { batch: 3 });
      const alone = [0, 1, 2].flatMap((row) => [...logitsOf(backend, decoder, ids.slice(row * 17, (row + 1) * 17))]);
      expect(together).toEqual(Float32Array.from(alone));
    },
  );

  it.each([{ expertCapacityFactor: 0.5 }, { softmaxAfterTopk: true }])(
    "gives the same bits with a cache as without, %j",
    (changes) => {
      const decoder = createDecoder(backend, smallConfig(changes));
      const ids = randomIds(12);
      const cache = createCache(backend, decoder, 12);
      const pieces = [ids.slice(0, 9), ids.slice(9, 10), ids.slice(10)];
      const inPieces = pieces.flatMap((piece) => [
        ...logitsOf(backend, decoder, piece, { sequences: [{ tokens: piece.length, cache }] }),
      ]);
      expect(Float32Array.from(inPieces)).toEqual(logitsOf(backend, decoder, ids));
    },
  );

  it("sees later tokens where experts choose: their choice depends on all of the sequence", () => {
    const decoder = createDecoder(backend, smallConfig(EXPERT_CHOICE));
    const ids = randomIds(30);
    const start = (values: number[]) => logitsOf(backend, decoder, values).subarray(0, 29 * VOCABULARY);
    expect(start(ids.with(29, ((ids[29] as number) + 1) % VOCABULARY))).not.toEqual(start(ids));
  });

  it("shows an observer which experts serve a token, and -1 where none does", () => {
    const decoder = createDecoder(backend, smallConfig(EXPERT_CHOICE));
    const seen: string[] = [];
    logitsOf(backend, decoder, randomIds(20), {
      batch: 2,
      observe: {
        routing(layer, { expertIds, expertWeights, probs }) {
          const [ids, weights] = [[...expertIds.data], [...expertWeights.value.data]];
          // floor(2 * 10 / 8) = 2 tokens of each sequence for each of 8 experts.
          seen.push(
            `${layer} [${expertIds.shape}] [${expertWeights.value.shape}] ${ids.filter((id) => id >= 0).length}`,
          );
          expect(ids.every((id, slot) => id === -1 || id === slot % 8)).toBe(true);
          expect(weights).toEqual([...probs.data].map((p, slot) => ((ids[slot] as number) < 0 ? 0 : p)));
        },
      },
    });
    expect(seen).toEqual(["0 [20,8] [20,8] 32", "1 [20,8] [20,8] 32"]);
  });
});

it("a cache refuses a model whose experts choose, before it takes memory", () => {
  const [, backend] = allBackends.at(-1) as (typeof allBackends)[number];
  const fault = new ConfigError(
    'cache: a model whose routing is "expert_choice" can not read token by token: which experts serve a token depends ' +
      "on those after it",
    { hint: 'score whole sequences with it; to generate, train with model.routing "token_choice"' },
  );
  expect(() => new PagePool(backend, smallConfig(EXPERT_CHOICE), { pages: 2 ** 40, type: "f32" })).toThrow(fault);
});
