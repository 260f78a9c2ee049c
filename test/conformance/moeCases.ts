/** Cases of the mixture of experts: plan, forward and backward. */
import type { Flag } from "../../src/backend/kernels.ts";
import {
  Draw,
  expected,
  input,
  type KernelCase,
  kernelCase,
  type Operand,
  overwritten,
  overwrittenIds,
  scratch,
  updated,
} from "./harness.ts";

const draw = new Draw(16);

/** How slots choose: at random, all the same expert, only the odd ones, or some not at all. */
export type Choice = "random" | "one expert" | "odd experts" | "dropped slots" | "all dropped";

export interface MoeSizes {
  readonly tokens: number;
  readonly experts: number;
  readonly topK: number;
  readonly width: number;
  readonly inner: number;
  readonly choice?: Choice;
}

/** Values of one call. */
export interface MoeInputs {
  readonly sizes: MoeSizes;
  readonly expertIds: Int32Array;
  readonly weights: Float32Array;
  readonly x: Float32Array;
  readonly gateUp: Float32Array;
  readonly down: Float32Array;
}

/** `topK` different experts for a token; the kernels do not ask for that, but it is what a router gives. */
function chooseExperts({ experts, topK }: MoeSizes): number[] {
  const ids = Array.from({ length: experts }, (_, e) => e);
  return Array.from({ length: topK }, () => ids.splice(draw.int(0, ids.length - 1), 1)[0]!);
}

function drawIds(sizes: MoeSizes): Int32Array {
  const { tokens, experts, topK, choice = "random" } = sizes;
  const ids = Array.from({ length: tokens }, () => chooseExperts(sizes)).flat();
  const change: Record<Choice, (id: number, slot: number) => number> = {
    random: (id) => id,
    "one expert": () => experts - 1,
    "odd experts": (id) => (id % 2 === 0 && id + 1 < experts ? id + 1 : id),
    "dropped slots": (id, slot) => (slot % 3 === 1 || slot < topK ? -1 : id),
    "all dropped": () => -1,
  };
  return Int32Array.from(ids, change[choice]);
}

export function moeInputs(sizes: MoeSizes): MoeInputs {
  const { tokens, experts, topK, width, inner } = sizes;
  return {
    sizes,
    expertIds: drawIds(sizes),
    weights: draw.floats(tokens * topK),
    x: draw.floats(tokens * width, 2),
    gateUp: draw.floats(experts * 2 * inner * width),
    down: draw.floats(experts * width * inner),
  };
}

/** The same call for one of its tokens alone. */
export function oneToken(inputs: MoeInputs, token: number): MoeInputs {
  const { topK, width } = inputs.sizes;
  return {
    ...inputs,
    sizes: { ...inputs.sizes, tokens: 1 },
    expertIds: inputs.expertIds.slice(token * topK, (token + 1) * topK),
    weights: inputs.weights.slice(token * topK, (token + 1) * topK),
    x: inputs.x.slice(token * width, (token + 1) * width),
  };
}

export function moePlanCase({ sizes, expertIds }: Pick<MoeInputs, "sizes" | "expertIds">): KernelCase {
  const { tokens, experts, topK } = sizes;
  const slots = tokens * topK;
  const operands = {
    expertIds: input(expertIds),
    offsets: overwrittenIds(experts + 1),
    rowSlot: overwrittenIds(slots, expertIds.filter((id) => id >= 0).length),
    slotRow: overwrittenIds(slots),
  };
  return kernelCase("moePlan", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.moePlan(at.expertIds, at.offsets, at.rowSlot, at.slotRow, tokens, experts, topK),
  );
}

export function moePlanOf(inputs: MoeInputs): { offsets: Operand; rowSlot: Operand; slotRow: Operand } {
  const { offsets, rowSlot, slotRow } = expected(moePlanCase(inputs)).operands;
  return { offsets: input(offsets!), rowSlot: input(rowSlot!), slotRow: input(slotRow!) };
}

/** Only the rows of the plan are compared, what follows them is free. */
function plannedRows(values: Float32Array, routed: number, cols: number): Operand {
  return { ...updated(values, undefined, { rows: routed, cols }), freeTail: true };
}

export function moeForwardCase(inputs: MoeInputs): KernelCase {
  const { tokens, experts, topK, width, inner } = inputs.sizes;
  const slots = tokens * topK;
  const routed = inputs.expertIds.filter((id) => id >= 0).length;
  const operands = {
    x: input(inputs.x),
    gateUp: input(inputs.gateUp),
    down: input(inputs.down),
    weights: input(inputs.weights),
    ...moePlanOf(inputs),
    hidden: plannedRows(new Float32Array(slots * 2 * inner).fill(Number.NaN), routed, 2 * inner),
    rows: scratch(slots * width),
    out: overwritten({ rows: tokens, cols: width }),
  };
  return kernelCase("moeForward", JSON.stringify(inputs.sizes), operands, (kernels, at) =>
    kernels.moeForward(
      at.x,
      at.gateUp,
      at.down,
      at.weights,
      at.offsets,
      at.rowSlot,
      at.slotRow,
      at.hidden,
      at.rows,
      at.out,
      tokens,
      experts,
      topK,
      width,
      inner,
    ),
  );
}

/** Takes hidden from the reference's forward pass. */
export function moeBackwardCase(
  inputs: MoeInputs,
  without: "dgateUp" | "ddown" | "both" | null = null,
  accumulate: Flag = 1,
): KernelCase {
  const { tokens, experts, topK, width, inner } = inputs.sizes;
  const slots = tokens * topK;
  const routed = inputs.expertIds.filter((id) => id >= 0).length;
  const hidden = expected(moeForwardCase(inputs)).operands.hidden!;
  const given = (name: string) => without !== name && without !== "both";
  const operands = {
    x: input(inputs.x),
    gateUp: input(inputs.gateUp),
    down: input(inputs.down),
    weights: input(inputs.weights),
    ...moePlanOf(inputs),
    dout: input(draw.floats(tokens * width)),
    hidden: plannedRows(Float32Array.from(hidden), routed, 2 * inner),
    rows: scratch(slots * width),
    activation: scratch(slots * inner),
    dx: overwritten({ rows: tokens, cols: width }),
    dweights: overwritten({ rows: tokens, cols: topK }),
    dgateUp: given("dgateUp") ? updated(draw.floats(experts * 2 * inner * width)) : null,
    ddown: given("ddown") ? updated(draw.floats(experts * width * inner)) : null,
  };
  const name = `${JSON.stringify(inputs.sizes)}${without === null ? "" : ` without ${without}`}${accumulate ? "" : " written over"}`;
  return kernelCase("moeBackward", name, operands, (kernels, at) =>
    kernels.moeBackward(
      at.x,
      at.gateUp,
      at.down,
      at.weights,
      at.offsets,
      at.rowSlot,
      at.slotRow,
      at.dout,
      at.hidden,
      at.rows,
      at.activation,
      at.dx,
      at.dweights,
      at.dgateUp,
      at.ddown,
      accumulate,
      accumulate,
      tokens,
      experts,
      topK,
      width,
      inner,
    ),
  );
}

const CHOICES: readonly Choice[] = ["random", "one expert", "odd experts", "dropped slots", "all dropped"];

const shapes: readonly MoeSizes[] = [
  ...CHOICES.map((choice) => ({ tokens: 17, experts: 8, topK: 2, width: 33, inner: 17, choice })),
  ...CHOICES.map((choice) => ({ tokens: 50, experts: 5, topK: 3, width: 16, inner: 48, choice })),
  { tokens: 1, experts: 64, topK: 8, width: 64, inner: 32 },
  { tokens: 3, experts: 64, topK: 8, width: 32, inner: 16 },
  { tokens: 1, experts: 1, topK: 1, width: 1, inner: 1 },
  { tokens: 5, experts: 1, topK: 1, width: 7, inner: 3 },
  { tokens: 7, experts: 4, topK: 4, width: 8, inner: 6 },
  { tokens: 100, experts: 3, topK: 1, width: 49, inner: 47 },
  { tokens: 257, experts: 2, topK: 1, width: 16, inner: 8 },
  { tokens: 20, experts: 6, topK: 2, width: 100, inner: 65 },
  { tokens: 1100, experts: 2, topK: 1, width: 9, inner: 5 },
  { tokens: 600, experts: 3, topK: 2, width: 7, inner: 6, choice: "one expert" },
  { tokens: 0, experts: 4, topK: 2, width: 8, inner: 8 },
];

const inputsOfShapes = shapes.map(moeInputs);

export const moeCases: readonly KernelCase[] = [
  ...inputsOfShapes.map(moePlanCase),
  ...[1, 3, 64, 300].flatMap((tokens) =>
    CHOICES.map((choice) => {
      const sizes = { tokens, experts: 64, topK: 8, width: 1, inner: 1, choice };
      return moePlanCase({ sizes, expertIds: drawIds(sizes) });
    }),
  ),
  ...inputsOfShapes.map(moeForwardCase),
  ...inputsOfShapes.map((inputs) => moeBackwardCase(inputs)),
  ...inputsOfShapes.map((inputs) => moeBackwardCase(inputs, null, 0)),
  ...(["dgateUp", "ddown", "both"] as const).map((without) => moeBackwardCase(inputsOfShapes[0]!, without)),
];
