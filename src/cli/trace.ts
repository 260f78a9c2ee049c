/** `olmoe trace`: writes down which experts every token of some texts is sent to. */
import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { openTrace, TraceWriter } from "../formats/trace.io.ts";
import { TRACE_COLUMNS, type TraceColumn } from "../formats/trace.ts";
import type { OlmoeModel } from "../infer/model.io.ts";
import { formatBytes, formatCount, formatDuration, formatRate } from "../report/text.ts";
import { recordTrace } from "../routing/recordTrace.ts";
import { traceHeader } from "../routing/traceHeader.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { describeBackend } from "./backendOptions.ts";
import { type Session, wholeNumber, writeJson } from "./common.ts";
import { addInterveneOption, type InterveneFlags, intervenedHeader, interventionsOf } from "./intervene.ts";
import { addModelOptions, MODEL_ARGUMENT, type ModelFlags, withModel } from "./modelOptions.ts";
import { ProgressLine } from "./progressLine.ts";
import { sequencesOf } from "./textInputs.ts";

interface TraceFlags extends ModelFlags, InterveneFlags {
  readonly out: string;
  readonly columns: readonly TraceColumn[];
  readonly maxTokens?: number;
  readonly force?: boolean;
  readonly json?: boolean;
}

const HELP = `
Each input is a source of its own, called by its file's name or as in code=src/: a file or folder of
text, code, HTML, JSONL, CSV or Parquet. Without inputs, the held-out text of a training run is
taken, source by source. A document begins with the end-of-text token; one that is longer than
--context is read in pieces. An interrupted command goes on where it stopped when it is given again.

Columns besides ids, experts and weights, which are always there: predicted (the most probable next
token), logprobs (of the token that comes next), probabilities and logits (of the whole router).
An output that ends in .parquet has a row for each token and layer.

Examples:
  $ olmoe trace runs/quickstart --out held-out.trace
  $ olmoe trace olmoe-q4_0.gguf code=src/ prose=books/ --max-tokens 200000 --out mixed.trace
  $ olmoe trace held-out.trace --out held-out.parquet`;

function columnList(text: string): TraceColumn[] {
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !(TRACE_COLUMNS as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`--columns: "${unknown}", expected some of ${TRACE_COLUMNS.join(", ")}`);
  }
  return TRACE_COLUMNS.filter((name) => names.includes(name));
}

export function register(command: Command, session: Session): void {
  command
    .argument("<model>", `${MODEL_ARGUMENT}; or a .trace file, to write it as Parquet`)
    .argument("[inputs...]", "files and folders, each as PATH or NAME=PATH")
    .requiredOption("-o, --out <file>", "file to write: .trace, or .parquet")
    .addOption(new Option("--columns <names>", "arrays to add, with commas").argParser(columnList).default([]))
    .option("--max-tokens <count>", "most tokens of each source", wholeNumber("--max-tokens", 1))
    .option("--force", "replace the output where it is there already")
    .option("--json", "for programs");
  addInterveneOption(command);
  addModelOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, inputs: string[], flags: TraceFlags) => trace(model, inputs, flags, session));
}

async function trace(path: string, inputs: readonly string[], flags: TraceFlags, session: Session): Promise<void> {
  const parquet = flags.out.endsWith(".parquet");
  if (path.endsWith(".trace")) {
    if (!parquet) throw new UsageError(`--out: "${flags.out}", of a trace only a .parquet file can be made`);
    await toParquet(path, flags, session);
    return;
  }
  const out = parquet ? flags.out.replace(/parquet$/, "trace") : flags.out;
  await withModel(path, flags, session, (model) => record(path, model, inputs, { ...flags, out }, session));
  if (parquet) await toParquet(out, flags, session);
}

async function toParquet(path: string, { out, force = false }: TraceFlags, session: Session): Promise<void> {
  const progress = new ProgressLine(session);
  const file = await openTrace(path);
  try {
    const onProgress = (tokens: number) => progress.show(tokens / file.tokens, `${formatCount(tokens)} tokens`);
    const { exportTrace } = await import("../formats/traceParquet.io.ts"); // with DuckDB, which takes a while to load
    await exportTrace(file, out, { overwrite: force, signal: session.signal, onProgress });
  } finally {
    progress.stop();
    await file.close();
  }
  session.stdout.write(`${shownPath(out)}: ${formatCount(file.tokens * file.header.layers.length)} rows\n`);
}

async function record(
  path: string,
  model: OlmoeModel,
  inputs: readonly string[],
  flags: TraceFlags,
  session: Session,
): Promise<void> {
  const { out, columns, force = false, json = false } = flags;
  const { signal } = session;
  const { sequences, estimate } = await sequencesOf("trace", path, inputs, model, flags, session);
  const interventions = await interventionsOf(flags, model, session);
  const changes = interventions && intervenedHeader(interventions, model.info.config);
  const header = await traceHeader(model, { columns, origin: "score", signal, ...changes });
  const writer = await TraceWriter.create(out, header, {
    tokenText: (id) => model.tokenizer.entry(id),
    existing: force ? "replace" : "resume",
  });
  const done = writer.tokens;
  if (done > 0) session.stderr.write(`${shownPath(out)}: goes on after ${formatCount(done)} tokens\n`);
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  const progress = new ProgressLine(session);
  try {
    await recordTrace(model, sequences, writer, {
      done,
      interventions,
      signal,
      onProgress: (tokens) => {
        const rate = (tokens - done) / seconds();
        const left = formatDuration(Math.max(0, estimate - tokens) / rate);
        progress.show(
          Math.min(1, tokens / estimate),
          `${formatCount(tokens)} tokens, ${formatRate(rate, "tokens")}, about ${left} left`,
        );
      },
    });
    await writer.close();
  } catch (error) {
    // What has been read so far stays, for the next time.
    await writer.flush().finally(() => writer.abandon());
    throw error;
  } finally {
    progress.stop();
  }
  const { tokens, bytes } = writer;
  if (json) {
    writeJson(session, { trace: out, tokens, bytes, header });
    return;
  }
  const size = `${formatBytes(bytes)}, ${(bytes / Math.max(1, tokens)).toFixed(1)} bytes a token`;
  session.stdout.write(`${shownPath(out)}: ${formatCount(tokens)} tokens, ${header.layers.length} layers, ${size}\n`);
  const rate = formatRate((tokens - done) / seconds(), "tokens");
  session.stderr.write(`${formatDuration(seconds())}, ${rate}; ${describeBackend(model.info.backend)}\n`);
}
