import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { checkInterventions, type InterventionInput, parseInterventionFile } from "./intervention.ts";
import { resolveModel } from "./presets.ts";

const SIZES = { preset: "tiny", numHiddenLayers: 4, numExperts: 4, numExpertsPerTok: 2 };
const check = (interventions: readonly unknown[], changes: object = {}) =>
  checkInterventions(interventions as InterventionInput[], resolveModel({ ...SIZES, ...changes }), "f.json");
const KINDS =
  "'mask' | 'force' | 'bias' | 'scale' | 'top_k' | 'temperature' | 'swap' | 'random' | 'uniform' | 'replay'";
const route = (changes: object = {}) => ({
  layers: [0],
  positions: 2,
  slots: 2,
  experts: Int16Array.of(0, 1, 2, -1),
  ...changes,
});

/** The lines of an error: one for a single fault, else the count and one for each. */
function faults(...lines: readonly string[]): ConfigError {
  const listed = lines.map((line) => `  - interventions.${line}`).join("\n");
  const text = lines.length === 1 ? `interventions.${lines[0]}` : `${lines.length} faults\n${listed}`;
  return new ConfigError(`f.json: ${text}`);
}

it("fills in defaults: all layers, all tokens", () => {
  const everywhere = { layers: "all", tokens: { from: 0 } };
  expect(
    check([
      { kind: "mask", experts: [3] },
      { kind: "force", experts: [1], layers: [2], tokens: { to: 5 } },
      { kind: "random" },
      { kind: "replay", trace: route() },
    ]),
  ).toEqual([
    { kind: "mask", experts: [3], ...everywhere },
    { kind: "force", experts: [1], layers: [2], tokens: { from: 0, to: 5 } },
    { kind: "random", seed: 0, ...everywhere },
    { kind: "replay", trace: route(), ...everywhere },
  ]);
  expect(check([])).toEqual([]);
});

it("reads a file, in which a replay names its trace", () => {
  const everywhere = { layers: "all", tokens: { from: 0 } };
  expect(
    parseInterventionFile({ interventions: [{ kind: "replay", trace: "a.trace" }, { kind: "uniform" }] }, "f.json"),
  ).toEqual([
    { kind: "replay", trace: "a.trace", sequence: 0, weights: "own", ...everywhere },
    { kind: "uniform", ...everywhere },
  ]);
});

describe("refuses, with every fault listed,", () => {
  it.each<[string, readonly unknown[], readonly string[]]>([
    [
      "layers that are not there",
      [
        { kind: "uniform", layers: [1, 99] },
        { kind: "top_k", k: 1, layers: [4] },
      ],
      ["0.layers.1: 99, the model has layers 0..3", "1.layers.0: 4, the model has layers 0..3"],
    ],
    [
      "experts that are not there",
      [
        { kind: "bias", experts: [4], value: 1 },
        { kind: "swap", experts: [0, 64] },
      ],
      ["0.experts.0: 4, the model has experts 0..3", "1.experts.1: 64, the model has experts 0..3"],
    ],
    [
      "no expert left",
      [{ kind: "mask", experts: [0, 1, 2, 3] }],
      ["0.experts: masks the last of 4 experts of layer 0, one must be left"],
    ],
    [
      "no expert left at some positions of one layer",
      [
        { kind: "mask", experts: [0, 1], tokens: { from: 3, to: 9 } },
        { kind: "mask", experts: [2, 3], layers: [2], tokens: { from: 8 } },
      ],
      ["1.experts: masks the last of 4 experts of layer 2, one must be left"],
    ],
    ["more experts than there are", [{ kind: "top_k", k: 5 }], ["0.k: 5, the model has 4 experts in a layer"]],
    [
      "more forced experts than a token has",
      [
        { kind: "force", experts: [0, 1] },
        { kind: "force", experts: [2], layers: [3] },
      ],
      ["1.experts: makes 3 forced experts of layer 3, a token has 2"],
    ],
    [
      "forced experts that are masked",
      [
        { kind: "mask", experts: [1] },
        { kind: "force", experts: [1] },
      ],
      ["1.experts: 1, is masked in layer 0"],
    ],
    [
      "an expert that changes places with itself",
      [{ kind: "swap", experts: [2, 2] }],
      ["0.experts: 2 twice, expected two experts"],
    ],
    [
      "empty ranges",
      [
        { kind: "uniform", tokens: { from: 5, to: 5 } },
        { kind: "uniform", tokens: { to: 0 } },
      ],
      ["1.tokens.to: 0, expected number to be >=1", "0.tokens.to: 5, must be above from (5): the range is empty"],
    ],
    [
      "unknown keys and kinds",
      [{ kind: "mask", experts: [0], layer: [1] }, { kind: "masks", experts: [0] }, {}],
      [
        '0.layer: unknown key, did you mean "layers"?',
        `1.kind: "masks", expected one of ${KINDS}, did you mean "mask"?`,
        `2.kind: missing, expected one of ${KINDS}`,
      ],
    ],
    [
      "numbers that are none",
      [
        { kind: "bias", experts: [0], value: Number.NaN },
        { kind: "scale", experts: [0], factor: Number.POSITIVE_INFINITY },
        { kind: "temperature", value: 0 },
        { kind: "force", experts: [0], weight: -1e300 },
      ],
      [
        "0.value: NaN, expected number, received NaN",
        "1.factor: Infinity, expected number, received Infinity",
        "2.value: 0, expected number to be >=0.000001",
        "3.weight: -1e+300, expected number to be >=-1000000",
      ],
    ],
    [
      "experts named twice, or none",
      [
        { kind: "mask", experts: [1, 1] },
        { kind: "mask", experts: [] },
      ],
      ["0.experts.1: 1, is in the list already", "1.experts: [], expected array to have >=1 items"],
    ],
    [
      "layers that are no list",
      [
        { kind: "uniform", layers: 3 },
        { kind: "uniform", layers: [0.5] },
        { kind: "uniform", layers: [] },
      ],
      [
        '0.layers: 3, expected "all" or a list of layers',
        '1.layers: [0.5], expected "all" or a list of layers',
        "2.layers: [], expected array to have >=1 items",
      ],
    ],
    [
      "recorded routes of another shape",
      [
        { kind: "replay", trace: route({ experts: Int16Array.of(0, 1, 2) }) },
        { kind: "replay", trace: route({ layers: [7], weights: Float32Array.of(1, 1, 1, Number.NaN) }) },
        { kind: "replay", trace: route({ experts: Int16Array.of(0, 1, 2, 4) }) },
        { kind: "replay", trace: route({ experts: Int16Array.of(0, 1, 2, 2) }) },
        { kind: "replay", trace: route({ slots: 5, positions: 1, experts: Int16Array.of(0, 1, 2, 3, -1) }) },
      ],
      [
        "0.trace.experts: 3 of them, expected 4",
        "1.trace.layers: 7, the layers with experts are 0, 1, 2, 3",
        "1.trace.weights: NaN or infinite, expected numbers",
        "2.trace.experts: 4 at position 1, expected different ones of 0..3, or -1 for none",
        "3.trace.experts: 2 twice at position 1, expected different ones of 0..3, or -1 for none",
        "4.trace.slots: 5, the model has 4 experts in a layer",
      ],
    ],
  ])("%s", (_, interventions, lines) => {
    expect(() => check(interventions)).toThrow(faults(...lines));
  });

  it.each([
    [{ decoderSparseStep: 2 }, "0.layers.0: 0, a layer without experts; those with are 1, 3"],
    [
      { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 },
      "the model has no experts, there is no routing to change",
    ],
    [
      { routing: "expert_choice" },
      'the model\'s experts choose their tokens (routing "expert_choice"), expected "token_choice"',
    ],
  ])("what a model of another kind can not do: %j", (changes, line) => {
    const place = line.startsWith("0") ? "interventions." : "interventions: ";
    expect(() => check([{ kind: "uniform", layers: [0] }], changes)).toThrow(
      new ConfigError(`f.json: ${place}${line}`),
    );
  });

  it.each([
    [
      {
        interventions: [
          { kind: "replay", trace: "", sequence: -1 },
          { kind: "swap", experts: [1] },
        ],
      },
      '3 faults\n  - interventions.0.trace: "", expected string to have >=1 characters\n  - interventions.0.sequence: -1, expected number to be >=0\n  - interventions.1.experts: [1], expected two experts',
    ],
    [
      { intervention: [] },
      '2 faults\n  - interventions: missing, expected array\n  - intervention: unknown key, did you mean "interventions"?',
    ],
    [[], "(root): [], expected object, received array"],
    [
      { interventions: [{ kind: "uniform", tokens: { from: 4, to: 2 } }] },
      "interventions.0.tokens.to: 2, must be above from (4): the range is empty",
    ],
  ])("what is no file of interventions: %j", (value, line) => {
    expect(() => parseInterventionFile(value, "f.json")).toThrow(new ConfigError(`f.json: ${line}`));
  });
});

it("refuses more interventions than can be checked together, and takes long lists of experts in its stride", () => {
  expect(() => check(new Array(257).fill({ kind: "uniform" }))).toThrow(
    /^f.json: interventions: .*, expected array to have <=256 items$/,
  );
  const experts = Array.from({ length: 200_000 }, (_, expert) => expert);
  expect(() => check([{ kind: "mask", experts: [...experts, 0] }])).toThrow(
    /experts.200000: 0, is in the list already/,
  );
});

it("answers anything with interventions or with a ConfigError", () => {
  const kinds = [
    "mask",
    "force",
    "bias",
    "scale",
    "top_k",
    "temperature",
    "swap",
    "random",
    "uniform",
    "replay",
    "none",
  ];
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom(-1, 0, 1, 3, 99, 0.5, 1e300, Number.NaN, "all"),
    fc.array(fc.integer({ min: -1, max: 5 }), { maxLength: 5 }),
    fc.record({ from: fc.integer({ min: -1, max: 3 }), to: fc.integer({ min: -1, max: 3 }) }, { requiredKeys: [] }),
  );
  const keys = ["layers", "tokens", "experts", "value", "factor", "k", "weight", "seed", "trace", "x"];
  const one = fc
    .tuple(fc.constantFrom(...kinds), fc.dictionary(fc.constantFrom(...keys), value, { maxKeys: 4 }))
    .map(([kind, rest]) => ({ kind, ...rest }));
  const attempt = (read: () => readonly { readonly kind: string }[]) => {
    try {
      return read().every(({ kind }) => kinds.includes(kind));
    } catch (error) {
      return error instanceof ConfigError;
    }
  };
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 9, arbitrary: one }, { weight: 1, arbitrary: value }), { maxLength: 4 }),
      (list) => {
        expect(attempt(() => check(list))).toBe(true);
        expect(attempt(() => parseInterventionFile({ interventions: list }, "f.json"))).toBe(true);
      },
    ),
    { seed: 7, numRuns: 500 },
  );
});
