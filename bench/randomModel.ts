/**
 * A model of the released OLMoE's size with random weights, as a GGUF file in bench/.cache: what it computes means nothing,
 * but it costs what the released one costs. The experts of a layer are chosen about equally often.
 */
import { access, mkdir, realpath, statfs } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ModelConfig, parseModelConfig } from "../src/config/model.ts";
import { PRESETS } from "../src/config/presets.ts";
import { ResourceError } from "../src/errors.ts";
import { type GgufTensorToWrite, writeGguf } from "../src/formats/gguf.io.ts";
import type { GgufValue } from "../src/formats/gguf.ts";
import { configToGguf, generalMetadata } from "../src/formats/ggufConfig.ts";
import { countParameters } from "../src/model/counts.ts";
import { formatBytes } from "../src/report/text.ts";
import { rowBytes } from "../src/tensor/stored.ts";
import { type RandomMatrix, type RandomType, randomMatrix } from "./randomBlocks.ts";
import { type RandomVocabulary, randomVocabulary } from "./randomVocabulary.ts";

const FOLDER = fileURLToPath(new URL(".cache/", import.meta.url));
const SEED = 1;
/** Part of the file's name: a change of what is drawn makes a new file. */
const VERSION = 3;

/** Mixes of types under llama.cpp's names for whole files, and its numbers for them (`general.file_type`). */
export const RANDOM_MODELS = { q4_0: 2, q8_0: 7, q4_k_m: 15, bf16: 32 } as const;
export type RandomModelType = keyof typeof RANDOM_MODELS;

/** The released model's config. */
export const randomModelConfig: ModelConfig = parseModelConfig(PRESETS["olmoe-1b-7b"]);
/** Its vocabulary, whose words are the only tokens that can be generated. */
export const vocabulary: RandomVocabulary = randomVocabulary(
  randomModelConfig.vocabSize,
  randomModelConfig.eosTokenId as number,
);

/** Layers that the mixes with "m" in their names give more bits: the first and the last eighth, and every third between. */
function hasMoreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

/** The type of a tensor in a mix. */
export function typeOf(mix: RandomModelType, part: string, layer: number, layers: number): RandomType {
  switch (mix) {
    case "bf16":
      return "BF16";
    case "q8_0":
      return "Q8_0";
    case "q4_0":
      return part === "output" ? "Q6_K" : "Q4_0";
    case "q4_k_m":
      if (part === "output") return "Q6_K";
      return (part === "attn_v" || part === "ffn_down_exps") && hasMoreBits(layer, layers) ? "Q6_K" : "Q4_K";
  }
}

/** A tensor of the file: a matrix to draw, or a vector of ones. */
export interface RandomTensor {
  readonly name: string;
  readonly type: RandomType;
  /** Slowest dimension first. */
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Undefined: ones. */
  readonly matrix: RandomMatrix | undefined;
}

/**
 * Standard deviations. The stream of a token is mostly its embedding, to which experts add half as much again: so every
 * token has its own experts, and logits depend on all layers. What attention adds is kept small: it is nearly the same for
 * all tokens, and were it as large as in a trained model, it would grow from layer to layer until all chose alike.
 */
const DEVIATION = 0.02;
const DEVIATIONS: Readonly<Record<string, number>> = { token_embd: 1, attn_output: 0.00125, ffn_down_exps: 0.06 };

/** All tensors of the file, under GGUF's names. */
export function randomTensors(mix: RandomModelType, config: ModelConfig, words: RandomVocabulary): RandomTensor[] {
  const { hiddenSize: width, intermediateSize: inner, numExperts, numHiddenLayers: layers, vocabSize } = config;
  const kvWidth = (width / config.numAttentionHeads) * config.numKeyValueHeads;
  const matrix = (
    part: string,
    shape: readonly number[],
    layer = 0,
    prefix = "",
    type = typeOf(mix, part, layer, layers),
  ) => {
    const name = `${prefix}${part}.weight`;
    const columns = shape.at(-1) as number;
    const rows = shape.slice(0, -1).reduce((product, size) => product * size, 1);
    const deviation = DEVIATIONS[part] ?? DEVIATION;
    // Only words are ever generated, so that the text that a program prints has one reading.
    const filled = part === "output" ? ([words.firstWord, words.endWord] as const) : undefined;
    const byteLength = rows * rowBytes(type, columns);
    return { name, type, shape, byteLength, matrix: { name, type, rows, columns, deviation, filled } };
  };
  const ones = (name: string, size: number): RandomTensor => {
    return { name: `${name}.weight`, type: "F32", shape: [size], byteLength: 4 * size, matrix: undefined };
  };
  const layer = (index: number): RandomTensor[] => {
    const at = `blk.${index}.`;
    return [
      ones(`${at}attn_norm`, width),
      matrix("attn_q", [width, width], index, at),
      matrix("attn_k", [kvWidth, width], index, at),
      matrix("attn_v", [kvWidth, width], index, at),
      matrix("attn_output", [width, width], index, at),
      ones(`${at}attn_q_norm`, width),
      ones(`${at}attn_k_norm`, kvWidth),
      ones(`${at}ffn_norm`, width),
      matrix("ffn_gate_inp", [numExperts, width], index, at, "F32"),
      matrix("ffn_gate_exps", [numExperts, inner, width], index, at),
      matrix("ffn_up_exps", [numExperts, inner, width], index, at),
      matrix("ffn_down_exps", [numExperts, width, inner], index, at),
    ];
  };
  return [
    matrix("token_embd", [vocabSize, width]),
    ...Array.from({ length: layers }, (_, index) => layer(index)).flat(),
    ones("output_norm", width),
    matrix("output", [vocabSize, width]),
  ];
}

/** The file's metadata, in the order in which llama.cpp's converter writes it. */
export function randomMetadata(
  mix: RandomModelType,
  config: ModelConfig,
  words: RandomVocabulary,
): Map<string, GgufValue> {
  const naming = { name: `random OLMoE ${mix}`, fileType: RANDOM_MODELS[mix], values: countParameters(config).total };
  const { before, after } = generalMetadata(config, naming);
  return new Map<string, GgufValue>([
    ...before,
    ...configToGguf(config),
    ...after,
    ["tokenizer.ggml.model", { type: "STRING", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "STRING", value: "olmo" }],
    ["tokenizer.ggml.tokens", { type: "ARRAY", of: "STRING", value: words.tokens }],
    ["tokenizer.ggml.token_type", { type: "ARRAY", of: "INT32", value: words.kinds }],
    ["tokenizer.ggml.merges", { type: "ARRAY", of: "STRING", value: words.merges }],
    ["tokenizer.ggml.eos_token_id", { type: "UINT32", value: words.endOfText }],
    ["tokenizer.ggml.padding_token_id", { type: "UINT32", value: 1 }],
    ["tokenizer.ggml.add_bos_token", { type: "BOOL", value: false }],
    ["tokenizer.ggml.add_eos_token", { type: "BOOL", value: false }],
  ]);
}

/** The bytes of a tensor, some MB at a time. */
function* bytesOf({ shape, matrix }: RandomTensor): Generator<Uint8Array> {
  if (matrix === undefined) yield new Uint8Array(new Float32Array(shape[0] as number).fill(1).buffer);
  else yield* randomMatrix(matrix, SEED);
}

/**
 * The file's path; it is written when it is first asked for, which takes a minute or so.
 * @throws ResourceError when the disk has too little room.
 */
export async function ensureRandomModel(
  mix: RandomModelType,
  { notice, signal }: { readonly notice: (text: string) => void; readonly signal?: AbortSignal },
): Promise<string> {
  const path = join(FOLDER, `olmoe-1b-7b-random-${mix}-v${VERSION}.gguf`);
  const there = await access(path).then(
    () => true,
    () => false,
  );
  if (there) return realpath(path);
  const tensors = randomTensors(mix, randomModelConfig, vocabulary);
  const bytes = tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  await mkdir(FOLDER, { recursive: true });
  const { bavail, bsize } = await statfs(FOLDER);
  if (bavail * bsize < bytes + 2 ** 30) {
    throw new ResourceError(`${path}: needs ${formatBytes(bytes)}, the disk has ${formatBytes(bavail * bsize)}`, {
      hint: "free some space, or measure another --type",
    });
  }
  notice(`writing ${path}: ${formatBytes(bytes)} of random weights`);
  const written: GgufTensorToWrite[] = tensors.map((tensor) => ({ ...tensor, data: () => bytesOf(tensor) }));
  await writeGguf(path, randomMetadata(mix, randomModelConfig, vocabulary), written, { signal });
  return realpath(path);
}
