/**
 * Interventions on routing, as data: what the router of a running model decides is changed, per layer and per range of
 * tokens of one sequence. What each kind does, and in which order, is in nn/intervention.ts and docs/routing.md.
 */
import { z } from "zod";
import { moeLayers } from "./architecture.ts";
import { parseConfig } from "./check.ts";
import type { ModelConfig } from "./model.ts";

const count = z.int().min(0);
/** Larger ones would soon be infinite in f32. */
const value = z.number().min(-1e6).max(1e6);
/** In one list: what holds of them together is checked for every range of tokens and layer. */
const MOST_INTERVENTIONS = 256;

/** Where an intervention holds. */
const PLACE = {
  /** Layers of the model, numbered from 0. */
  layers: z
    .union([z.literal("all"), z.array(count).min(1).readonly()], { error: 'expected "all" or a list of layers' })
    .default("all"),
  /** Positions in the sequence, from 0: from the first to the one before `to`. Without `to`: to the end. */
  tokens: z.strictObject({ from: count.default(0), to: z.int().min(1).optional() }).prefault({}),
};

const expertList = z
  .array(count)
  .min(1)
  .superRefine((experts, context) => {
    const seen = new Set<number>();
    for (const [index, expert] of experts.entries()) {
      if (seen.has(expert)) fault(context, [index], `${expert}, is in the list already`);
      seen.add(expert);
    }
  })
  .readonly();

/** The experts can not be chosen: the router is that of a model without them. */
const mask = z.strictObject({ kind: z.literal("mask"), experts: expertList, ...PLACE });

/** The experts are always among the chosen. */
const force = z.strictObject({
  kind: z.literal("force"),
  experts: expertList,
  /** What multiplies the output of each; default: what its probability comes to. */
  weight: value.optional(),
  ...PLACE,
});

/** Added to the experts' logits. */
const bias = z.strictObject({ kind: z.literal("bias"), experts: expertList, value, ...PLACE });

/** A factor on what multiplies the experts' outputs. */
const scale = z.strictObject({ kind: z.literal("scale"), experts: expertList, factor: value, ...PLACE });

/** Another number of experts for each token. */
const topK = z.strictObject({ kind: z.literal("top_k"), k: z.int().min(1), ...PLACE });

/** What all logits are divided by. */
const temperature = z.strictObject({ kind: z.literal("temperature"), value: z.number().min(1e-6).max(1e6), ...PLACE });

/** Whoever was sent to one of the two goes to the other, with the same weight. */
const swap = z.strictObject({
  kind: z.literal("swap"),
  experts: z.tuple([count, count], { error: "expected two experts" }).readonly(),
  ...PLACE,
});

/** Control: experts drawn at random in place of the chosen ones, which leave them their weights. */
const random = z.strictObject({ kind: z.literal("random"), seed: z.int().default(0), ...PLACE });

/** Control: the chosen experts have equal weights, of the same sum. */
const uniform = z.strictObject({ kind: z.literal("uniform"), ...PLACE });

const KINDS = [mask, force, bias, scale, topK, temperature, swap, random, uniform] as const;

/** The experts of one sequence of a trace. */
const routeSchema = z.strictObject({
  /** L layers with experts. */
  layers: z.array(count).min(1).readonly(),
  positions: z.int().min(1),
  /** S: most experts of a token. */
  slots: z.int().min(1),
  /** [L, positions, S], -1 in a slot without an expert. Where all slots are empty nothing is known: the router chooses. */
  experts: z.custom<Int16Array>((value) => value instanceof Int16Array, "expected an Int16Array"),
  /** [L, positions, S] what multiplies the experts' outputs; left out: what the router's own probabilities come to. */
  weights: z.custom<Float32Array>((value) => value instanceof Float32Array, "expected a Float32Array").optional(),
});
export type RecordedRoute = Readonly<z.output<typeof routeSchema>>;

/** The experts of a recorded trace in place of the router's choice, by position; beyond its end the router chooses. */
const replay = z.strictObject({ kind: z.literal("replay"), trace: routeSchema, ...PLACE });

/** The same in a file. */
const replayOfFile = z.strictObject({
  kind: z.literal("replay"),
  /** A trace file; relative to the file of interventions. */
  trace: z.string().min(1),
  /** Which of its sequences. */
  sequence: count.default(0),
  /** Whose weights the experts have: those of the router's own probabilities, or the recorded ones. */
  weights: z.enum(["own", "recorded"]).default("own"),
  ...PLACE,
});

const inMemory = z.discriminatedUnion("kind", [...KINDS, replay]);
const inFile = z.discriminatedUnion("kind", [...KINDS, replayOfFile]);

/** An intervention with its defaults filled in. */
export type Intervention = Readonly<z.output<typeof inMemory>>;
/** An intervention as callers give it. */
export type InterventionInput = Readonly<z.input<typeof inMemory>>;
/** An intervention of a file: a replay names its trace. */
export type FileIntervention = Readonly<z.output<typeof inFile>>;
export type TokenRange = Intervention["tokens"];

type Context = z.core.$RefinementCtx;

function fault(context: Context, path: readonly (string | number)[], message: string): void {
  context.addIssue({ code: "custom", path: [...path], message });
}

/** What can be checked without a model. */
function checkAlone(interventions: readonly (Intervention | FileIntervention)[], context: Context): void {
  for (const [index, { tokens, ...intervention }] of interventions.entries()) {
    if (tokens.to !== undefined && tokens.to <= tokens.from) {
      fault(context, [index, "tokens", "to"], `${tokens.to}, must be above from (${tokens.from}): the range is empty`);
    }
    if (intervention.kind === "swap" && intervention.experts[0] === intervention.experts[1]) {
      fault(context, [index, "experts"], `${intervention.experts[0]} twice, expected two experts`);
    }
  }
}

/**
 * Checks the content of a file of interventions, as far as it can be without the model.
 * @throws ConfigError listing every fault.
 */
export function parseInterventionFile(value: unknown, place: string): readonly FileIntervention[] {
  const schema = z.strictObject({ interventions: z.array(inFile).max(MOST_INTERVENTIONS).superRefine(checkAlone) });
  return parseConfig(schema, value, place).interventions;
}

/**
 * Checks interventions for a model and fills in defaults.
 * @param place what is read, for the message.
 * @throws ConfigError listing every fault: what is no intervention, layers and experts that the model does not have, too
 *   few experts left or too many asked for, a model whose tokens do not choose experts.
 */
export function checkInterventions(
  interventions: readonly InterventionInput[],
  config: ModelConfig,
  place: string,
): readonly Intervention[] {
  const list = z
    .array(inMemory)
    .max(MOST_INTERVENTIONS)
    .superRefine((parsed, context) => {
      checkAlone(parsed, context);
      checkForModel(parsed, config, context);
    });
  return parseConfig(z.strictObject({ interventions: list }), { interventions }, place).interventions;
}

function checkForModel(interventions: readonly Intervention[], config: ModelConfig, context: Context): void {
  if (interventions.length === 0) return;
  if (config.mlpType === "dense") {
    fault(context, [], "the model has no experts, there is no routing to change");
    return;
  }
  if (config.routing === "expert_choice") {
    fault(context, [], 'the model\'s experts choose their tokens (routing "expert_choice"), expected "token_choice"');
    return;
  }
  const layers = moeLayers(config);
  for (const [index, intervention] of interventions.entries()) {
    checkPlaces(index, intervention, { layers, config, context });
    if (intervention.kind === "replay") checkRoute(index, intervention.trace, { layers, config, context });
  }
  const told = new Set<string>();
  for (const layer of layers) {
    const there = interventions.map((one) => (holdsInLayer(one, layer) ? one : undefined));
    const bounds = there.flatMap((one) => (one === undefined ? [] : [one.tokens.from, one.tokens.to ?? 0]));
    for (const position of new Set(bounds)) {
      const active = there.map((one) => (one !== undefined && inRange(one.tokens, position) ? one : undefined));
      checkTogether(active, layer, config, (path, message) => {
        // The same fault in many layers and ranges is one fault.
        if (!told.has(path.join())) fault(context, path, message);
        told.add(path.join());
      });
    }
  }
}

/** Whether an intervention is about a layer. */
export function holdsInLayer({ layers }: Pick<Intervention, "layers">, layer: number): boolean {
  return layers === "all" || layers.includes(layer);
}

/** Whether a position lies in a range. */
export function inRange({ from, to = Number.POSITIVE_INFINITY }: TokenRange, position: number): boolean {
  return from <= position && position < to;
}

interface ModelCheck {
  /** With experts. */
  readonly layers: readonly number[];
  readonly config: ModelConfig;
  readonly context: Context;
}

/** Layers and experts that are not there. */
function checkPlaces(index: number, intervention: Intervention, { layers, config, context }: ModelCheck): void {
  const { numHiddenLayers, numExperts } = config;
  for (const [place, layer] of intervention.layers === "all" ? [] : intervention.layers.entries()) {
    if (layer >= numHiddenLayers) {
      fault(context, [index, "layers", place], `${layer}, the model has layers 0..${numHiddenLayers - 1}`);
    } else if (!layers.includes(layer)) {
      fault(
        context,
        [index, "layers", place],
        `${layer}, a layer without experts; those with are ${layers.join(", ")}`,
      );
    }
  }
  for (const [place, expert] of "experts" in intervention ? intervention.experts.entries() : []) {
    if (expert < numExperts) continue;
    fault(context, [index, "experts", place], `${expert}, the model has experts 0..${numExperts - 1}`);
  }
  if (intervention.kind === "top_k" && intervention.k > numExperts) {
    fault(context, [index, "k"], `${intervention.k}, the model has ${numExperts} experts in a layer`);
  }
}

/** A route that is not of this model. Only its first wrong expert is told. */
function checkRoute(index: number, route: RecordedRoute, { layers, config, context }: ModelCheck): void {
  const { positions, slots, experts, weights } = route;
  const { numExperts } = config;
  const wrong = (key: string, message: string) => fault(context, [index, "trace", key], message);
  const strange = route.layers.find((layer) => !layers.includes(layer));
  if (strange !== undefined) wrong("layers", `${strange}, the layers with experts are ${layers.join(", ")}`);
  if (slots > numExperts) wrong("slots", `${slots}, the model has ${numExperts} experts in a layer`);
  const size = route.layers.length * positions * slots;
  if (experts.length !== size) wrong("experts", `${experts.length} of them, expected ${size}`);
  if (weights !== undefined && weights.length !== size) wrong("weights", `${weights.length} of them, expected ${size}`);
  if (weights?.some((weight) => !Number.isFinite(weight))) wrong("weights", "NaN or infinite, expected numbers");
  const place = experts.findIndex((expert, at) => {
    if (expert < -1 || expert >= numExperts) return true;
    return expert >= 0 && experts.subarray(at - (at % slots), at).includes(expert);
  });
  if (place < 0) return;
  const twice = (experts[place] as number) >= 0 && (experts[place] as number) < numExperts ? " twice" : "";
  const where = `at position ${Math.floor(place / slots) % positions}`;
  wrong(
    "experts",
    `${experts[place]}${twice} ${where}, expected different ones of 0..${numExperts - 1}, or -1 for none`,
  );
}

/** What the interventions on one token come to together. @param active undefined for those that are not about it. */
function checkTogether(
  active: readonly (Intervention | undefined)[],
  layer: number,
  { numExperts, numExpertsPerTok }: ModelConfig,
  tell: (path: readonly (string | number)[], message: string) => void,
): void {
  const masked = new Set<number>();
  const forced = new Set<number>();
  let [most, recorded] = [numExpertsPerTok, numExperts];
  for (const one of active) {
    if (one?.kind === "mask") for (const expert of one.experts) masked.add(expert);
    if (one?.kind === "force") for (const expert of one.experts) forced.add(expert);
    if (one?.kind === "top_k") most = one.k;
    if (one?.kind === "replay") recorded = one.trace.slots;
  }
  const left = numExperts - masked.size;
  if (left < 1) {
    const last = active.findLastIndex((one) => one?.kind === "mask");
    tell([last, "experts"], `masks the last of ${numExperts} experts of layer ${layer}, one must be left`);
    return;
  }
  const slots = Math.min(most, recorded, left);
  for (const [index, one] of active.entries()) {
    const both = one?.kind === "force" ? one.experts.find((expert) => masked.has(expert)) : undefined;
    if (both !== undefined) tell([index, "experts"], `${both}, is masked in layer ${layer}`);
  }
  if (forced.size <= slots) return;
  const last = active.findLastIndex((one) => one?.kind === "force");
  tell([last, "experts"], `makes ${forced.size} forced experts of layer ${layer}, a token has ${slots}`);
}
