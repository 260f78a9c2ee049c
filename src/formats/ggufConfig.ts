/**
 * Model configs in GGUF's metadata, both ways. GGUF's "olmoe" holds what `OlmoeForCausalLM` computes, without clipping and
 * with router weights as the softmax gives them: llama.cpp computes nothing else under that name.
 * Source of keys: llama.cpp, its conversion script and gguf-py/gguf/constants.py.
 */
import { type ModelConfig, parseModelConfig } from "../config/model.ts";
import { variantChoices } from "../config/variant.ts";
import { CheckpointError, UnsupportedError } from "../errors.ts";
import type { GgufTensorInfo, GgufValue } from "./gguf.ts";
import { EMBEDDING, OUTPUT } from "./ggufNames.ts";
import { quoted } from "./json.ts";

const ARCHITECTURE = "olmoe";

/** A table of rotary angles is made for every position: a context beyond this is taken for damage. */
const MAX_CONTEXT = 2 ** 20;

type Metadata = ReadonlyMap<string, GgufValue>;

/** Keys that must be there, as whole numbers. */
const COUNTS = {
  numHiddenLayers: "block_count",
  maxPositionEmbeddings: "context_length",
  hiddenSize: "embedding_length",
  intermediateSize: "feed_forward_length",
  numAttentionHeads: "attention.head_count",
  numExperts: "expert_count",
  numExpertsPerTok: "expert_used_count",
} as const;

/** Reads typed values and collects what is wrong with them. */
class Reader {
  readonly faults: string[] = [];
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  /** A number, or undefined where it is absent or no single finite number. */
  number(key: string): number | undefined {
    const found = this.#metadata.get(key);
    if (found === undefined) return undefined;
    const value = typeof found.value === "bigint" ? Number(found.value) : found.value;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    const shown = typeof value === "number" ? String(value) : found.type === "ARRAY" ? "an array" : quoted(value);
    this.faults.push(`${key}: ${shown}, expected a number`);
    return undefined;
  }

  count(key: string): number {
    const value = this.number(key);
    if (value !== undefined && Number.isSafeInteger(value) && value >= 1) return value;
    if (value !== undefined) this.faults.push(`${key}: ${value}, expected a whole number from 1 on`);
    else if (!this.#metadata.has(key)) this.faults.push(`${key}: missing`);
    return 1;
  }

  /** What is computed in one way only: the key may be absent or have this value. */
  only(key: string, allowed: readonly (number | boolean | string)[], why: string): void {
    const value = this.#metadata.get(key)?.value;
    if (value === undefined || allowed.some((one) => one === value)) return;
    this.faults.push(`${key}: ${typeof value === "object" ? "an array" : String(value)}, ${why}`);
  }
}

/** Fields of the model as the metadata has them. */
function readFields(reader: Reader, metadata: Metadata, tensors: ReadonlyMap<string, GgufTensorInfo>) {
  const key = (name: string) => `${ARCHITECTURE}.${name}`;
  const entries = Object.entries(COUNTS).map(([field, name]) => [field, reader.count(key(name))] as const);
  const counts = Object.fromEntries(entries) as Record<keyof typeof COUNTS, number>;
  if (counts.numHiddenLayers > tensors.size) {
    reader.faults.push(`${key("block_count")}: ${counts.numHiddenLayers}, the file has ${tensors.size} tensors in all`);
  }
  if (counts.maxPositionEmbeddings > MAX_CONTEXT) {
    reader.faults.push(`${key("context_length")}: ${counts.maxPositionEmbeddings}, at most ${MAX_CONTEXT} are read`);
  }
  const epsilonKey = key("attention.layer_norm_rms_epsilon");
  const epsilon = reader.number(epsilonKey);
  if (!metadata.has(epsilonKey)) reader.faults.push(`${epsilonKey}: missing`);
  const head = counts.hiddenSize / counts.numAttentionHeads;
  for (const name of ["rope.dimension_count", "attention.key_length", "attention.value_length"]) {
    reader.only(key(name), [head], `expected the width of a head (${head})`);
  }
  reader.only(key("rope.scaling.type"), ["none"], "scaled rotary positions are not read");
  reader.only(key("expert_shared_count"), [0], "shared experts are not part of this architecture");
  reader.only(key("expert_weights_norm"), [false], "router weights are not divided by their sum in this architecture");
  reader.only(key("expert_weights_scale"), [0, 1], "router weights are not scaled in this architecture");
  reader.only(key("expert_gating_func"), [1], "expected 1 (softmax)");
  reader.only(key("attention.clamp_kqv"), [0], "nothing is clipped in this architecture");
  const rows = tensors.get(EMBEDDING)?.shape[0];
  const tokens = metadata.get("tokenizer.ggml.tokens");
  return {
    ...counts,
    numKeyValueHeads: metadata.has(key("attention.head_count_kv"))
      ? reader.count(key("attention.head_count_kv"))
      : counts.numAttentionHeads,
    ropeTheta: shortDecimal(reader.number(key("rope.freq_base")) ?? 10_000),
    rmsNormEps: shortDecimal(epsilon ?? 1),
    vocabSize: rows ?? (tokens?.type === "ARRAY" ? Math.max(1, tokens.value.length) : 1),
    tieWordEmbeddings: !tensors.has(OUTPUT),
    eosTokenId: reader.number("tokenizer.ggml.eos_token_id") ?? null,
    padTokenId: reader.number("tokenizer.ggml.padding_token_id") ?? null,
  };
}

/** The shortest decimal number that is this one as f32: 1e-5, not 0.000009999999747378752. */
function shortDecimal(value: number): number {
  for (let digits = 1; digits <= 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}

/**
 * The config of a file.
 * @param tensors tell the rows of the vocabulary and whether input and output are one matrix.
 * @param place the file, for messages.
 * @throws CheckpointError for another architecture, or listing every key that is missing, of another type, or asks for what
 *   the architecture does not have; ConfigError for numbers that do not fit each other.
 */
export function configFromGguf(
  metadata: Metadata,
  tensors: ReadonlyMap<string, GgufTensorInfo>,
  place: string,
): ModelConfig {
  const architecture = metadata.get("general.architecture")?.value;
  if (architecture !== ARCHITECTURE) {
    const found = architecture === undefined ? "no general.architecture" : `architecture ${quoted(architecture)}`;
    throw new CheckpointError(`${place}: ${found}, expected "${ARCHITECTURE}"`, {
      hint: "only OLMoE models are read",
    });
  }
  const reader = new Reader(metadata);
  const fields = readFields(reader, metadata, tensors);
  const { faults } = reader;
  if (faults.length > 0) {
    const list = faults.length === 1 ? ` ${faults[0]}` : `\n${faults.map((fault) => `  - ${fault}`).join("\n")}`;
    throw new CheckpointError(`${place}: metadata:${list}`);
  }
  return parseModelConfig(fields, place);
}

/**
 * Checks that GGUF's "olmoe" holds all that a model computes.
 * @throws UnsupportedError naming every choice that it has no place for.
 */
export function checkGgufConfig(config: ModelConfig): void {
  const choices: Record<string, unknown> = variantChoices(config);
  if (config.normTopkProb) choices.normTopkProb = true;
  if (config.softmaxAfterTopk) choices.softmaxAfterTopk = true;
  if (config.clipQkv !== null) choices.clipQkv = config.clipQkv;
  if (config.mlpType === "dense") choices.mlpType = "dense";
  const named = Object.entries(choices).map(([key, value]) => `${key} ${String(value)}`);
  if (named.length === 0) return;
  throw new UnsupportedError(`gguf: the architecture "olmoe" has no place for ${named.join(", ")}`, {
    hint: "keep the model as a Hugging Face folder; a program that reads GGUF would compute something else",
  });
}

/**
 * The model's metadata, in the order of llama.cpp's converter.
 * @throws UnsupportedError as `checkGgufConfig`.
 */
export function configToGguf(config: ModelConfig): [string, GgufValue][] {
  checkGgufConfig(config);
  const u32 = (name: string, value: number): [string, GgufValue] => [
    `${ARCHITECTURE}.${name}`,
    { type: "UINT32", value },
  ];
  const f32 = (name: string, value: number): [string, GgufValue] => [
    `${ARCHITECTURE}.${name}`,
    { type: "FLOAT32", value: Math.fround(value) },
  ];
  return [
    u32("block_count", config.numHiddenLayers),
    u32("context_length", config.maxPositionEmbeddings),
    u32("embedding_length", config.hiddenSize),
    u32("feed_forward_length", config.intermediateSize),
    u32("attention.head_count", config.numAttentionHeads),
    u32("attention.head_count_kv", config.numKeyValueHeads),
    f32("rope.freq_base", config.ropeTheta),
    f32("attention.layer_norm_rms_epsilon", config.rmsNormEps),
    u32("expert_count", config.numExperts),
    u32("expert_used_count", config.numExpertsPerTok),
  ];
}

/** `general.*` before and after the model's own keys. */
export function generalMetadata(
  config: ModelConfig,
  { name, fileType, values }: { readonly name: string; readonly fileType: number; readonly values: number },
): { before: [string, GgufValue][]; after: [string, GgufValue][] } {
  const text = (key: string, value: string): [string, GgufValue] => [`general.${key}`, { type: "STRING", value }];
  const u32 = (key: string, value: number): [string, GgufValue] => [`general.${key}`, { type: "UINT32", value }];
  return {
    before: [
      text("architecture", ARCHITECTURE),
      text("type", "model"),
      text("name", name),
      text("size_label", sizeLabel(config, values)),
    ],
    after: [u32("file_type", fileType), u32("quantization_version", 2)],
  };
}

/** How many experts there are and how large the model would be with one: 64x577M. */
function sizeLabel(config: ModelConfig, values: number): string {
  const expert = 3 * config.hiddenSize * config.intermediateSize * config.numHiddenLayers;
  const withOne = values - (config.numExperts - 1) * expert;
  const [unit, suffix] = [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "K"],
  ].find(([unit]) => withOne > (unit as number)) ?? [1e3, "K"];
  const scaled = withOne / (unit as number);
  const digits = Math.max(2 - String(Math.round(scaled)).replace(/^0+/, "").length, 0);
  return `${config.numExperts}x${scaled.toFixed(digits)}${suffix}`;
}
