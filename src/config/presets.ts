/** Named model sizes, and how a recipe's model (a preset with changes) becomes a complete config. */
import { closest } from "fastest-levenshtein";
import { ConfigError } from "../errors.ts";
import { type ModelConfig, type ModelConfigInput, parseModelConfig } from "./model.ts";

/** The released model: OLMoE paper (arXiv 2409.02060), table 10. */
const RELEASED = {
  vocabSize: 50_304,
  hiddenSize: 2048,
  numHiddenLayers: 16,
  numAttentionHeads: 16,
  numKeyValueHeads: 16,
  maxPositionEmbeddings: 4096,
  eosTokenId: 50_279,
  padTokenId: 1,
} as const;

const NANO = {
  vocabSize: 4096,
  hiddenSize: 128,
  numHiddenLayers: 4,
  numAttentionHeads: 4,
  numKeyValueHeads: 4,
  maxPositionEmbeddings: 256,
} as const;

/**
 * Counts are of all parameters, both embeddings included / of those one token passes through. A dense preset has one
 * MLP as wide as the experts that one token of its twin uses.
 */
export const PRESETS = {
  /** 66,336 / 47,904: for tests. */
  tiny: {
    vocabSize: 512,
    hiddenSize: 32,
    intermediateSize: 16,
    numHiddenLayers: 2,
    numAttentionHeads: 2,
    numKeyValueHeads: 2,
    numExperts: 8,
    numExpertsPerTok: 2,
    maxPositionEmbeddings: 64,
  },
  /** 4,475,008 / 1,722,496: the quickstart's model, trained in minutes. */
  nano: { ...NANO, intermediateSize: 64, numExperts: 32, numExpertsPerTok: 4 },
  /** 1,706,112: nano's dense twin. */
  "nano-dense": { ...NANO, intermediateSize: 256, mlpType: "dense" },
  /** 56,762,624 / 12,722,432: the size the benchmarks use. */
  small: {
    vocabSize: 8192,
    hiddenSize: 256,
    intermediateSize: 128,
    numHiddenLayers: 8,
    numAttentionHeads: 4,
    numKeyValueHeads: 4,
    numExperts: 64,
    numExpertsPerTok: 8,
    maxPositionEmbeddings: 1024,
  },
  /** 130,756,992 / 31,666,560. */
  compact: {
    vocabSize: 16_384,
    hiddenSize: 384,
    intermediateSize: 192,
    numHiddenLayers: 8,
    numAttentionHeads: 6,
    numKeyValueHeads: 6,
    numExperts: 64,
    numExpertsPerTok: 8,
    maxPositionEmbeddings: 2048,
  },
  /** 226,771,456 / 50,610,688. */
  medium: {
    vocabSize: 16_384,
    hiddenSize: 512,
    intermediateSize: 256,
    numHiddenLayers: 8,
    numAttentionHeads: 8,
    numKeyValueHeads: 8,
    numExperts: 64,
    numExpertsPerTok: 8,
    maxPositionEmbeddings: 2048,
  },
  /** 6,919,161,856 / 1,282,017,280: OLMoE-1B-7B-0924 as released. */
  "olmoe-1b-7b": { ...RELEASED, intermediateSize: 1024, numExperts: 64, numExpertsPerTok: 8 },
  /** 1,279,920,128: the paper's dense comparison, one SwiGLU of 8,192. */
  "olmoe-1b-7b-dense": { ...RELEASED, intermediateSize: 8192, mlpType: "dense" },
} as const satisfies Readonly<Record<string, ModelConfigInput>>;

export type PresetName = keyof typeof PRESETS;

export const presetNames = Object.keys(PRESETS) as readonly PresetName[];

function isPreset(name: string): name is PresetName {
  return Object.hasOwn(PRESETS, name);
}

/** What a tokenizer says about the model it is for. */
export interface TokenizerFacts {
  /** Entries, and so the least rows the embedding may have. */
  readonly vocabSize?: number | undefined;
  readonly eosTokenId?: number | null | undefined;
  readonly padTokenId?: number | null | undefined;
}

/**
 * Completes a recipe's model. What the recipe gives comes first, then the tokenizer's facts, then the preset, then the
 * defaults of a model config.
 *
 * @param model fields of a model config, and the name of a preset that they change; without one, a whole config.
 * @throws ConfigError for an unknown preset, for every fault of the result, and for fewer embedding rows than the
 *   tokenizer has entries.
 */
export function resolveModel(
  model: Readonly<Record<string, unknown>> & { readonly preset?: string | undefined },
  tokenizer: TokenizerFacts = {},
): ModelConfig {
  const { preset, ...overrides } = model;
  if (preset !== undefined && !isPreset(preset)) {
    throw new ConfigError(
      `model.preset: unknown preset "${preset}", did you mean "${closest(preset, [...presetNames])}"?`,
      {
        hint: `presets are ${presetNames.join(", ")}`,
      },
    );
  }
  const facts = Object.entries(tokenizer).filter(([, value]) => value !== undefined);
  const merged = { ...(preset === undefined ? {} : PRESETS[preset]), ...Object.fromEntries(facts), ...overrides };
  const config = parseModelConfig(merged, "model");
  if (config.vocabSize < (tokenizer.vocabSize ?? 0)) {
    throw new ConfigError(
      `model.vocabSize: ${config.vocabSize}, must be at least the tokenizer's entries (${tokenizer.vocabSize})`,
      { hint: "leave vocabSize out to take the tokenizer's" },
    );
  }
  return config;
}
