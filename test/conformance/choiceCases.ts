/** Cases of routing beside the plain top-k: experts that choose tokens, and experts that are full. */
import {
  Draw,
  ELEMENTWISE,
  EXACT,
  input,
  type KernelCase,
  kernelCase,
  overwritten,
  overwrittenIds,
  updated,
} from "./harness.ts";

const draw = new Draw(17);

export interface ChoiceSizes {
  readonly groups?: number;
  /** Tokens of a group. */
  readonly length: number;
  readonly experts: number;
  /** Tokens that an expert takes of a group. */
  readonly capacity: number;
  /** Probabilities: random; few different ones, so that ties are common; all zero; tiny; huge; or every fifth one NaN. */
  readonly probs?: "random" | "tied" | "zero" | "tiny" | "huge" | "NaN";
}

export function expertChoiceCase(sizes: ChoiceSizes): KernelCase {
  const { groups = 1, length, experts, capacity, probs: kind = "random" } = sizes;
  const slots = groups * length * experts;
  const change: Record<typeof kind, (value: number, slot: number) => number> = {
    random: (value) => value,
    tied: (value) => Math.round(4 * value) / 4,
    zero: () => 0,
    tiny: (value, slot) => (slot % 2 === 0 ? 0 : value * 1e-44),
    huge: (value, slot) => (slot % 7 === 0 ? Number.POSITIVE_INFINITY : value * 3e38),
    NaN: (value, slot) => (slot % 5 === 0 ? Number.NaN : value),
  };
  const operands = {
    probs: input(draw.floats(slots).map((value, slot) => change[kind](Math.abs(value), slot))),
    expertIds: overwrittenIds(slots),
    expertWeights: overwritten({ rows: 1, cols: slots }, EXACT),
  };
  return kernelCase("expertChoice", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.expertChoice(at.probs, at.expertIds, at.expertWeights, groups, length, experts, capacity),
  );
}

export interface DropSizes {
  readonly tokens: number;
  readonly experts: number;
  readonly topK: number;
  readonly capacity: number;
  /** Slots without an expert before anything is dropped. */
  readonly holes?: boolean;
}

export function dropOverflowCase(sizes: DropSizes): KernelCase {
  const { tokens, experts, topK, capacity, holes = false } = sizes;
  const chosen = draw.ints(tokens * topK, holes ? -1 : 0, experts - 1);
  const operands = { chosenIds: input(chosen), expertIds: overwrittenIds(tokens * topK) };
  return kernelCase("dropOverflow", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.dropOverflow(at.chosenIds, at.expertIds, tokens, experts, topK, capacity),
  );
}

export function maskSlotsCase(slots: number, inPlace: boolean): KernelCase {
  const ids = input(draw.ints(slots, -2, 3));
  const x = draw.floats(slots);
  // Where there is no expert the value may be anything.
  for (const [slot, id] of ids.values.entries()) if (id < 0) x[slot] = draw.pick([Number.NaN, 5, Infinity]);
  const operands = {
    expertIds: ids,
    x: inPlace ? updated(x, ELEMENTWISE) : input(x),
    y: inPlace ? null : overwritten({ rows: 1, cols: slots }, EXACT),
  };
  return kernelCase("maskSlots", `${slots}${inPlace ? " in place" : ""}`, operands, (kernels, at) =>
    kernels.maskSlots(at.expertIds, at.x, inPlace ? at.x : at.y, slots),
  );
}

const KINDS = ["random", "tied", "zero", "tiny", "huge", "NaN"] as const;

export const choiceCases: readonly KernelCase[] = [
  ...KINDS.flatMap((probs) =>
    [0, 1, 5, 16, 17].map((capacity) => expertChoiceCase({ groups: 2, length: 17, experts: 5, capacity, probs })),
  ),
  ...[1, 2, 8, 64, 257].flatMap((experts) =>
    [1, 3, 33].map((length) => expertChoiceCase({ groups: 3, length, experts, capacity: Math.ceil(length / 3) })),
  ),
  expertChoiceCase({ groups: 0, length: 8, experts: 4, capacity: 2 }),
  expertChoiceCase({ length: 0, experts: 4, capacity: 0 }),
  expertChoiceCase({ length: 1000, experts: 3, capacity: 400, probs: "tied" }),
  ...[0, 1, 3, 7, 1000].flatMap((capacity) =>
    [false, true].map((holes) => dropOverflowCase({ tokens: 13, experts: 5, topK: 3, capacity, holes })),
  ),
  dropOverflowCase({ tokens: 0, experts: 5, topK: 3, capacity: 1 }),
  dropOverflowCase({ tokens: 9, experts: 1, topK: 1, capacity: 4 }),
  dropOverflowCase({ tokens: 300, experts: 64, topK: 8, capacity: 30 }),
  ...[0, 1, 33].flatMap((slots) => [false, true].map((inPlace) => maskSlotsCase(slots, inPlace))),
];
