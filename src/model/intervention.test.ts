/** Laws of interventions in a whole forward pass. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { anyInterventions } from "../../test/interventions.ts";
import { allBackends, createCache, createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import type { Routing } from "../autograd/ops/moe.ts";
import type { Backend } from "../backend/backend.ts";
import type { InterventionInput, RecordedRoute } from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import { ShapeError } from "../errors.ts";
import { InterventionPlan } from "../nn/intervention.ts";
import { Decoder, type ForwardOptions } from "./decoder.ts";
import { Parameters } from "./parameters.ts";

const config = smallConfig({ numHiddenLayers: 2, numExperts: 6, numExpertsPerTok: 2 });
const TOKENS = 12;
const IDS = Array.from({ length: TOKENS }, (_, index) => (index * 7) % 50);
const LAYERS = [0, 1];

function planOf(interventions: readonly InterventionInput[], model: ModelConfig = config): InterventionPlan {
  return new InterventionPlan(interventions, model);
}

/** The experts and weights of a pass, as a trace has them. */
function recorded(backend: Backend, decoder: Decoder, options: ForwardOptions = {}): RecordedRoute {
  const [experts, weights]: [number[], number[]] = [[], []];
  let slots = 0;
  const observe: ForwardOptions["observe"] = {
    routing: (_, { expertIds, expertWeights }) => {
      slots = expertIds.dim(1);
      experts.push(...expertIds.data);
      weights.push(...expertWeights.value.data);
    },
  };
  logitsOf(backend, decoder, IDS, { ...options, observe });
  const arrays = { experts: Int16Array.from(experts), weights: Float32Array.from(weights) };
  return { layers: LAYERS, positions: TOKENS, slots, ...arrays };
}

/** The model without one expert in any layer. */
function withoutExpert(backend: Backend, decoder: Decoder, expert: number): Decoder {
  const parameters = new Parameters(backend, { ...config, numExperts: config.numExperts - 1 }, { trainable: false });
  const whole = new Map(decoder.parameters.tensors().map(({ name, data }) => [name, data]));
  const width = config.hiddenSize;
  for (const { name, data } of parameters.tensors()) {
    const from = name.replace(
      /experts[.](\d+)/,
      (_, e: string) => `experts.${Number(e) + (Number(e) >= expert ? 1 : 0)}`,
    );
    const source = whole.get(from) as Float32Array;
    const kept = source.length === data.length ? source : source.filter((_, i) => Math.floor(i / width) !== expert);
    data.set(kept);
  }
  return new Decoder(backend, parameters);
}

describe.each(allBackends)("on %s", (_, backend) => {
  const decoder = createDecoder(backend, config);
  const renormalising = createDecoder(backend, { ...config, normTopkProb: true });
  const under = (interventions: readonly InterventionInput[], options: ForwardOptions = {}, model = decoder) =>
    logitsOf(backend, model, IDS, { interventions: [planOf(interventions, model.config)], ...options });

  it.each([
    ["plain weights", decoder],
    ["renormalised weights", renormalising],
  ])("what changes nothing changes no bit: %s", (_name, model) => {
    const plain = logitsOf(backend, model, IDS);
    const idle: readonly (readonly InterventionInput[])[] = [
      [],
      [{ kind: "bias", experts: [0, 3], value: 0 }],
      [{ kind: "temperature", value: 1 }],
      [{ kind: "scale", experts: [0, 1, 2], factor: 1 }],
      [{ kind: "top_k", k: 2 }],
      [
        { kind: "swap", experts: [1, 4] },
        { kind: "swap", experts: [4, 1] },
      ],
      [{ kind: "mask", experts: [2], tokens: { from: TOKENS } }],
      [{ kind: "top_k", k: 5, tokens: { from: TOKENS } }],
    ];
    for (const interventions of idle) expect(under(interventions, {}, model)).toEqual(plain);
    expect(under([{ kind: "mask", experts: [2] }], {}, model)).not.toEqual(plain);
  });

  it.each([
    ["plain weights", decoder],
    ["renormalised weights", renormalising],
  ])("a replay of its own trace changes no bit: %s", (_name, model) => {
    const plain = logitsOf(backend, model, IDS);
    const { weights, ...own } = recorded(backend, model);
    expect(under([{ kind: "replay", trace: own }], {}, model)).toEqual(plain);
    expect(under([{ kind: "replay", trace: { ...own, weights } }], {}, model)).toEqual(plain);
  });

  it("a replay with recorded weights of any interventions gives what they gave", () => {
    const interventions: readonly InterventionInput[] = [
      { kind: "mask", experts: [1], layers: [0] },
      { kind: "top_k", k: 3, tokens: { from: 2, to: 7 } },
      { kind: "random", seed: 3, layers: [1], tokens: { from: 4 } },
      { kind: "scale", experts: [0], factor: 0.5 },
    ];
    const trace = recorded(backend, decoder, { interventions: [planOf(interventions)] });
    expect(trace.slots).toBe(3);
    expect(under([{ kind: "replay", trace }])).toEqual(under(interventions));
  });

  it("another number of experts is a model with that number, bit for bit", () => {
    for (const numExpertsPerTok of [1, 4]) {
      for (const model of [decoder, renormalising]) {
        const other = new Decoder(backend, model.parameters);
        Object.assign(other, { config: { ...model.config, numExpertsPerTok } });
        const interventions: readonly InterventionInput[] = [{ kind: "top_k", k: numExpertsPerTok }];
        expect(under(interventions, {}, model)).toEqual(logitsOf(backend, other, IDS));
      }
    }
  });

  it("a masked expert is as good as deleted", () => {
    for (const expert of [0, 3, 5]) {
      const masked = under([{ kind: "mask", experts: [expert] }]);
      const deleted = logitsOf(backend, withoutExpert(backend, decoder, expert), IDS);
      // The softmax adds up probabilities in the lanes of a vector: without one of them others are added first.
      expect(masked).toBeAllClose(deleted, { atol: 2e-5 });
      if (expert === 5) expect(masked).toEqual(deleted);
    }
  });

  it("a swap is a model whose experts are exchanged, and whose router is not", () => {
    const exchanged = createDecoder(backend, config);
    const tensors = new Map(exchanged.parameters.tensors().map(({ name, data }) => [name, data]));
    for (const [name, data] of tensors) {
      if (!name.includes("experts.1.")) continue;
      const other = tensors.get(name.replace("experts.1.", "experts.4.")) as Float32Array;
      const kept = data.slice();
      data.set(other);
      other.set(kept);
    }
    expect(under([{ kind: "swap", experts: [4, 1] }])).toEqual(logitsOf(backend, exchanged, IDS));
  });

  it("neighbours in a batch keep their bits, and each sequence has its own interventions", () => {
    const interventions: readonly InterventionInput[] = [
      { kind: "top_k", k: 5 },
      { kind: "mask", experts: [1] },
    ];
    const plans = [undefined, planOf(interventions), planOf([{ kind: "random", seed: 2 }])];
    const rows = logitsOf(backend, decoder, [...IDS, ...IDS, ...IDS], { batch: 3, interventions: plans });
    const size = TOKENS * config.vocabSize;
    const [a, b, c] = [0, 1, 2].map((sequence) => rows.slice(sequence * size, (sequence + 1) * size));
    expect(a).toEqual(logitsOf(backend, decoder, IDS));
    expect(b).toEqual(under(interventions));
    expect(c).toEqual(under([{ kind: "random", seed: 2 }]));
  });

  it("any interventions give the same with a cache, read in pieces", () => {
    fc.assert(
      fc.property(anyInterventions(config, TOKENS), fc.integer({ min: 1, max: TOKENS - 1 }), (interventions, cut) => {
        const plan = planOf(interventions);
        const cache = createCache(backend, decoder, TOKENS);
        const read = (ids: readonly number[]) =>
          logitsOf(backend, decoder, ids, {
            sequences: [{ tokens: ids.length, cache }],
            interventions: [plan],
          });
        const pieces = [...read(IDS.slice(0, cut)), ...read(IDS.slice(cut))];
        cache.pool.dispose();
        expect(Float32Array.from(pieces)).toEqual(under(interventions));
      }),
      { seed: 5, numRuns: 12 },
    );
  });

  it("what is not a number stays so, and every token has experts all the same", () => {
    const broken = createDecoder(backend, config);
    broken.parameters.get("model.layers.0.mlp.gate.weight").value.data.fill(Number.NaN);
    const interventions: readonly InterventionInput[] = [
      { kind: "mask", experts: [0] },
      { kind: "force", experts: [4] },
      { kind: "top_k", k: 3 },
      { kind: "uniform" },
    ];
    const ids: number[] = [];
    const observe = { routing: (_layer: number, { expertIds }: Routing) => void ids.push(...expertIds.data) };
    const logits = under(interventions, { observe }, broken);
    expect([logits.every(Number.isNaN), ids.length]).toEqual([true, 2 * 3 * TOKENS]);
    expect(ids.every((expert) => expert >= -1 && expert < 6)).toBe(true);
  });

  it("refuses plans that are not one for each sequence, and what it can not do with them", () => {
    const interventions = [planOf([{ kind: "uniform" }])];
    expect(() => logitsOf(backend, decoder, IDS, { batch: 2, interventions })).toThrow(
      new ShapeError("forward: interventions for 1 sequences, there are 2"),
    );
    expect(() => logitsOf(backend, decoder, IDS, { dropTokens: true, interventions })).toThrow(
      new ShapeError("forward: dropTokens can not be given with interventions"),
    );
  });
});
