/** Options of the commands that open a model to use it. */
import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { OlmoeModel, type OpenOptions } from "../infer/model.io.ts";
import { addBackendOptions, type BackendFlags } from "./backendOptions.ts";
import { type Session, wholeNumber } from "./common.ts";

/** Help for the argument. */
export const MODEL_ARGUMENT = "a .gguf file, a folder with config.json and weights, or the folder of a training run";

/** Values of the options that `addModelOptions` adds. */
export interface ModelFlags extends BackendFlags {
  readonly context?: number;
  readonly ropeScaling?: OpenOptions["ropeScaling"];
  readonly cacheType?: NonNullable<OpenOptions["cacheType"]>;
  readonly activations?: NonNullable<OpenOptions["activations"]>;
}

/** `yarn:4`: how, and how many times the trained context. */
function ropeScaling(text: string): OpenOptions["ropeScaling"] {
  const [, type, factor] = /^(yarn|ntk):([\d.]+)$/.exec(text) ?? [];
  if ((type !== "yarn" && type !== "ntk") || !(Number(factor) > 1)) {
    throw new UsageError(`--rope-scaling: "${text}", expected yarn:FACTOR or ntk:FACTOR with a factor above 1`);
  }
  return { type, factor: Number(factor) };
}

/** Adds --context, --rope-scaling, --cache-type, --activations and the choice of a backend. */
export function addModelOptions(command: Command): Command {
  command
    .option(
      "--context <tokens>",
      "most tokens of prompt and answer (default: the model's)",
      wholeNumber("--context", 1),
    )
    .option("--rope-scaling <type:factor>", "read beyond the trained context: yarn:4, ntk:2", ropeScaling)
    .addOption(
      new Option("--cache-type <type>", "how keys and values are kept").choices([
        "f32",
        "f16",
        "q8_0",
      ] satisfies ModelFlags["cacheType"][]),
    )
    .addOption(
      new Option("--activations <type>", "what quantised weights are multiplied with (default: q8)").choices([
        "q8",
        "f32",
      ] satisfies ModelFlags["activations"][]),
    );
  return addBackendOptions(command);
}

/**
 * Opens a model for a command, in this process (a command has nothing else to do meanwhile), and closes it after `use`.
 * @throws UsageError for options that contradict each other; else as `OlmoeModel.open`.
 */
export async function withModel<T>(
  path: string,
  flags: ModelFlags,
  session: Session,
  use: (model: OlmoeModel) => Promise<T>,
): Promise<T> {
  const model = await openModel(path, flags, session);
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}

/**
 * Opens a model, which the caller closes.
 * @param inProcess compute on this thread; default true.
 * @throws as `withModel`.
 */
export async function openModel(
  path: string,
  flags: ModelFlags,
  { stderr, signal }: Session,
  { inProcess = true } = {},
): Promise<OlmoeModel> {
  const { backend, isa, threads, context, ropeScaling, cacheType, activations } = flags;
  if (isa !== undefined && backend !== "auto" && backend !== "native") {
    throw new UsageError(`--isa: "${isa}", the ${backend} backend has no choice of instruction sets`);
  }
  const model = await OlmoeModel.open(path, {
    backend: isa === undefined ? backend : "native",
    isa,
    threads,
    context,
    ropeScaling,
    cacheType,
    activations,
    inProcess,
    signal,
    onNotice: (message) => stderr.write(`olmoe: ${message}\n`),
  });
  const { backend: opened } = model.info;
  if (threads !== undefined && threads > opened.threads) {
    stderr.write(`olmoe: --threads ${threads}: the ${opened.name} backend runs on ${opened.threads}\n`);
  }
  return model;
}
