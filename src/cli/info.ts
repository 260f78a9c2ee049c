/** `olmoe info`: what a model is, from its small files and the headers of its weights. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import type { ModelConfig } from "../config/model.ts";
import { variantChoices } from "../config/variant.ts";
import { GgufFile } from "../formats/gguf.io.ts";
import { configFromGguf } from "../formats/ggufConfig.ts";
import { textFromGguf } from "../formats/ggufTokenizer.ts";
import { readModelConfig } from "../formats/huggingface.io.ts";
import { SafetensorsFile } from "../formats/io.ts";
import { countParameters, type ParameterCounts } from "../model/counts.ts";
import { formatBytes, formatCount, table } from "../report/text.ts";
import { loadTokenizer, tokenizerFromJson } from "../tokenizer/io.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { readTrainerState } from "../train/checkpoint.io.ts";
import { type Session, writeJson } from "./common.ts";
import { exists, MODEL_ARGUMENT, resolveModelFolder } from "./modelFolder.ts";

const HELP = `
Examples:
  $ olmoe info runs/quickstart
  $ olmoe info model.gguf`;

export function register(command: Command, session: Session): void {
  command
    .argument("<model>", `${MODEL_ARGUMENT}, or a GGUF file`)
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
  /** How many tensors have each of them. */
  readonly types: Readonly<Record<string, number>>;
  /** Of all values. */
  readonly bytes: number;
}

interface ModelFacts {
  /** The folder or GGUF file. */
  readonly folder: string;
  readonly format: "huggingface" | "gguf";
  readonly config: ModelConfig;
  readonly parameters: ParameterCounts;
  /** Null for a folder without weights. */
  readonly weights: WeightFacts | null;
  readonly tokenizer: {
    readonly vocabSize: number;
    readonly eosTokenId: number;
    readonly padTokenId: number | null;
    readonly chatTemplate?: boolean;
  } | null;
  /** Null for a model that is not a checkpoint of a run. */
  readonly training: { readonly step: number; readonly steps: number; readonly tokens: number } | null;
}

async function collectFacts(model: string): Promise<ModelFacts> {
  const isFile = await stat(model).then(
    (facts) => facts.isFile(),
    () => model.endsWith(".gguf"),
  );
  return isFile ? ggufFacts(model) : folderFacts(await resolveModelFolder(model));
}

async function ggufFacts(path: string): Promise<ModelFacts> {
  const file = await GgufFile.open(path);
  await file.close();
  const { metadata, tensors, paths } = file;
  const config = configFromGguf(metadata, tensors, path);
  const text = textFromGguf(metadata, path);
  const infos = Array.from(tensors.values(), ({ type, byteLength }) => ({ dtype: type, byteLength }));
  return {
    folder: path,
    format: "gguf",
    config,
    parameters: countParameters(config),
    weights: summary(paths.length, infos),
    tokenizer:
      text === undefined
        ? null
        : {
            ...describeTokenizer(tokenizerFromJson(text.tokenizerJson, path)),
            chatTemplate: text.chatTemplate !== undefined,
          },
    training: null,
  };
}

async function folderFacts(folder: string): Promise<ModelFacts> {
  const config = await readModelConfig(folder);
  return {
    folder,
    format: "huggingface",
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
  return names.length === 0 ? null : summary(names.length, infos);
}

function summary(
  files: number,
  infos: readonly { readonly dtype: string; readonly byteLength: number }[],
): WeightFacts {
  const types: Record<string, number> = {};
  for (const { dtype } of infos) types[dtype] = (types[dtype] ?? 0) + 1;
  const bytes = infos.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return { files, tensors: infos.length, dtypes: Object.keys(types).sort(), types, bytes };
}

function describeTokenizer({ vocabSize, eosTokenId, padTokenId }: Tokenizer) {
  return { vocabSize, eosTokenId, padTokenId };
}

async function tokenizerFacts(folder: string): Promise<ModelFacts["tokenizer"]> {
  if (!(await exists(join(folder, "tokenizer.json")))) return null;
  return describeTokenizer(await loadTokenizer(folder));
}

async function trainingFacts(folder: string): Promise<ModelFacts["training"]> {
  if (!(await exists(join(folder, "trainer.json")))) return null;
  const { step, tokens, recipe } = await readTrainerState(folder);
  return { step, steps: recipe.train.steps, tokens };
}

/** Rows of name and value. */
function describe({ folder, format, config, parameters, weights, tokenizer, training }: ModelFacts): string[][] {
  const place = format === "gguf" ? "file" : "folder";
  const count = (value: number) => value.toLocaleString("en-US");
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, hiddenSize: width, intermediateSize: inner } = config;
  const experts =
    config.mlpType === "dense"
      ? `none: dense, one MLP of width ${count(inner)}`
      : `${config.numExperts}, ${config.numExpertsPerTok} for each token${config.routing === "expert_choice" ? " on average" : ""}, of width ${count(inner)}`;
  const choices = Object.entries(variantChoices(config));
  return [
    [place, folder],
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
        ? `none in this ${place}`
        : `${count(weights.tensors)} tensors, ${typeList(weights)}, ${formatBytes(weights.bytes)}` +
          (weights.files === 1 ? "" : ` in ${weights.files} files`),
    ],
    [
      "tokenizer",
      tokenizer === null
        ? `none in this ${place}`
        : `${count(tokenizer.vocabSize)} entries, end of text ${tokenizer.eosTokenId}` +
          (tokenizer.chatTemplate ? ", with a chat template" : ""),
    ],
    ...(format === "gguf" ? [] : [["training", describeTraining(training)]]),
  ];
}

/** F32 where there is one type, 16 Q4_K and 11 F32 where there are several. */
function typeList({ dtypes, types }: WeightFacts): string {
  if (dtypes.length === 1) return dtypes.join();
  return Object.entries(types)
    .sort(([, a], [, b]) => b - a)
    .map(([type, count]) => `${count} ${type}`)
    .join(" and ");
}

function describeTraining(training: ModelFacts["training"]): string {
  if (training === null) return "no training state in this folder";
  const { step, steps, tokens } = training;
  const count = (value: number) => value.toLocaleString("en-US");
  return `step ${count(step)} of ${count(steps)}, ${count(tokens)} tokens`;
}
