/**
 * The data part of a recipe: where text comes from, what is left out of it, the tokenizer that turns it into ids, and how
 * the sources are mixed. A file with these fields, a name and a seed is a recipe of its own (`olmoe data build`).
 */
import { z } from "zod";
import { parseConfig } from "./check.ts";
import { dedupeSchema } from "./dataDedupe.ts";
import { filtersSchema } from "./dataFilters.ts";
import { sourceSchema } from "./dataSources.ts";

export const recipeName = z.string().regex(/^[a-z0-9][a-z0-9_-]*$/, "must be lower-case letters, digits, - and _");

/** A name for a recipe or a source from any other, such as a folder's. */
export function recipeNameOf(text: string, otherwise: string): string {
  const plain = text.toLowerCase().replace(/[^a-z0-9_-]+/g, "-");
  return plain.replace(/^[^a-z0-9]+|-+$/g, "") || otherwise;
}

export const recipeSeed = z.int().min(0).default(6198);

/** How much of a source a stage takes: exactly one of the three. */
const portionSchema = z
  .strictObject({
    /** Share of the sequences, relative to the other sources. */
    weight: z.number().min(0).optional(),
    /** Tokens of it in one pass over the mix; more than it has are repeated. */
    tokens: z.number().positive().optional(),
    /** Times it is gone through in one pass over the mix: 1 is once, 0.3 about a third of its sequences. */
    repeat: z.number().positive().optional(),
  })
  .superRefine((portion, context) => {
    if (Object.values(portion).filter((value) => value !== undefined).length !== 1) {
      context.addIssue({ code: "custom", path: [], message: "needs exactly one of weight, tokens and repeat" });
    }
  });

/** One way to go through the same tokens, such as pretraining or annealing. */
const stageSchema = z
  .strictObject({
    /** Seed of the order. Left out: the run's. */
    seed: z.int().min(0).optional(),
    /**
     * "mixed" shuffles each source by itself and takes from all of them by their shares, without end; "olmo" shuffles one
     * list of all sequences with numpy's generator, as OLMo's trainer does.
     */
    order: z.enum(["mixed", "olmo"]).default("mixed"),
    /** By source; one that is not named is taken by its own weight, or once. */
    sources: z.record(z.string(), portionSchema).default({}),
  })
  .superRefine(({ order, sources }, context) => {
    const portions = Object.entries(sources);
    const byWeight = portions.some(([, { weight }]) => weight !== undefined);
    for (const [name, { weight, repeat }] of portions) {
      const message =
        order === "olmo" && repeat === undefined
          ? 'needs repeat, the order is "olmo"'
          : byWeight && weight === undefined
            ? "needs weight, as another source of the stage has"
            : undefined;
      if (message !== undefined) context.addIssue({ code: "custom", path: ["sources", name], message });
    }
  });

const DATA_FIELDS = {
  sources: z.array(sourceSchema).min(1),
  /** What is dropped, masked or cut, in order; see docs/data.md. */
  filters: filtersSchema.default([]),
  /** Documents and paragraphs that are there already. */
  deduplicate: dedupeSchema.prefault({}),
  /** Bytes of whole documents of each source that are kept apart for the held-out loss; 0 for none. */
  heldOutBytes: z.int().min(0).default(120_000),
  /** Seed of what is held out, of the text the tokenizer learns from and of the order of documents. Left out: the recipe's. */
  seed: z.int().min(0).optional(),
  /** A token file is closed before the document that would bring it to so many tokens (`dolma tokens --max_size`). */
  shardTokens: z
    .int()
    .min(1)
    .default(2 ** 31),
  /** Files of a source are read together in one task up to so many bytes. */
  taskBytes: z
    .int()
    .min(1)
    .default(128 * 2 ** 20),
  /** Ways to go through the tokens, by name. */
  stages: z.record(recipeName, stageSchema).default({}),
};

type Checked = z.RefinementCtx;

/** Repetitions are counted in tokens, while documents are read: a tokenizer that is trained on them comes too late. */
export function checkTokenFilters(
  filters: z.output<typeof filtersSchema>,
  tokenizer: z.output<typeof tokenizerSchema>,
  path: readonly string[],
  context: Checked,
): void {
  const index = filters.findIndex(({ kind }) => kind === "repetition");
  if (index === -1 || tokenizer.file !== undefined) return;
  const message =
    "repetition counts tokens, it needs tokenizer.file; train.instanceFilter masks repetitions without it";
  context.addIssue({ code: "custom", path: [...path, index], message });
}

/** Names of sources are unique, and what names a source names one that is there. */
function checkNames(data: z.output<z.ZodObject<typeof DATA_FIELDS>>, context: Checked): void {
  const names = data.sources.map(({ name }) => name);
  for (const [index, name] of names.entries()) {
    const first = names.indexOf(name);
    const message = `"${name}", is the name of source ${first} already`;
    if (first < index) context.addIssue({ code: "custom", path: ["sources", index, "name"], message });
  }
  for (const [index, filter] of data.filters.entries()) {
    const unknown = filter.sources?.find((name) => !names.includes(name));
    const message = `"${unknown}", no such source, expected some of ${names.join(", ")}`;
    if (unknown !== undefined) context.addIssue({ code: "custom", path: ["filters", index, "sources"], message });
  }
  for (const [stage, { sources }] of Object.entries(data.stages)) {
    for (const name of Object.keys(sources)) {
      const message = `no such source, expected one of ${names.join(", ")}`;
      if (!names.includes(name))
        context.addIssue({ code: "custom", path: ["stages", stage, "sources", name], message });
    }
    if (names.every((name) => sources[name]?.weight === 0)) {
      const message = "all sources have weight 0, nothing is left to train on";
      context.addIssue({ code: "custom", path: ["stages", stage, "sources"], message });
    }
  }
}

/** The data of a training run: as in a recipe of data, which `recipe` or `folder` may stand for in the file. */
export const dataSchema = z
  .strictObject({
    ...DATA_FIELDS,
    /** Relative paths of this part start here; itself relative to the recipe. */
    baseDirectory: z.string().min(1).optional(),
    /** Data that is there already, made by `olmoe data build` or listed by `olmoe data index`; relative to the recipe. */
    folder: z.string().min(1).optional(),
    /** Which of `stages` is trained on. Left out: all sources by their own weights. */
    stage: z.string().min(1).optional(),
  })
  .superRefine((data, context) => {
    checkNames(data, context);
    const names = Object.keys(data.stages);
    if (data.stage === undefined || names.includes(data.stage)) return;
    const message = `"${data.stage}", expected one of stages: ${names.join(", ") || "there are none"}`;
    context.addIssue({ code: "custom", path: ["stage"], message });
  });

export const tokenizerSchema = z
  .strictObject({
    /** A Hugging Face tokenizer.json to use. */
    file: z.string().min(1).optional(),
    /** Entries of a byte-level BPE trained on the recipe's own text. */
    vocabSize: z.int().min(257).optional(),
    /** Bytes of each source the BPE is trained on. */
    trainBytes: z.int().min(1).default(1_200_000),
  })
  .superRefine((tokenizer, context) => {
    if ((tokenizer.file === undefined) === (tokenizer.vocabSize === undefined)) {
      context.addIssue({ code: "custom", path: [], message: "needs exactly one of file and vocabSize" });
    }
  });

/** A recipe of data alone. */
const dataRecipeSchema = z
  .strictObject({ ...DATA_FIELDS, name: recipeName, seed: recipeSeed, tokenizer: tokenizerSchema })
  .superRefine((recipe, context) => {
    checkNames(recipe, context);
    checkTokenFilters(recipe.filters, recipe.tokenizer, ["filters"], context);
  });

export type DataFields = z.output<typeof dataSchema>;
export type StageRecipe = z.output<typeof stageSchema>;
export type TokenizerRecipe = z.output<typeof tokenizerSchema>;
export type DataRecipe = z.output<typeof dataRecipeSchema>;

/** The recipe of data alone that a training recipe's part stands for. */
export function dataRecipeOf({
  name,
  seed,
  tokenizer,
  data,
}: {
  readonly name: string;
  readonly seed: number;
  readonly tokenizer: TokenizerRecipe;
  readonly data: DataFields;
}): DataRecipe {
  const { baseDirectory: _, folder: __, stage: ___, ...fields } = data;
  return { ...fields, name, seed: data.seed ?? seed, tokenizer };
}

/**
 * Checks a recipe of data and fills in defaults.
 * @param place the file it came from, for messages.
 * @throws ConfigError listing every fault.
 */
export function parseDataRecipe(value: unknown, place = "recipe"): DataRecipe {
  return parseConfig(dataRecipeSchema, value, place, "see docs/data.md for every key");
}
