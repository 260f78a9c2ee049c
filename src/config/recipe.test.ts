import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { tinyRecipe } from "../../test/tinyRecipe.ts";
import { ConfigError } from "../errors.ts";
import { DEFAULT_INCLUDE } from "./dataSources.ts";
import { presetNames, resolveModel } from "./presets.ts";
import { readRecipe } from "./recipe.io.ts";
import { parseRecipe } from "./recipe.ts";

const HINT = "see docs/configuration.md for every key";

type Changes = Readonly<Record<string, unknown>>;

/** Expects one error that lists these faults and nothing else. */
function expectFaults(value: unknown, ...faults: string[]): void {
  const list =
    faults.length === 1 ? faults[0] : `${faults.length} faults\n${faults.map((line) => `  - ${line}`).join("\n")}`;
  expect(() => parseRecipe(value, "my.yaml")).toThrow(new ConfigError(`my.yaml: ${list}`, { hint: HINT }));
}

const source = (changes: Changes) => ({ data: { sources: [{ name: "a", path: "a", ...changes }] } });
const optimizer = (changes: Changes) => ({ train: { optimizer: changes } });
const schedule = (changes: Changes) => ({ train: { schedule: changes } });
const PRESETS = presetNames.map((name) => `"${name}"`).join("|");

describe("a recipe with one fault", () => {
  it.each<[Changes, string]>([
    // Misspelt keys.
    [{ trian: {} }, 'trian: unknown key, did you mean "train"?'],
    [{ train: { step: 3 } }, 'train.step: unknown key, did you mean "steps"?'],
    [optimizer({ weight_decay: 1 }), 'train.optimizer.weight_decay: unknown key, did you mean "weightDecay"?'],
    [{ train: { loss: { balnce: 0 } } }, 'train.loss.balnce: unknown key, did you mean "balance"?'],
    [{ model: { numExpert: 3 } }, 'model.numExpert: unknown key, did you mean "numExperts"?'],
    [{ model: { hidden_size: 3 } }, 'model.hidden_size: unknown key, did you mean "hiddenSize"?'],
    [schedule({ learningRate: 3 }), "train.schedule.learningRate: unknown key"],
    [source({ url: "x" }), "data.sources.0.url: unknown key"],
    // Types and numbers.
    [{ train: { steps: undefined } }, "train.steps: missing, expected number"],
    [{ train: { steps: "24" } }, 'train.steps: "24", expected number, received string'],
    [{ train: { steps: 24.5 } }, "train.steps: 24.5, expected int, received number"],
    [{ train: { steps: 0 } }, "train.steps: 0, expected number to be >=1"],
    [{ train: { steps: -1 } }, "train.steps: -1, expected number to be >=1"],
    [{ train: { steps: Number.NaN } }, "train.steps: NaN, expected number, received NaN"],
    [{ train: { steps: Number.POSITIVE_INFINITY } }, "train.steps: Infinity, expected number, received Infinity"],
    [{ train: { steps: 1e300 } }, "train.steps: 1e+300, expected int to be <=9007199254740991"],
    [{ train: { documentMask: "yes" } }, 'train.documentMask: "yes", expected boolean, received string'],
    [{ train: { keep: 0 } }, "train.keep: 0, expected number to be >=1"],
    [{ train: { monitorEvery: 0 } }, "train.monitorEvery: 0, expected number to be >=1"],
    [{ train: { spikes: { window: 3 } } }, "train.spikes.window: 3, expected number to be >=4"],
    [{ train: { spikes: { threshold: 0 } } }, "train.spikes.threshold: 0, expected number to be >0"],
    [{ train: { spikes: { maxRewinds: 0 } } }, "train.spikes.maxRewinds: 0, expected number to be >=1"],
    [
      { train: { spikes: { action: "rewin" } } },
      'train.spikes.action: "rewin", expected one of "warn"|"rewind", did you mean "rewind"?',
    ],
    [{ train: { evalEvery: 0 } }, "train.evalEvery: 0, expected number to be >=1"],
    [optimizer({ lr: -1e-3 }), "train.optimizer.lr: -0.001, expected number to be >0"],
    [optimizer({ lr: "1e-3" }), 'train.optimizer.lr: "1e-3", expected number, received string'],
    [optimizer({ beta1: 1 }), "train.optimizer.beta1: 1, expected number to be <1"],
    [optimizer({ clipNorm: 0 }), "train.optimizer.clipNorm: 0, expected number to be >0"],
    [optimizer({ noDecay: "*norm*" }), 'train.optimizer.noDecay: "*norm*", expected array, received string'],
    [{ train: { optimizer: null } }, "train.optimizer: null, expected object, received null"],
    [
      schedule({ kind: "cosin" }),
      'train.schedule.kind: "cosin", expected one of "cosine"|"linear"|"constant", did you mean "cosine"?',
    ],
    [schedule({ finalRatio: 2 }), "train.schedule.finalRatio: 2, expected number to be <=1"],
    [{ train: { loss: { balance: -1 } } }, "train.loss.balance: -1, expected number to be >=0"],
    [{ seed: -1 }, "seed: -1, expected number to be >=0"],
    [{ name: "../x" }, 'name: "../x", must be lower-case letters, digits, - and _'],
    // What must fit together.
    [{ train: { microBatchSize: 3 } }, "train.microBatchSize: 3, must divide batchSize (4)"],
    [
      { train: { batchWarmup: [{ steps: 2, batchSize: 4 }] } },
      "train.batchWarmup.0.batchSize: 4, must be below train.batchSize (4)",
    ],
    [
      { train: { batchWarmup: [2, 1].map((batchSize) => ({ steps: 2, batchSize })) } },
      "train.batchWarmup.0.batchSize: 2, must be below the next stage's (1)",
    ],
    [
      { train: { microBatchSize: 2, batchWarmup: [{ steps: 2, batchSize: 3 }] } },
      "train.batchWarmup.0.batchSize: 3, must be a multiple of microBatchSize (2) or below",
    ],
    [
      { train: { batchWarmup: [{ steps: 24, batchSize: 1 }] } },
      "train.batchWarmup: takes 24 steps, must end before the last of 24 steps",
    ],
    [{ train: { batchWarmup: [{ steps: 2 }] } }, "train.batchWarmup.0.batchSize: missing, expected number"],
    [{ train: { batchWarmup: 3 } }, "train.batchWarmup: 3, expected array, received number"],
    [{ train: { freeze: "*norm*" } }, 'train.freeze: "*norm*", expected array, received string'],
    [{ train: { init: "run" } }, 'train.init: "run", expected object, received string'],
    [{ train: { init: {} } }, "train.init.from: missing, expected string"],
    [{ train: { batchSize: 1e12 } }, "train.batchSize: 1000000000000, must be at most 2097152 sequences of 32 tokens"],
    [{ train: { sequenceLength: 65 } }, "train.sequenceLength: 65, must be at most model.maxPositionEmbeddings (64)"],
    [{ train: { recompute: [0, 2] } }, "train.recompute: layer 2, the model has layers 0 to 1"],
    [{ train: { recompute: "al" } }, 'train.recompute: "al", expected "none", "all" or a list of layer numbers'],
    [{ train: { recompute: [-1] } }, "train.recompute.0: -1, expected number to be >=0"],
    // The model.
    [{ model: { preset: "nanno" } }, `model.preset: "nanno", expected one of ${PRESETS}, did you mean "nano"?`],
    [{ model: { numExpertsPerTok: 9 } }, "model.numExpertsPerTok: 9, must be at most numExperts (8)"],
    [{ model: { numExperts: 1e9 } }, "model.numExperts: 1000000000, in 2 layers; at most 262144 in all"],
    [{ model: { vocabSize: 300 } }, "model.vocabSize: 300, must be at least tokenizer.vocabSize (320), or left out"],
    [{ model: { hiddenSize: 33 } }, "model.hiddenSize: 33, must be a multiple of numAttentionHeads (2)"],
    [{ model: { mlpType: "dense" } }, 'model.numExperts: 8, must be 1 where mlpType is "dense"'],
    [{ model: { clipQkv: 0 } }, "model.clipQkv: 0, expected number to be >0"],
    // The text.
    [{ tokenizer: {} }, "tokenizer: needs exactly one of file and vocabSize"],
    [{ tokenizer: { vocabSize: 300, file: "x" } }, "tokenizer: needs exactly one of file and vocabSize"],
    [{ tokenizer: { vocabSize: 256 } }, "tokenizer.vocabSize: 256, expected number to be >=257"],
    [{ data: { sources: [] } }, "data.sources: [], expected array to have >=1 items"],
    [{ data: {} }, "data.sources: missing, expected array"],
    [source({ npm: "x@1.0.0" }), "data.sources.0: needs exactly one of npm, path and hub"],
    [{ data: { sources: [{ name: "a" }] } }, "data.sources.0: needs exactly one of npm, path and hub"],
    [source({ name: "Big" }), 'data.sources.0.name: "Big", must be lower-case letters, digits, - and _'],
    [source({ include: [] }), "data.sources.0.include: [], expected array to have >=1 items"],
    [source({ weight: 0 }), "data.sources.0.weight: 0, expected number to be >0"],
    [
      source({ format: "xml" }),
      'data.sources.0.format: "xml", expected one of "auto"|"text"|"markdown"|"html"|"jsonl"|"csv"|"parquet"|"email"|"dolma"',
    ],
    [source({ hub: "allenai/c4" }), "data.sources.0: needs exactly one of npm, path and hub"],
    [
      { data: { sources: [{ name: "a", hub: "../c4" }] } },
      'data.sources.0.hub: "../c4", must be the name of a dataset, such as "allenai/c4"',
    ],
    [source({ revision: "v1" }), "data.sources.0.revision: is of a hub source only"],
    [source({ attributes: ["pii"] }), 'data.sources.0.attributes: are read with format "dolma" only'],
  ])("%o names it", (changes, fault) => {
    expectFaults(tinyRecipe(changes), fault);
  });

  it("names the sources of equal name", () => {
    const sources = ["a", "b", "a"].map((name, index) => ({ name, path: `text${index}` }));
    expectFaults(tinyRecipe({ data: { sources } }), 'data.sources.2.name: "a", is the name of source 0 already');
  });
});

describe("a recipe with several faults", () => {
  it("lists all of them", () => {
    expectFaults(
      {
        ...tinyRecipe({ model: { numExperts: 4, numExpertsPerTok: 5, hiddenSize: 30, experts: 1 } }),
        seed: "x",
        tokenizer: {},
        train: { steps: 1, batchSize: 4, microBatchSize: 3, sequenceLength: 32, optimizer: { lr: 0 }, keeep: 1 },
        data: {
          sources: [
            { name: "a", path: "a" },
            { name: "a", npm: "a@1", path: "b" },
          ],
        },
      },
      'seed: "x", expected number, received string',
      "model.experts: unknown key",
      "model.numExpertsPerTok: 5, must be at most numExperts (4)",
      "model.hiddenSize: 30 / numAttentionHeads is odd, rotary positions need pairs of channels",
      "tokenizer: needs exactly one of file and vocabSize",
      "data.sources.1: needs exactly one of npm, path and hub",
      'data.sources.1.name: "a", is the name of source 0 already',
      "train.optimizer.lr: 0, expected number to be >0",
      'train.keeep: unknown key, did you mean "keep"?',
      "train.microBatchSize: 3, must divide batchSize (4)",
    );
  });

  it("says what is missing from nothing, and what is no recipe at all", () => {
    const parts = ["model", "tokenizer", "data", "train"].map((key) => `${key}: missing, expected object`);
    expectFaults({}, "name: missing, expected string", ...parts);
    expectFaults([], "(root): [], expected object, received array");
    expectFaults(null, "(root): null, expected object, received null");
  });
});

describe("parseRecipe", () => {
  it("writes out every default but the model's, which are its preset's", () => {
    const { model, ...rest } = parseRecipe(tinyRecipe({ seed: undefined, model: { normTopkProb: true } }));
    expect(model).toEqual({ preset: "tiny", normTopkProb: true });
    const defaults = {
      include: DEFAULT_INCLUDE,
      exclude: [],
      format: "auto",
      attributes: [],
      textField: "text",
      idField: "id",
      maxDocumentChars: null,
      maxBrokenShare: 0.01,
      weight: 1,
    };
    expect(rest).toEqual({
      name: "tiny-run",
      seed: 6198,
      tokenizer: { vocabSize: 320, trainBytes: 1_200_000 },
      data: {
        heldOutBytes: 700,
        shardTokens: 2 ** 31,
        taskBytes: 2 ** 27,
        stages: {},
        filters: [],
        deduplicate: { exact: true, near: null, paragraphs: null },
        sources: tinyRecipe().data.sources.map((one) => ({ ...one, ...defaults })),
      },
      train: {
        steps: 24,
        batchSize: 4,
        batchWarmup: [],
        sequenceLength: 32,
        precision: "f32",
        recompute: "none",
        documentMask: false,
        instanceFilter: null,
        freeze: [],
        optimizer: { lr: 5e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, noDecay: [], clipNorm: 1 },
        schedule: { kind: "cosine", warmupSteps: 4, warmupStartRatio: 0.1, finalRatio: 0.1 },
        loss: { crossEntropyOver: "tokens", balance: 0.01, balanceScale: "paper", z: 0.001, zScale: "megablocks" },
        monitorEvery: 100,
        trace: null,
        spikes: { window: 128, threshold: 6, action: "warn", maxRewinds: 3 },
        evalEvery: 6,
        evalTokens: 64,
        saveEvery: 3,
        keep: 2,
      },
    });
  });

  it("leaves the vocabulary and its special tokens to the tokenizer", () => {
    const whole = resolveModel({ preset: "tiny" });
    const { vocabSize: _, ...open } = whole;
    expect(() => parseRecipe({ ...tinyRecipe(), model: open })).not.toThrow();
    // The preset's own end of text has id 50,279, beyond these 320.
    expect(() => parseRecipe(tinyRecipe({ model: { preset: "olmoe-1b-7b" } }))).not.toThrow();
  });

  const folder = fileURLToPath(new URL("../../recipes/", import.meta.url));
  // Sweeps lie there too, and a recipe for data that is made first.
  const names = readdirSync(folder).filter((name) => {
    return name.endsWith(".yaml") && !/^base:|^ {2}folder:/m.test(readFileSync(join(folder, name), "utf8"));
  });
  it.each(names)("gives recipes/%s the same when done twice", async (name) => {
    const recipe = await readRecipe(join(folder, name));
    expect(parseRecipe(recipe)).toEqual(recipe);
    expect(parseRecipe(JSON.parse(JSON.stringify(recipe)))).toEqual(recipe);
  });

  it("throws nothing but its own error, whatever the value", () => {
    const keys = fc.constantFrom("name", "model", "tokenizer", "data", "train", "preset", "steps", "sources", "x");
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof({ maxDepth: 4 }, fc.anything(), fc.dictionary(keys, tie("value")), fc.array(tie("value"))),
    }));
    fc.assert(
      fc.property(value, (anything) => {
        try {
          parseRecipe({ ...tinyRecipe(), ...(anything as object) });
          parseRecipe(anything);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
        }
      }),
      { seed: 1, numRuns: 100 },
    );
  });
});
