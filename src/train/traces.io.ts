/** Routing traces of a run: the same held-out tokens again and again, and the tokens of a step as it trains on them. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Graph } from "../autograd/graph.ts";
import type { Routing } from "../autograd/ops/moe.ts";
import type { Backend } from "../backend/backend.ts";
import { moeLayers } from "../config/architecture.ts";
import type { Recipe, TrainRecipe } from "../config/recipe.ts";
import { type HeldOutText, heldOutWindows } from "../data/heldOut.ts";
import { parametersDigest, tokenizerDigest } from "../formats/modelDigest.io.ts";
import { namesIn } from "../formats/runFolder.io.ts";
import { TraceWriter } from "../formats/trace.io.ts";
import { cutRows, type TraceHeader, type TraceRows } from "../formats/trace.ts";
import type { TraceRowsOf } from "../formats/traceEncoder.ts";
import type { Decoder } from "../model/decoder.ts";
import { Arena } from "../tensor/arena.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { passSequences } from "./evaluate.ts";

/** Where a run's traces are. */
export const tracesOf = (directory: string) => join(directory, "traces");

/** The traces of a run's held-out text, by step. */
export async function heldOutTraces(directory: string): Promise<string[]> {
  const steps = (await namesIn(tracesOf(directory))).flatMap((name) => {
    const [, step] = /^step(\d+)-heldout[.]trace$/.exec(name) ?? [];
    return step === undefined ? [] : [Number(step)];
  });
  return steps.sort((a, b) => a - b).map((step) => join(tracesOf(directory), `step${step}-heldout.trace`));
}

export interface TrainingTracesOptions {
  /** The run's folder. */
  readonly directory: string;
  readonly recipe: Recipe;
  readonly heldOut: readonly HeldOutText[];
  readonly tokenizer: Tokenizer;
}

interface TracedRows {
  readonly of: TraceRowsOf;
  readonly rows: TraceRows;
}

/** The routing of a training step on its way to a file. */
export interface StepTrace {
  /** For `StepHooks.onRouting`. */
  readonly add: (routings: readonly Routing[], start: number) => void;
  /** @param trainedTokens of the model that did the step. */
  write(trainedTokens: number): Promise<void>;
}

/**
 * Writes `traces/step{N}-heldout.trace` and `traces/step{N}-training.trace` as `train.trace` asks for. A step that is done
 * again, because a run was interrupted or went back, writes its files again.
 */
export class TrainingTraces {
  readonly #backend: Backend;
  readonly #decoder: Decoder;
  readonly #options: TrainingTracesOptions;
  readonly #settings: NonNullable<TrainRecipe["trace"]>;
  /** Step of the newest trace of held-out text. */
  #traced = -1;

  constructor(backend: Backend, decoder: Decoder, options: TrainingTracesOptions) {
    if (options.recipe.train.trace === null) throw new Error("internal: traces that nobody asked for");
    this.#backend = backend;
    this.#decoder = decoder;
    this.#options = options;
    this.#settings = options.recipe.train.trace;
  }

  /** Traces held-out text where step `step` is done and due. @throws the signal's reason; ResourceError of the disk. */
  async ofHeldOut(step: number, trainedTokens: number, signal: AbortSignal | undefined): Promise<void> {
    const { heldOutTokens } = this.#settings;
    if (heldOutTokens === 0 || this.#options.heldOut.length === 0 || step === this.#traced || !this.#isDue(step))
      return;
    const parts: TracedRows[] = [];
    for (const text of this.#options.heldOut) {
      signal?.throwIfAborted();
      parts.push(...this.#heldOutRows(text, parts.length));
      // Lets signals and timers through.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const digest = parametersDigest(this.#decoder.parameters);
    await this.#write(`step${step}-heldout`, parts, digest, { origin: "evaluation", step, trainedTokens });
    this.#traced = step;
  }

  /** @returns undefined where step `step`, which is about to be done, is not traced. */
  ofStep(step: number, ids: Int32Array): StepTrace | undefined {
    if (!this.#settings.training || !this.#isDue(step)) return undefined;
    const { sequenceLength } = this.#options.recipe.train;
    const parts: TracedRows[] = [];
    // Of the weights that route these tokens: the step changes them before the file is written.
    const digest = parametersDigest(this.#decoder.parameters);
    return {
      add: (routings, start) => {
        const tokens = (routings[0] as Routing).expertIds.dim(0);
        const given = { ids: ids.subarray(start, start + tokens), routings, sequenceLength };
        parts.push(...sequenceRows(given, "training", start / sequenceLength));
      },
      write: (trainedTokens) =>
        this.#write(`step${step}-training`, parts, digest, { origin: "training", step: step - 1, trainedTokens }),
    };
  }

  #isDue(step: number): boolean {
    const { steps } = this.#options.recipe.train;
    return step % this.#settings.every === 0 || step === steps;
  }

  /** The first windows of a source's text. */
  #heldOutRows({ source, tokens }: HeldOutText, firstSequence: number): TracedRows[] {
    const { tokenizer, recipe } = this.#options;
    const { sequenceLength, documentMask } = recipe.train;
    const part = Array.from(tokens.subarray(0, this.#settings.heldOutTokens));
    const all = heldOutWindows(part, { sequenceLength, eosTokenId: tokenizer.eosTokenId });
    const rows: TracedRows[] = [];
    const perPass = passSequences(sequenceLength);
    const arena = new Arena(this.#backend);
    try {
      for (let first = 0; first < all.windows; first += perPass) {
        const windows = Math.min(perPass, all.windows - first);
        const inPass = (values: Int32Array) =>
          values.subarray(first * sequenceLength, (first + windows) * sequenceLength);
        arena.reset();
        const graph = new Graph(this.#backend, arena, { record: false });
        const ids = inPass(all.ids);
        const kvStart = documentMask ? inPass(all.kvStart) : undefined;
        const { routings } = this.#decoder.forward(graph, ids, { batch: windows, kvStart });
        rows.push(...sequenceRows({ ids, routings, sequenceLength }, source, firstSequence + first));
      }
    } finally {
      arena.dispose();
    }
    // The places after the end of the text hold no token.
    const unused = all.windows * sequenceLength - all.targets;
    const layers = moeLayers(this.#decoder.config).length;
    const last = rows.pop();
    return last === undefined
      ? []
      : [...rows, { of: last.of, rows: cutRows(last.rows, layers, 0, sequenceLength - unused) }];
  }

  async #write(
    name: string,
    parts: readonly TracedRows[],
    digest: string,
    of: Pick<TraceHeader, "origin" | "step" | "trainedTokens">,
  ): Promise<void> {
    const { directory, recipe, tokenizer } = this.#options;
    const { config } = this.#decoder;
    const header: TraceHeader = {
      model: { name: recipe.name, digest, vocabSize: config.vocabSize },
      tokenizer: { digest: tokenizerDigest(tokenizer.toJson()), vocabSize: tokenizer.vocabSize },
      numExperts: config.numExperts,
      topK: config.numExpertsPerTok,
      slots: config.routing === "expert_choice" ? config.numExperts : config.numExpertsPerTok,
      layers: moeLayers(config),
      columns: ["ids", "experts", "weights"],
      ...of,
    };
    await mkdir(tracesOf(directory), { recursive: true });
    const path = join(tracesOf(directory), `${name}.trace`);
    const writer = await TraceWriter.create(path, header, {
      tokenText: (id) => tokenizer.entry(id),
      existing: "replace",
    });
    for (const { of, rows } of parts) await writer.add(of, rows);
    await writer.close();
  }
}

interface Pass {
  /** [B * S] */
  readonly ids: Int32Array;
  readonly routings: readonly Routing[];
  /** S */
  readonly sequenceLength: number;
}

/** Each sequence of a pass by itself, copied. */
function sequenceRows({ ids, routings, sequenceLength }: Pass, source: string, first: number): TracedRows[] {
  const slots = (routings[0] as Routing).expertIds.dim(1);
  const width = sequenceLength * slots;
  return Array.from({ length: ids.length / sequenceLength }, (_, index) => {
    const experts = new Int16Array(routings.length * width);
    const weights = new Float32Array(routings.length * width);
    for (const [layer, { expertIds, expertWeights }] of routings.entries()) {
      experts.set(expertIds.data.subarray(index * width, (index + 1) * width), layer * width);
      weights.set(expertWeights.value.data.subarray(index * width, (index + 1) * width), layer * width);
    }
    const own = ids.slice(index * sequenceLength, (index + 1) * sequenceLength);
    const of = { sequence: first + index, source, position: 0 };
    return { of, rows: { tokens: sequenceLength, ids: own, experts, weights } };
  });
}
