/** Interventions as data, from what is typed into dials. */

export const DIALS = {
  mask: "Mask experts",
  force: "Force experts",
  bias: "Bias experts",
  scale: "Scale experts",
  swap: "Swap two experts",
  top_k: "Experts of a token",
  temperature: "Router temperature",
  random: "Random routing",
  uniform: "Equal weights",
} as const;
export type DialKind = keyof typeof DIALS;

export interface Dial {
  readonly kind: DialKind;
  /** As typed: "" or "all", or layers such as "0, 3-5". */
  readonly layers: string;
  /** As typed. */
  readonly experts: string;
  readonly value: number;
  readonly on: boolean;
}

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

/** The data that a dial stands for. @throws an Error that says what is missing. */
export function interventionOf({ kind, layers, experts, value }: Dial): Record<string, unknown> {
  const all = /^\s*(all)?\s*$/.test(layers);
  const chosen = all ? "all" : readNumbers(layers);
  if (chosen === undefined)
    throw new Error(`${DIALS[kind]}: layers "${layers}", expected all, or numbers such as 0, 3-5`);
  const data: Record<string, unknown> = { kind, layers: chosen };
  if (HAS_EXPERTS.includes(kind)) {
    const list = readNumbers(experts);
    if (list === undefined) throw new Error(`${DIALS[kind]}: experts "${experts}", expected numbers such as 3, 12`);
    data.experts = list;
  }
  const number = NUMBERS[kind];
  if (number !== undefined) data[number.key] = value;
  return data;
}
