/** `olmoe info`: what a model is, from its small files and the headers of its weights. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import type { ModelConfig } from "../config/model.ts";
import { variantChoices } from "../config/variant.ts";
import { readModelConfig } from "../formats/huggingface.io.ts";
import { SafetensorsFile } from "../formats/io.ts";
import { countParameters, type ParameterCounts } from "../model/counts.ts";
import { formatBytes, formatCount, table } from "../report/text.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import { readTrainerState } from "../train/checkpoint.io.ts";
import { type Session, writeJson } from "./common.ts";
import { exists, MODEL_ARGUMENT, resolveModelFolder } from "./modelFolder.ts";

const HELP = `
Example:
  $ olmoe info runs/quickstart`;

export function register(command: Command, session: Session): void {
  command
    .argument("<model>", MODEL_ARGUMENT)
    .option("--json", "for programs")
    .addHelpText("after", HELP)
    .action(async (model: string, { json }: { readonly json?: boolean }) => {
      const facts = await collectFacts(model);
      if (json) writeJson(session, facts);
      else session.stdout.write(`${table(describe(facts))}\n`);
    });
}

interface WeightFacts {
  readonly files: number;
  readonly tensors: number;
  /** Stored types, as the files name them. */
  readonly dtypes: readonly string[];
  /** Of all values. */
  readonly bytes: number;
}

interface ModelFacts {
  readonly folder: string;
  readonly config: ModelConfig;
  readonly parameters: ParameterCounts;
  /** Null for a folder without weights. */
  readonly weights: WeightFacts | null;
  readonly tokenizer: {
    readonly vocabSize: number;
    readonly eosTokenId: number;
    readonly padTokenId: number | null;
  } | null;
  /** Null for a model that is not a checkpoint of a run. */
  readonly training: { readonly step: number; readonly steps: number; readonly tokens: number } | null;
}

async function collectFacts(model: string): Promise<ModelFacts> {
  const folder = await resolveModelFolder(model);
  const config = await readModelConfig(folder);
  return {
    folder,
    config,
    parameters: countParameters(config),
    weights: await weightFacts(folder),
    tokenizer: await tokenizerFacts(folder),
    training: await trainingFacts(folder),
  };
}

async function weightFacts(folder: string): Promise<WeightFacts | null> {
  const names = (await readdir(folder)).filter((name) => /^model(-\d+-of-\d+)?\.safetensors$/.test(name));
  const infos = [];
  for (const name of names) {
    const file = await SafetensorsFile.open(join(folder, name));
    infos.push(...file.tensors.values());
    await file.close();
  }
  if (names.length === 0) return null;
  return {
    files: names.length,
    tensors: infos.length,
    dtypes: [...new Set(infos.map(({ dtype }) => dtype))].sort(),
    bytes: infos.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

async function tokenizerFacts(folder: string): Promise<ModelFacts["tokenizer"]> {
  if (!(await exists(join(folder, "tokenizer.json")))) return null;
  const { vocabSize, eosTokenId, padTokenId } = await loadTokenizer(folder);
  return { vocabSize, eosTokenId, padTokenId };
}

async function trainingFacts(folder: string): Promise<ModelFacts["training"]> {
  if (!(await exists(join(folder, "trainer.json")))) return null;
  const { step, tokens, recipe } = await readTrainerState(folder);
  return { step, steps: recipe.train.steps, tokens };
}

/** Rows of name and value. */
function describe({ folder, config, parameters, weights, tokenizer, training }: ModelFacts): string[][] {
  const count = (value: number) => value.toLocaleString("en-US");
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, hiddenSize: width, intermediateSize: inner } = config;
  const experts =
    config.mlpType === "dense"
      ? `none: dense, one MLP of width ${count(inner)}`
      : `${config.numExperts}, ${config.numExpertsPerTok} for each token${config.routing === "expert_choice" ? " on average" : ""}, of width ${count(inner)}`;
  const choices = Object.entries(variantChoices(config));
  return [
    ["folder", folder],
    ["architecture", config.mlpType === "dense" ? "OLMoE decoder, dense twin" : "OLMoE, mixture of experts"],
    ...(choices.length === 0 ? [] : [["choices", choices.map(([key, value]) => `${key} ${value}`).join(", ")]]),
    [
      "parameters",
      `${count(parameters.total)} (${formatCount(parameters.total)}), ` +
        `${count(parameters.active)} (${formatCount(parameters.active)}) active for each token`,
    ],
    ["layers", `${config.numHiddenLayers}, width ${count(width)}`],
    [
      "attention",
      `${heads} heads of ${width / heads} channels${kvHeads === heads ? "" : `, ${kvHeads} for keys and values`}`,
    ],
    ["experts", experts],
    ["context", `${count(config.maxPositionEmbeddings)} tokens`],
    [
      "vocabulary",
      `${count(config.vocabSize)} rows${config.tieWordEmbeddings ? ", one matrix for input and output" : ""}`,
    ],
    [
      "weights",
      weights === null
        ? "none in this folder"
        : `${count(weights.tensors)} tensors, ${weights.dtypes.join(", ")}, ${formatBytes(weights.bytes)}` +
          (weights.files === 1 ? "" : ` in ${weights.files} files`),
    ],
    [
      "tokenizer",
      tokenizer === null
        ? "none in this folder"
        : `${count(tokenizer.vocabSize)} entries, end of text ${tokenizer.eosTokenId}`,
    ],
    [
      "training",
      training === null
        ? "no training state in this folder"
        : `step ${count(training.step)} of ${count(training.steps)}, ${count(training.tokens)} tokens`,
    ],
  ];
}
