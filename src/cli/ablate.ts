/** `olmoe ablate`: how much the loss of texts changes without each expert. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { moeLayers } from "../config/architecture.ts";
import { checkInterventions } from "../config/intervention.ts";
import type { ModelConfig } from "../config/model.ts";
import { DataError } from "../errors.ts";
import { modelDigest } from "../formats/modelDigest.io.ts";
import type { OlmoeModel } from "../infer/model.io.ts";
import { renderPng, renderSvg } from "../report/render.io.ts";
import { formatCount, formatDuration, formatRate, table } from "../report/text.ts";
import {
  type AblationResult,
  ablationResult,
  type ExpertPlace,
  type LossChange,
  withoutExpert,
} from "../routing/ablation.ts";
import { AblationLog, ablationRecipe } from "../routing/ablationLog.io.ts";
import { ablationChart, ablationCsv } from "../routing/ablationReport.ts";
import { lossesUnder, scoredTokens } from "../routing/losses.ts";
import type { Sequence } from "../routing/recordTrace.ts";
import { fileError, replaceFiles } from "../util/files.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { describeBackend } from "./backendOptions.ts";
import { numberList, type Session, wholeNumber, writeJson } from "./common.ts";
import { addModelOptions, MODEL_ARGUMENT, type ModelFlags, withModel } from "./modelOptions.ts";
import { ProgressLine } from "./progressLine.ts";
import { collectSequences, sequencesOf } from "./textInputs.ts";

interface AblateFlags extends ModelFlags {
  readonly out: string;
  readonly layers?: readonly number[];
  readonly experts?: readonly number[];
  readonly maxTokens: number;
  readonly resamples: number;
  readonly seed: number;
  readonly force?: boolean;
  readonly json?: boolean;
}

const HELP = `
Each input is a kind of text of its own, called by its file's name or as in code=src/. Without
inputs, the held-out text of a training run is taken, source by source. Each expert of each layer is
masked in turn, and the loss compared with the whole model's on the same tokens; intervals hold the
middle 95 % of what other documents (or pieces of --context tokens) would have given, by bootstrap.

The folder gets ablation.json, ablation.csv and a heat map as ablation.svg and .png; measured.jsonl
grows while experts are measured. The same command goes on where an interrupted one stopped.

Examples:
  $ olmoe ablate runs/quickstart --out ablation
  $ olmoe ablate olmoe-q4_0.gguf code=src/ prose=books/ --layers 7 --max-tokens 20000 --out layer7`;

/** Experts of the table: those that cost most, and those that cost least. */
const SHOWN = { most: 10, least: 3 };

export function register(command: Command, session: Session): void {
  command
    .argument("<model>", MODEL_ARGUMENT)
    .argument("[inputs...]", "files and folders, each as PATH or NAME=PATH")
    .requiredOption("-o, --out <folder>", "folder for the results")
    .option(
      "--layers <numbers>",
      "layers whose experts are measured, such as 0,2-3 (default: all)",
      numberList("--layers"),
    )
    .option("--experts <numbers>", "experts of each of them (default: all)", numberList("--experts"))
    .option("--max-tokens <count>", "most tokens of each kind of text", wholeNumber("--max-tokens", 2), 4000)
    .option("--resamples <count>", "repetitions of the bootstrap", wholeNumber("--resamples", 0), 1000)
    .option("--seed <number>", "of the bootstrap", wholeNumber("--seed", 0), 0)
    .option("--force", "begin anew where the folder has results of something else")
    .option("--json", "for programs");
  addModelOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, inputs: string[], flags: AblateFlags) => {
      return withModel(model, flags, session, (opened) => ablate(model, opened, inputs, flags, session));
    });
}

/** The experts that are asked for, layer by layer. */
function placesOf(config: ModelConfig, { layers = moeLayers(config), experts }: AblateFlags): ExpertPlace[] {
  const chosen = experts ?? Array.from({ length: config.numExperts }, (_, expert) => expert);
  checkInterventions([{ kind: "bias", layers, experts: chosen, value: 0 }], config, "ablate");
  return layers.flatMap((layer) => chosen.map((expert) => ({ layer, expert })));
}

async function ablate(
  path: string,
  model: OlmoeModel,
  inputs: readonly string[],
  flags: AblateFlags,
  session: Session,
): Promise<void> {
  const { out, force = false, json = false, resamples, seed } = flags;
  const places = placesOf(model.info.config, flags);
  const sequences = await collectSequences(await sequencesOf("ablate", path, inputs, model, flags, session));
  if (sequences.length === 0) throw new DataError("ablate: the texts are empty, there is nothing to score");
  const recipe = ablationRecipe(await modelDigest(model.info.path, session.signal), sequences);
  await mkdir(out, { recursive: true }).catch((error: unknown) => {
    throw fileError("write", out, error);
  });
  const logPath = join(out, "measured.jsonl");
  if (force) await rm(logPath, { force: true });
  const log = await AblationLog.open(logPath, recipe);
  const started = performance.now();
  const measured = await measure(model, sequences, places, log, session);
  const seconds = (performance.now() - started) / 1000;
  const wanted = places.flatMap(({ layer, expert }) => {
    return log.ablations.find((one) => one.layer === layer && one.expert === expert) ?? [];
  });
  const result = ablationResult(sequences, log.baseline ?? [], wanted, { resamples, seed });
  const described = {
    model: shownPath(model.info.path),
    digest: recipe.model,
    text: recipe.text,
    resamples,
    seed,
    ...result,
  };
  await writeResults(out, described, result);
  if (json) {
    writeJson(session, described);
    return;
  }
  session.stdout.write(`${resultTable(result)}\n`);
  const rate = formatRate(measured / seconds, "tokens");
  session.stderr.write(
    `${shownPath(out)}: ${places.length} experts; ${formatDuration(seconds)}, ${rate}; ${describeBackend(model.info.backend)}\n`,
  );
}

/** Measures what the log has not yet. @returns tokens scored. */
async function measure(
  model: OlmoeModel,
  sequences: readonly Sequence[],
  places: readonly ExpertPlace[],
  log: AblationLog,
  session: Session,
): Promise<number> {
  const { signal } = session;
  const left = places.filter((place) => !log.has(place));
  const variants = [...(log.baseline === undefined ? [undefined] : []), ...left];
  if (left.length < places.length) {
    session.stderr.write(
      `${shownPath(log.path)}: ${places.length - left.length} of ${places.length} experts are measured already\n`,
    );
  }
  const perVariant = sequences.reduce((sum, sequence) => sum + scoredTokens(sequence), 0);
  const of = variants.length * perVariant;
  const progress = new ProgressLine(session);
  const started = performance.now();
  let tokens = 0;
  const counted: Pick<OlmoeModel, "logprobs"> = {
    logprobs: async (ids, options) => {
      const logprobs = await model.logprobs(ids, options);
      tokens += logprobs.length;
      const rate = (tokens * 1000) / (performance.now() - started);
      const times = `${formatRate(rate, "tokens")}, about ${formatDuration((of - tokens) / rate)} left`;
      progress.show(tokens / of, `${Math.floor(tokens / perVariant)} of ${variants.length} passes, ${times}`);
      return logprobs;
    },
  };
  try {
    const queue = [...variants];
    const interventions = variants.map((place) => place && withoutExpert(place));
    for await (const nats of lossesUnder(counted, sequences, interventions, signal)) {
      const place = queue.shift();
      await (place === undefined ? log.addBaseline(nats) : log.add({ ...place, nats }));
    }
  } finally {
    progress.stop();
  }
  return tokens;
}

async function writeResults(out: string, described: object, result: AblationResult): Promise<void> {
  const svg = await renderSvg(ablationChart(result, "the model"));
  const contents: [string, string | Uint8Array][] = [
    ["ablation.json", `${JSON.stringify(described, null, 2)}\n`],
    ["ablation.csv", ablationCsv(result)],
    ["ablation.svg", svg],
    ["ablation.png", renderPng(svg, { width: 1600 })],
  ];
  await replaceFiles(
    contents.map(([name, data]) => ({ path: join(out, name), write: (file) => file.writeFile(data) })),
  );
}

/** The experts that cost most and least, with the change for each kind of text. */
function resultTable({ domains, experts, loss, tokens }: AblationResult): string {
  const ranked = experts.toSorted((a, b) => b.all.change - a.all.change);
  const { most, least } = SHOWN;
  const shown = ranked.length <= most + least ? ranked : [...ranked.slice(0, most), undefined, ...ranked.slice(-least)];
  const several = domains.length > 1;
  const cell = ({ change, interval }: LossChange) => {
    const number = (value: number) => `${value < 0 ? "" : "+"}${value.toFixed(4)}`;
    return interval === null ? number(change) : `${number(change)} [${interval.map(number).join(", ")}]`;
  };
  const heading = ["layer", "expert", ...(several ? ["all text"] : []), ...domains.map(({ domain }) => domain)];
  const whole = [...(several ? [loss] : []), ...domains.map((one) => one.loss)].map((value) => value.toFixed(4));
  const counts = [...(several ? [tokens] : []), ...domains.map((one) => one.tokens)].map(formatCount);
  return table([
    heading,
    ["tokens", "", ...counts],
    ["loss", "", ...whole],
    ...shown.map((one) =>
      one === undefined
        ? ["..."]
        : [String(one.layer), String(one.expert), ...(several ? [cell(one.all)] : []), ...one.domains.map(cell)],
    ),
  ]);
}
