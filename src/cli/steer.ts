/** `olmoe steer`: finds the experts that tell two sets of texts apart, and leans a model to one of them. */
import type { Command } from "commander";
import { moeLayers } from "../config/architecture.ts";
import type { InterventionInput } from "../config/intervention.ts";
import { DataError } from "../errors.ts";
import type { OlmoeModel } from "../infer/model.io.ts";
import { formatDuration, table } from "../report/text.ts";
import { lossesUnder, scoredTokens } from "../routing/losses.ts";
import type { Sequence } from "../routing/recordTrace.ts";
import { expertUse, steeringInterventions, type UseDifference, useDifferences } from "../routing/steering.ts";
import { replaceFile } from "../util/files.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { describeBackend } from "./backendOptions.ts";
import { numberValue, type Session, wholeNumber, writeJson } from "./common.ts";
import { printable } from "./generationOptions.ts";
import { addModelOptions, MODEL_ARGUMENT, type ModelFlags, withModel } from "./modelOptions.ts";
import { ProgressLine } from "./progressLine.ts";
import { collectSequences, sequencesOf } from "./textInputs.ts";

interface SteerFlags extends ModelFlags {
  readonly towards: readonly string[];
  readonly away: readonly string[];
  readonly out?: string;
  readonly experts: number;
  readonly strength: number;
  readonly strengths: readonly number[];
  readonly maxTokens: number;
  readonly prompt: string;
  readonly newTokens: number;
  readonly temperature: number;
  readonly seed: number;
  readonly json?: boolean;
}

const HELP = `
Both sets are files and folders of any kind that other commands read. Half of their documents (or of
the pieces of 256 tokens) decide which experts differ most in use; the loss is measured on the other
half, under several strengths. A strength is what is added to the logits of the experts of the one
set, and taken off those of the other; a negative one leans the other way.

The file of --out holds interventions for --intervene of other commands.

Examples:
  $ olmoe steer runs/quickstart --towards src/ --away novel.txt -p "The" --out to-code.json
  $ olmoe run runs/quickstart -p "The" --intervene to-code.json`;

/** Longest sequence, so that a single long text has many. */
const PIECE_TOKENS = 256;

function strengthList(text: string): number[] {
  return text.split(",").map(numberValue("--strengths", "numbers with commas", Number.isFinite));
}

export function register(command: Command, session: Session): void {
  const count = (name: string, least: number) => wholeNumber(name, least);
  command
    .argument("<model>", MODEL_ARGUMENT)
    .requiredOption("--towards <paths...>", "texts to lean to")
    .requiredOption("--away <paths...>", "texts to lean away from")
    .option("-o, --out <file>", "file of interventions to write")
    .option("--experts <count>", "experts to change, of all layers together", count("--experts", 1), 8)
    .option(
      "--strength <number>",
      "of the file and the text",
      numberValue("--strength", "a number", Number.isFinite),
      1,
    )
    .option("--strengths <numbers>", "to measure the loss under", strengthList, [-2, -1, 0, 0.5, 1, 2, 4])
    .option("--max-tokens <count>", "most tokens of each path", count("--max-tokens", 8), 8000)
    .option("-p, --prompt <text>", "text to continue, before and after", "")
    .option("--new-tokens <count>", "tokens to continue it by", count("--new-tokens", 0), 60)
    .option(
      "--temperature <number>",
      "of the continuation",
      numberValue("--temperature", "a number from 0 on", (value) => value >= 0 && value < Infinity),
      0.8,
    )
    .option("--seed <number>", "of the continuation", count("--seed", 0), 0)
    .option("--json", "for programs");
  addModelOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, flags: SteerFlags) => {
      return withModel(model, flags, session, (opened) => steer(model, opened, flags, session));
    });
}

/** The sequences of a set: those that decide, and those that are measured. */
interface TextSet {
  readonly deciding: readonly Sequence[];
  readonly measured: readonly Sequence[];
}

async function readSet(
  path: string,
  name: "towards" | "away",
  model: OlmoeModel,
  flags: SteerFlags,
  session: Session,
): Promise<TextSet> {
  const options = { maxTokens: flags.maxTokens, context: PIECE_TOKENS };
  const all = await collectSequences(await sequencesOf("steer", path, flags[name], model, options, session));
  if (all.length < 2) {
    throw new DataError(`--${name}: ${all.length} documents or pieces of ${PIECE_TOKENS} tokens, expected at least 2`, {
      hint: "one half decides which experts differ, the other is measured: name more text",
    });
  }
  return { deciding: all.filter((_, index) => index % 2 === 0), measured: all.filter((_, index) => index % 2 === 1) };
}

interface StrengthLoss {
  readonly strength: number;
  /** Nats per token of the measured half of each set. */
  readonly towards: number;
  readonly away: number;
}

async function steer(path: string, model: OlmoeModel, flags: SteerFlags, session: Session): Promise<void> {
  const { signal, stdout, stderr } = session;
  const { out, strength, prompt, json = false } = flags;
  const { config, backend } = model.info;
  const started = performance.now();
  const towards = await readSet(path, "towards", model, flags, session);
  const away = await readSet(path, "away", model, flags, session);
  const layers = moeLayers(config);
  const shape = { layers: layers.length, numExperts: config.numExperts };
  const use = (set: TextSet) => expertUse(model, set.deciding, shape, signal);
  const ranked = useDifferences(await use(towards), await use(away), layers);
  const chosen = ranked.slice(0, flags.experts).filter(({ difference }) => difference !== 0);
  if (chosen.length === 0) throw new DataError("steer: both sets use all experts alike, there is nothing to lean on");
  const losses = await measure(model, chosen, { towards, away }, flags.strengths, session);
  const interventions = steeringInterventions(chosen, strength);
  const [before, after] = [
    await written(model, [], flags, session),
    await written(model, interventions, flags, session),
  ];
  if (out !== undefined) {
    const content = `${JSON.stringify({ interventions }, null, 2)}\n`;
    await replaceFile(out, (file) => file.writeFile(content));
  }
  if (json) {
    const text = { prompt, before, after };
    writeJson(session, { model: shownPath(model.info.path), strength, experts: chosen, interventions, losses, text });
    return;
  }
  stdout.write(`${expertTable(chosen)}\n\n${lossTable(losses)}\n`);
  if (flags.newTokens > 0) {
    for (const [title, text] of [
      ["before", before],
      [`at strength ${strength}`, after],
    ]) {
      stdout.write(`\n${title}:\n${printable(prompt + text)}\n`);
    }
  }
  const file = out === undefined ? [] : [`interventions in ${shownPath(out)}`];
  const seconds = formatDuration((performance.now() - started) / 1000);
  stderr.write(`${[...file, `seed ${flags.seed}`, seconds, describeBackend(backend)].join("; ")}\n`);
}

/** The loss on both sets under several strengths. */
async function measure(
  model: OlmoeModel,
  chosen: readonly UseDifference[],
  sets: Readonly<Record<"towards" | "away", TextSet>>,
  strengths: readonly number[],
  session: Session,
): Promise<StrengthLoss[]> {
  const { towards, away } = sets;
  const sequences = [...towards.measured, ...away.measured];
  const progress = new ProgressLine(session);
  const meanOf = (nats: Float64Array, from: number, to: number) => {
    const tokens = sequences.slice(from, to).reduce((sum, sequence) => sum + scoredTokens(sequence), 0);
    return nats.subarray(from, to).reduce((sum, value) => sum + value, 0) / tokens;
  };
  const variants = strengths.map((strength) => steeringInterventions(chosen, strength));
  const losses: StrengthLoss[] = [];
  const started = performance.now();
  try {
    for await (const nats of lossesUnder(model, sequences, variants, session.signal)) {
      const first = towards.measured.length;
      const strength = strengths[losses.length] as number;
      losses.push({ strength, towards: meanOf(nats, 0, first), away: meanOf(nats, first, nats.length) });
      const left = ((performance.now() - started) / 1000 / losses.length) * (strengths.length - losses.length);
      const line = `${losses.length} of ${strengths.length} strengths, about ${formatDuration(left)} left`;
      progress.show(losses.length / strengths.length, line);
    }
  } finally {
    progress.stop();
  }
  return losses;
}

/** What the model writes after the prompt. */
async function written(
  model: OlmoeModel,
  interventions: readonly InterventionInput[],
  { prompt, newTokens, temperature, seed }: SteerFlags,
  { signal }: Session,
): Promise<string> {
  const options = { maxTokens: newTokens, temperature, seed, interventions, signal };
  return (await model.generate(prompt, options).result).text;
}

function expertTable(chosen: readonly UseDifference[]): string {
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
  return table(
    [
      ["layer", "expert", "towards", "away", "difference", "z"],
      ...chosen.map(({ layer, expert, towards, away, difference, z }) => {
        const shares = [percent(towards), percent(away), `${difference > 0 ? "+" : ""}${percent(difference)}`];
        return [String(layer), String(expert), ...shares, z.toFixed(1)];
      }),
    ],
    { align: ["right", "right", "right", "right", "right", "right"] },
  );
}

function lossTable(losses: readonly StrengthLoss[]): string {
  return table(
    [
      ["strength", "loss towards", "loss away"],
      ...losses.map(({ strength, towards, away }) => [String(strength), towards.toFixed(4), away.toFixed(4)]),
    ],
    { align: ["right", "right", "right"] },
  );
}
