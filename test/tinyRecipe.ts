/** The recipe of a whole training run in about a second. */

/** Kinds of text, each a source of the recipe. */
export const KINDS = ["prose", "code", "list", "number"] as const;

/** The recipe as it would be in a file; `train` and `model` are merged into it, other fields replaced. */
export function tinyRecipe({ train = {}, model = {}, ...rest }: Readonly<Record<string, unknown>> = {}) {
  return {
    name: "tiny-run",
    seed: 7,
    model: { preset: "tiny", ...(model as object) },
    tokenizer: { vocabSize: 320 },
    data: { heldOutBytes: 700, sources: KINDS.map((name) => ({ name, path: `text/${name}` })) },
    train: {
      steps: 24,
      batchSize: 4,
      sequenceLength: 32,
      optimizer: { lr: 5e-3 },
      schedule: { warmupSteps: 4 },
      evalEvery: 6,
      evalTokens: 64,
      saveEvery: 3,
      keep: 2,
      ...(train as object),
    },
    ...rest,
  };
}
