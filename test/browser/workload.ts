/** What is run in a page and in Node and must give the same bits: a few training steps of a tiny model, then a pass. */
import {
  type Backend,
  Decoder,
  Parameters,
  parseRecipe,
  resolveModel,
  TrainStep,
  tokenLogProbs,
} from "../../src/browser.ts";
import { tinyRecipe } from "../tinyRecipe.ts";

const STEPS = 3;

export interface Result {
  readonly losses: readonly number[];
  /** Bits of every parameter after training. */
  readonly parameters: readonly number[];
  readonly logProbs: readonly number[];
}

export function runWorkload(backend: Backend): Result {
  const { train } = parseRecipe(tinyRecipe());
  const { sequenceLength, batchSize, loss, optimizer } = train;
  const config = resolveModel({ preset: "tiny", vocabSize: 320 });
  const parameters = new Parameters(backend, config, { trainable: true });
  parameters.initialise(1);
  const decoder = new Decoder(backend, parameters);
  const step = new TrainStep(backend, decoder, { sequenceLength, microBatchSize: batchSize, loss, optimizer });
  const ids = Int32Array.from({ length: batchSize * sequenceLength }, (_, i) => (i * 7919) % config.vocabSize);
  const labels = ids.map((_, i) => ((i + 1) % sequenceLength === 0 ? -100 : ids[i + 1]!));
  const losses = Array.from({ length: STEPS }, () => step.run({ ids, labels }, optimizer.lr).loss);
  const values = parameters.values.data.slice();
  return {
    losses,
    parameters: [...new Uint32Array(values.buffer)],
    logProbs: [...tokenLogProbs(backend, decoder, ids.subarray(0, sequenceLength))],
  };
}
