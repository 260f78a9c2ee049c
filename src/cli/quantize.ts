/** `olmoe quantize`: a smaller copy of a model, and what that costs in precision. */
import { type Command, Option } from "commander";
import { type Quantization, quantizeModel } from "../formats/quantize.io.ts";
import { QUANTIZE_PRESETS, type QuantizePreset } from "../formats/quantizePresets.ts";
import { formatBytes, table } from "../report/text.ts";
import { addBackendOptions, type BackendFlags, openChosenBackend } from "./backendOptions.ts";
import { byteProgress } from "./byteProgress.ts";
import { type Session, writeJson } from "./common.ts";
import { resolveModelFolder } from "./modelFolder.ts";

const HELP = `
IN is a Hugging Face folder, the folder of a training run, a GGUF file (of a split model any of its
files) or an OLMo folder; OUT a GGUF file, which appears whole or not at all. The tensors get the
types that llama.cpp's llama-quantize gives them: norms and routers stay as they are, the output
matrix and some layers of the _m and _l mixtures get more bits. docs/quantisation.md has the types.

The table shows for each tensor the root mean square of the error relative to that of the values,
and the largest error of one value. With --perplexity the input and the output predict a text, in
windows of their context that begin half of it apart (olmoe perplexity).

Examples:
  $ olmoe quantize runs/quickstart model-q4_k_m.gguf --type q4_k_m
  $ olmoe quantize model-bf16.gguf model-q8_0.gguf --type q8_0`;

interface QuantizeFlags extends BackendFlags {
  readonly type: QuantizePreset;
  readonly perplexity?: string;
  readonly allowRequantize?: boolean;
  readonly json?: boolean;
}

export function register(command: Command, session: Session): void {
  addBackendOptions(
    command
      .argument("<in>", "model to read")
      .argument("<out>", "file to write")
      .addOption(
        new Option("--type <type>", "type of most tensors")
          .choices(Object.keys(QUANTIZE_PRESETS))
          .makeOptionMandatory(),
      )
      .option("--perplexity <file>", "measure how well both models predict this text")
      .option("--allow-requantize", "quantise a quantised model, which adds to its error")
      .option("--json", "for programs"),
  )
    .addHelpText("after", HELP)
    .action((input: string, output: string, flags: QuantizeFlags) => quantize(input, output, flags, session));
}

async function quantize(input: string, output: string, flags: QuantizeFlags, session: Session): Promise<void> {
  const { type, allowRequantize, json, perplexity: file } = flags;
  // Opening models for use brings in much that quantising alone does not need.
  const change = file === undefined ? undefined : await import("./perplexityChange.ts");
  const measure = await change?.perplexityChange(file as string, flags, session);
  const backend = await openChosenBackend(flags, session);
  const progress = byteProgress(session);
  try {
    const done = await quantizeModel(await resolveModelFolder(input), output, {
      type,
      backend,
      allowRequantize,
      signal: session.signal,
      onProgress: ({ tensor, ...bytes }) => progress.update(bytes, tensor),
    });
    progress.stop();
    const elapsed = progress.elapsed();
    const perplexity = await measure?.(input, output);
    if (json) {
      writeJson(session, { ...done, perplexity });
      return;
    }
    const { inputBytes, bitsPerWeight } = done;
    const lines = [
      `${describe(done)}\n`,
      `${formatBytes(inputBytes)} before, ${bitsPerWeight.toFixed(2)} bits a weight now`,
      ...(perplexity === undefined ? [] : [change?.describeChange(perplexity)]),
      `wrote ${output} in ${elapsed}`,
    ];
    session.stdout.write(`${lines.join("\n")}\n`);
  } finally {
    progress.stop();
    backend.close();
  }
}

const percent = (error: number) => (error === 0 ? "exact" : `${(100 * error).toPrecision(3)} %`);
const number = (value: number) => (value === 0 ? "0" : value.toPrecision(3));

/** A row for each tensor and one for all. */
function describe({ tensors, bytes, relativeError, worst }: Quantization): string {
  const rows = tensors.map(({ name, from, type, bytes, relativeError, worst }) => [
    name,
    from === type ? type : `${from} to ${type}`,
    formatBytes(bytes),
    percent(relativeError),
    number(worst),
  ]);
  const total = [`${tensors.length} tensors`, "", formatBytes(bytes), percent(relativeError), number(worst)];
  return table([["tensor", "type", "size", "error", "largest"], ...rows, total], {
    align: ["left", "left", "right", "right", "right"],
  });
}
