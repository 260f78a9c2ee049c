/** What a trained model's held-out loss is held against: the untrained model, a bigram model, a text compressor. */
import type { Backend } from "../backend/backend.ts";
import type { Recipe } from "../config/recipe.ts";
import { bitsPerByte, type HeldOutText } from "../data/heldOut.ts";
import { openTrainingSources } from "../data/open.io.ts";
import type { PreparedData } from "../data/prepare.io.ts";
import { brotliBitsPerByte } from "../eval/baselines.io.ts";
import { bigramModel } from "../eval/baselines.ts";
import { Decoder } from "../model/decoder.ts";
import { Parameters } from "../model/parameters.ts";
import { type Evaluation, evaluate } from "../train/evaluate.ts";
import type { TrainOutcome } from "../train/run.io.ts";
import type { Comparison } from "./summary.io.ts";

function weighted(texts: readonly HeldOutText[], bySource: readonly number[]): number {
  const bytes = texts.reduce((sum, { textBytes }) => sum + textBytes, 0);
  return texts.reduce((sum, { textBytes }, index) => sum + textBytes * (bySource[index] as number), 0) / bytes;
}

function compare(name: string, texts: readonly HeldOutText[], score: (text: HeldOutText) => number): Comparison {
  const bySource = texts.map(score);
  return { name, bySource, all: weighted(texts, bySource) };
}

/** Held-out loss of the same model before its first step. */
async function untrained(
  backend: Backend,
  { decoder, data, heldOut }: TrainOutcome,
  recipe: Recipe,
  signal: AbortSignal | undefined,
): Promise<Evaluation> {
  const parameters = new Parameters(backend, decoder.config, { trainable: false });
  parameters.initialise(recipe.seed);
  const fresh = new Decoder(backend, parameters);
  try {
    return await evaluate(backend, fresh, heldOut, {
      sequenceLength: recipe.train.sequenceLength,
      eosTokenId: data.tokenizer.eosTokenId,
      documentMask: recipe.train.documentMask,
      signal,
    });
  } finally {
    fresh.dispose();
    parameters.dispose();
  }
}

/** A bigram model of all training tokens, which are more than the trained model has seen of most kinds. */
function bigram(data: PreparedData, heldOut: readonly HeldOutText[], recipe: Recipe): Comparison {
  const { sources, close } = openTrainingSources(data, recipe.data);
  const files = sources.flatMap((source) => source.files.map((file) => file.subarray(0, file.length)));
  close();
  const model = bigramModel(files, data.tokenizer.vocabSize);
  return compare("bigram of the same tokens", heldOut, ({ tokens, textBytes }) =>
    bitsPerByte(model.nats(tokens), textBytes),
  );
}

/**
 * The trained model and its baselines: a bigram model, brotli, the same model before training.
 * @param outcome of a finished run.
 * @param evaluation of all its held-out text.
 * @throws the signal's reason when it is aborted.
 */
export async function compareWithBaselines(
  backend: Backend,
  outcome: TrainOutcome,
  evaluation: Evaluation,
  recipe: Recipe,
  signal?: AbortSignal,
): Promise<Comparison[]> {
  const { heldOut, data } = outcome;
  const start = await untrained(backend, outcome, recipe, signal);
  return [
    {
      name: "this model",
      bySource: evaluation.sources.map((source) => source.bitsPerByte),
      all: evaluation.bitsPerByte,
    },
    bigram(data, heldOut, recipe),
    compare("brotli 11", heldOut, ({ documents }) => brotliBitsPerByte(documents.map(({ text }) => text).join("\n\n"))),
    {
      name: "the untrained model",
      bySource: start.sources.map((source) => source.bitsPerByte),
      all: start.bitsPerByte,
    },
  ];
}
