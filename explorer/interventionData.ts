/** Interventions as data, from what is typed into dials. */
import type { Trace } from "../src/formats/trace.ts";
import { routeOf } from "../src/formats/traceRoute.ts";

export const DIALS = {
  mask: "Mask experts",
  force: "Force experts",
  bias: "Bias experts",
  scale: "Scale experts",
  swap: "Swap two experts",
  top_k: "Experts of a token",
  temperature: "Router temperature",
  replay: "Replay routing",
  random: "Random routing",
  uniform: "Equal weights",
} as const;
export type DialKind = keyof typeof DIALS;

export interface Dial {
  readonly kind: DialKind;
  /** As typed: "" or "all", or layers such as "0, 3-5". */
  readonly layers: string;
  /** As typed: "" or "all", or positions such as "0-11", "12-" or "5"; the last one belongs to them. */
  readonly tokens: string;
  /** As typed. */
  readonly experts: string;
  readonly value: number;
  /** Name of the trace that is replayed, and which of its sequences. */
  readonly trace: string;
  readonly sequence: number;
  readonly on: boolean;
}

/** What a dial stands for: as in a file of interventions, where a replay names its trace. */
export type DialData = Readonly<Record<string, unknown>> & { readonly kind: DialKind };

export const HAS_EXPERTS: readonly DialKind[] = ["mask", "force", "bias", "scale", "swap"];
/** What a dial's number is called in the data, and where it starts, ends and stands at first. */
export const NUMBERS: Readonly<
  Partial<Record<DialKind, { key: string; name: string; least: number; most: number; step: number; first: number }>>
> = {
  bias: { key: "value", name: "added to the logits", least: -10, most: 10, step: 0.5, first: 2 },
  scale: { key: "factor", name: "times the output", least: 0, most: 4, step: 0.1, first: 0.5 },
  top_k: { key: "k", name: "experts", least: 1, most: 64, step: 1, first: 1 },
  temperature: { key: "value", name: "divides the logits", least: 0.1, most: 5, step: 0.1, first: 2 },
};

const isAll = (text: string) => /^\s*(all)?\s*$/.test(text);

/** Reads "0, 3-5" as numbers. @returns undefined for anything else. */
function readNumbers(text: string): number[] | undefined {
  const numbers: number[] = [];
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const [, from, to = from] = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(part) ?? [];
    if (from === undefined || Number(to) < Number(from) || Number(to) - Number(from) > 4096) return undefined;
    for (let number = Number(from); number <= Number(to); number++) numbers.push(number);
  }
  return numbers.length > 0 ? [...new Set(numbers)] : undefined;
}

/** Reads "0-11", "12-" or "5" as a range, whose `to` is the position after the last. @returns undefined for anything else. */
function readRange(text: string): { readonly from: number; readonly to?: number } | undefined {
  const [, from, dash, last = dash === undefined ? from : undefined] =
    /^\s*(\d{1,9})\s*(?:(-)\s*(\d{1,9})?)?\s*$/.exec(text) ?? [];
  if (from === undefined) return undefined;
  if (last === undefined) return { from: Number(from) };
  return Number(last) < Number(from) ? undefined : { from: Number(from), to: Number(last) + 1 };
}

/** The data that a dial stands for. @throws an Error that says what is missing. */
export function interventionOf({ kind, layers, tokens, experts, value, trace, sequence }: Dial): DialData {
  const fault = (what: string, expected: string) => new Error(`${DIALS[kind]}: ${what}, expected ${expected}`);
  const chosen = isAll(layers) ? "all" : readNumbers(layers);
  if (chosen === undefined) throw fault(`layers "${layers}"`, "all, or numbers such as 0, 3-5");
  const range = isAll(tokens) ? "all" : readRange(tokens);
  if (range === undefined) throw fault(`tokens "${tokens}"`, "all, or positions such as 0-11, 12- or 5");
  const data: Record<string, unknown> = { layers: chosen };
  if (range !== "all") data.tokens = range;
  if (HAS_EXPERTS.includes(kind)) {
    const list = readNumbers(experts);
    if (list === undefined) throw fault(`experts "${experts}"`, "numbers such as 3, 12");
    data.experts = list;
  }
  const number = NUMBERS[kind];
  if (number !== undefined) data[number.key] = value;
  if (kind === "replay") {
    if (trace === "") throw fault("no trace", "one that is open");
    Object.assign(data, { trace, sequence });
  }
  return { kind, ...data };
}

/**
 * Interventions as the server takes them: a replay has the route itself, its array as a list of numbers.
 * @param open traces that replays may name.
 * @throws an Error for a trace that is not open, or a sequence that it does not have; what reading it throws.
 */
export async function withRoutes(
  interventions: readonly DialData[],
  open: readonly { readonly name: string; readonly trace: Trace }[],
): Promise<DialData[]> {
  return Promise.all(
    interventions.map(async (data) => {
      if (data.kind !== "replay") return data;
      const { trace: name, sequence, ...rest } = data as DialData & { readonly sequence: number };
      const found = open.find((one) => one.name === name);
      if (found === undefined) throw new Error(`${DIALS.replay}: trace "${name}", expected one that is open`);
      const route = await routeOf(found.trace, sequence, false);
      if (route === undefined) throw new Error(`${DIALS.replay}: sequence ${sequence}, "${name}" has no such sequence`);
      return { ...rest, trace: { ...route, experts: Array.from(route.experts) } };
    }),
  );
}
