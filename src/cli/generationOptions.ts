/** Options of the commands that generate text, and what they come to. */
import type { Command } from "commander";
import type { TextOptions } from "../infer/textGeneration.ts";
import { numberValue, wholeNumber } from "./common.ts";

/** Values of the options that `addGenerationOptions` adds. */
export interface GenerationFlags {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly typicalP?: number;
  readonly repetitionPenalty?: number;
  readonly frequencyPenalty?: number;
  readonly presencePenalty?: number;
  readonly stop?: readonly string[];
  readonly speculate?: number;
  readonly seed?: number;
}

/** Adds the sampler's options, --max-tokens, --stop, --speculate and --seed. */
export function addGenerationOptions(command: Command, maxTokens: number): Command {
  const isShare = (value: number) => value > 0 && value <= 1;
  const share = (name: string) => numberValue(name, "a number above 0 and at most 1", isShare);
  const penalty = (name: string) => numberValue(name, "a number", Number.isFinite);
  return command
    .option("--max-tokens <count>", "most new tokens", wholeNumber("--max-tokens", 0), maxTokens)
    .option(
      "--temperature <number>",
      "0 takes the most likely token, higher is more varied",
      numberValue("--temperature", "a number from 0 on", (value) => value >= 0 && value < Infinity),
      0.8,
    )
    .option("--top-k <count>", "draw from this many most likely tokens", wholeNumber("--top-k", 1))
    .option("--top-p <share>", "draw from the most likely tokens that hold this probability", share("--top-p"))
    .option("--min-p <share>", "draw from tokens at least this likely beside the most likely one", share("--min-p"))
    .option("--typical-p <share>", "draw from the most typical tokens that hold this probability", share("--typical-p"))
    .option(
      "--repetition-penalty <number>",
      "above 1 makes tokens of prompt and text less likely",
      numberValue("--repetition-penalty", "a number above 0", (value) => value > 0 && value < Infinity),
    )
    .option(
      "--frequency-penalty <number>",
      "lower a token's logit by this for each time it was generated",
      penalty("--frequency-penalty"),
    )
    .option(
      "--presence-penalty <number>",
      "lower a token's logit by this once it was generated",
      penalty("--presence-penalty"),
    )
    .option("--stop <text>", "end before this text; may be given several times", (text: string, all: string[] = []) => [
      ...all,
      text,
    ])
    .option("--speculate <count>", "guess this many tokens at a time; at temperature 0", wholeNumber("--speculate", 0))
    .option(
      "--seed <number>",
      "the same seed gives the same text (default: another each time)",
      wholeNumber("--seed", 0),
    );
}

/** The options of a generation; without --seed one is drawn. */
export function textOptions(flags: GenerationFlags): TextOptions & { readonly seed: number } {
  const { maxTokens, temperature, topK, topP, minP, typicalP } = flags;
  const { repetitionPenalty, frequencyPenalty, presencePenalty, stop, speculate } = flags;
  const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 31);
  const sampling = { temperature, topK, topP, minP, typicalP, repetitionPenalty, frequencyPenalty, presencePenalty };
  return { ...sampling, maxTokens, stop, speculate, seed };
}

/** A model may write control characters, which would move a terminal's cursor or change its colours. */
export function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, "");
}
