/** `olmoe forward`: one pass laid open in a file, for comparison with other implementations. */
import type { Command } from "commander";
import { ShapeError } from "../errors.ts";
import { SafetensorsFile, writeSafetensors } from "../formats/io.ts";
import { openModel } from "../formats/model.io.ts";
import { type InspectInput, inspectForward } from "../infer/inspect.ts";
import { table } from "../report/text.ts";
import { formatShape } from "../tensor/tensor.ts";
import { addBackendOptions, type BackendFlags, describeBackend, openChosenBackend } from "./backendOptions.ts";
import type { Session } from "./common.ts";
import { MODEL_ARGUMENT, resolveModelFolder } from "./modelFolder.ts";

interface ForwardFlags extends BackendFlags {
  readonly input: string;
  readonly out: string;
  readonly grads?: boolean;
}

const HELP = `
The input holds input_ids [B, S] and may hold labels, attention_mask and position_ids of the same
shape, I32 or I64. Labels are not shifted, -100 is for none; with them the losses are written too.
The output's names are those of transformers: logits, hidden.N, layers.N.router_logits, ...

Example:
  $ olmoe forward models/tiny --input ids.safetensors --out values.safetensors --grads`;

export function register(command: Command, session: Session): void {
  command
    .argument("<model>", MODEL_ARGUMENT)
    .requiredOption("--input <file>", "safetensors file with input_ids")
    .requiredOption("--out <file>", "safetensors file to write")
    .option("--grads", "also write the gradient of the loss for every weight; needs labels");
  addBackendOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, flags: ForwardFlags) => forward(model, flags, session));
}

const OPTIONAL = ["labels", "attention_mask", "position_ids"] as const;

interface ReadInputs {
  readonly input: InspectInput;
  /** Tensors of the file that mean nothing here. */
  readonly unused: readonly string[];
}

/** Reads ids and what goes with them; only values that the pass itself does not check are checked here. */
async function readInputs(path: string, gradients: boolean): Promise<ReadInputs> {
  const file = await SafetensorsFile.open(path);
  try {
    const inputIds = await file.readI32("input_ids");
    const shape = file.tensors.get("input_ids")?.shape ?? [];
    if (shape.length !== 2 || inputIds.length === 0) {
      throw new ShapeError(`${path}: input_ids is ${formatShape(shape)}, expected [B, S] with at least one token`);
    }
    const values: Partial<Record<(typeof OPTIONAL)[number], Int32Array>> = {};
    for (const name of OPTIONAL) {
      const info = file.tensors.get(name);
      if (info === undefined) continue;
      if (formatShape(info.shape) !== formatShape(shape)) {
        throw new ShapeError(`${path}: ${name} is ${formatShape(info.shape)}, input_ids ${formatShape(shape)}`);
      }
      values[name] = await file.readI32(name);
    }
    checkRange(path, "attention_mask", values.attention_mask, "0 or 1", (value) => value === 0 || value === 1);
    checkRange(path, "position_ids", values.position_ids, "0 or more", (value) => value >= 0);
    const { labels, attention_mask: attentionMask, position_ids: positionIds } = values;
    const known = new Set<string>(["input_ids", ...OPTIONAL]);
    return {
      input: { batch: shape[0] as number, inputIds, labels, attentionMask, positionIds, gradients },
      unused: [...file.tensors.keys()].filter((name) => !known.has(name)),
    };
  } finally {
    await file.close();
  }
}

function checkRange(
  path: string,
  name: string,
  values: Int32Array | undefined,
  expected: string,
  accepts: (value: number) => boolean,
): void {
  const place = values?.findIndex((value) => !accepts(value)) ?? -1;
  if (place >= 0)
    throw new ShapeError(`${path}: ${name}: element ${place} is ${values?.[place]}, expected ${expected}`);
}

async function forward(model: string, { input: path, out, grads = false, ...flags }: ForwardFlags, session: Session) {
  const folder = await resolveModelFolder(model);
  const { input, unused } = await readInputs(path, grads);
  if (grads && input.labels === undefined) {
    throw new ShapeError(`${path}: no tensor "labels", which gradients need`, {
      hint: "add labels to the input, or leave --grads out",
    });
  }
  const { signal } = session;
  const backend = await openChosenBackend(flags, session);
  const decoder = await openModel(folder, backend, { trainable: grads, signal });
  const results = inspectForward(backend, decoder, input);
  await writeSafetensors(out, results, { signal });
  const losses = results.filter(({ name }) => name.startsWith("loss."));
  const rows = losses.map(({ name, data }) => [name, (data[0] as number).toFixed(6)]);
  const tokens = `${input.batch} x ${input.inputIds.length / input.batch} tokens`;
  session.stdout.write(`${table([["wrote", `${out}: ${results.length} tensors of ${tokens}`], ...rows])}\n`);
  session.stderr.write(`${describeBackend(backend)}\n`);
  if (unused.length > 0) {
    session.stderr.write(`not used: ${unused.slice(0, 5).join(", ")}${unused.length > 5 ? ", ..." : ""}\n`);
  }
}
