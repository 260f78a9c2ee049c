/** `olmoe convert`: a model from one format to another. */
import { type Command, Option } from "commander";
import { convertModel } from "../formats/convert.io.ts";
import type { StoredWeightDType } from "../formats/huggingface.io.ts";
import type { ModelFormat } from "../formats/modelFiles.io.ts";
import { formatBytes, table } from "../report/text.ts";
import { openChosenBackend } from "./backendOptions.ts";
import { byteProgress } from "./byteProgress.ts";
import { type Session, wholeNumber, writeJson } from "./common.ts";
import { resolveModelFolder } from "./modelFolder.ts";

const FORMATS = { gguf: "gguf", hf: "huggingface", olmo: "olmo" } as const satisfies Record<string, ModelFormat>;

const FORMAT_NAMES: Readonly<Record<ModelFormat, string>> = {
  gguf: "GGUF",
  huggingface: "Hugging Face folder",
  olmo: "OLMo, unsharded",
};

const HELP = `
IN is a Hugging Face folder, the folder of a training run, a GGUF file (of a split model any of its
files), or a folder with OLMo's config.yaml and model.safetensors. OUT is a GGUF file where its name
ends in .gguf, else a folder, which must be new or empty. It appears whole or not at all.

Without --type nothing is lost: matrices keep their type, and converting back gives the same bytes.
Norms and routers are f32 in GGUF files. Quantised weights are decoded where OUT is a folder;
"olmoe quantize" makes them.

Examples:
  $ olmoe convert runs/quickstart model.gguf --type f16
  $ olmoe convert model.gguf model-folder
  $ olmoe convert model-folder olmo-folder --to olmo`;

interface ConvertFlags {
  readonly to?: keyof typeof FORMATS;
  readonly type?: StoredWeightDType;
  readonly maxShardBytes?: number;
  readonly json?: boolean;
}

export function register(command: Command, session: Session): void {
  command
    .argument("<in>", "model to read")
    .argument("<out>", "file or folder to write")
    .addOption(
      new Option("--to <format>", "format of OUT where its name does not say it").choices(Object.keys(FORMATS)),
    )
    .addOption(new Option("--type <type>", "type of the weights").choices(["f32", "f16", "bf16"]))
    .option("--max-shard-bytes <count>", "begin another file from here on", wholeNumber("--max-shard-bytes", 1))
    .option("--json", "for programs")
    .addHelpText("after", HELP)
    .action((input: string, output: string, flags: ConvertFlags) => convert(input, output, flags, session));
}

async function convert(input: string, output: string, flags: ConvertFlags, session: Session): Promise<void> {
  const { to, type, maxShardBytes, json } = flags;
  const progress = byteProgress(session);
  try {
    const done = await convertModel(await resolveModelFolder(input), output, {
      to: to === undefined ? undefined : FORMATS[to],
      type,
      maxShardBytes,
      openBackend: () => openChosenBackend({ backend: "auto" }, session),
      signal: session.signal,
      onProgress: progress.update,
      onNotice: (message) => session.stderr.write(`notice: ${message}\n`),
    });
    progress.stop();
    if (json) writeJson(session, done);
    else {
      const types = Object.entries(done.types).map(([name, count]) => `${count} ${name}`);
      const rows = [
        ["from", `${input}, ${FORMAT_NAMES[done.from]}`],
        [
          "to",
          `${done.paths[0]}${done.paths.length > 1 ? ` and ${done.paths.length - 1} more` : ""}, ${FORMAT_NAMES[done.to]}`,
        ],
        ["tensors", `${done.tensors}: ${types.join(", ")}`],
        ["values", `${formatBytes(done.bytes)} in ${progress.elapsed()}`],
      ];
      session.stdout.write(`${table(rows)}\n`);
    }
  } finally {
    progress.stop();
  }
}
