/**
 * The mixture of experts: slots (token, choice) are sorted by expert, so that each expert works on a run of rows.
 * Dropless: every slot with an expert gets a row. Per row with token x, expert e and weight w:
 *   hidden = gate_up_e x, activation = silu(gate) * up, y = down_e activation, out = sum over the token's rows of w y.
 */
import type { Kernels } from "../kernels.ts";
import { type Floats, floatsOrNull, type Memory } from "./heap.ts";
import { swiglu, swigluGradient } from "./swiglu.ts";

export function moePlan(memory: Memory): Kernels["moePlan"] {
  return (expertIdsAt, offsetsAt, rowSlotAt, slotRowAt, tokens, experts, topK) => {
    const expertIds = memory.i32(expertIdsAt);
    const offsets = memory.i32(offsetsAt);
    const rowSlot = memory.i32(rowSlotAt);
    const slotRow = memory.i32(slotRowAt);
    const slots = tokens * topK;
    slotRow.fill(-1, 0, slots);
    let row = 0;
    for (let e = 0; e < experts; e++) {
      offsets[e] = row;
      for (let slot = 0; slot < slots; slot++) {
        if (expertIds[slot] !== e) continue;
        rowSlot[row] = slot;
        slotRow[slot] = row;
        row += 1;
      }
    }
    offsets[experts] = row;
  };
}

/** The rows of a plan with their expert, slot and token. */
export function* routedRows(offsets: Int32Array, rowSlot: Int32Array, experts: number, topK: number) {
  for (let e = 0; e < experts; e++) {
    for (let row = offsets[e]!; row < offsets[e + 1]!; row++) {
      const slot = rowSlot[row]!;
      yield { e, row, slot, token: Math.floor(slot / topK) };
    }
  }
}

/** Sum of a[i + l * aStep] * b[j + l * bStep] over `count` values of l. */
function dot(a: Floats, i: number, aStep: number, b: Floats, j: number, bStep: number, count: number): number {
  let sum = 0;
  for (let l = 0; l < count; l++) sum += a[i + l * aStep]! * b[j + l * bStep]!;
  return sum;
}

/** out[t] = sum over the token's rows, each times its weight, or times 1 where weights is null. */
export function sumOfSlots(
  rows: Floats,
  weights: Floats | null,
  slotRow: Int32Array,
  out: Floats,
  sizes: { readonly tokens: number; readonly topK: number; readonly width: number },
): void {
  const { tokens, topK, width } = sizes;
  for (let t = 0; t < tokens; t++) {
    for (let d = 0; d < width; d++) {
      let sum = 0;
      for (let slot = t * topK; slot < (t + 1) * topK; slot++) {
        const row = slotRow[slot]!;
        if (row >= 0) sum += (weights === null ? 1 : weights[slot]!) * rows[row * width + d]!;
      }
      out[t * width + d] = sum;
    }
  }
}

export function moeForward(memory: Memory): Kernels["moeForward"] {
  // biome-ignore format: the arguments in the groups of kernels.h
  return (
    xAt, gateUpAt, downAt, weightsAt, offsetsAt, rowSlotAt, slotRowAt, hiddenAt, rowsAt, outAt,
    tokens, experts, topK, width, inner,
  ) => {
    const x = memory.f32(xAt);
    const gateUp = memory.f32(gateUpAt);
    const down = memory.f32(downAt);
    const hidden = memory.f32(hiddenAt);
    const rows = memory.f32(rowsAt);
    const activation = new Float64Array(inner);
    for (const { e, row, token } of routedRows(memory.i32(offsetsAt), memory.i32(rowSlotAt), experts, topK)) {
      const gate = row * 2 * inner;
      for (let f = 0; f < 2 * inner; f++) {
        hidden[gate + f] = dot(gateUp, (e * 2 * inner + f) * width, 1, x, token * width, 1, width);
      }
      for (let f = 0; f < inner; f++) activation[f] = swiglu(hidden[gate + f]!, hidden[gate + inner + f]!);
      for (let d = 0; d < width; d++) {
        rows[row * width + d] = dot(down, (e * width + d) * inner, 1, activation, 0, 1, inner);
      }
    }
    const sizes = { tokens, topK, width };
    sumOfSlots(rows, memory.f32(weightsAt), memory.i32(slotRowAt), memory.f32(outAt), sizes);
  };
}

/**
 * With g = dout of the row's token: dweight = g . y = activation . (down_e^T g); ddown_e (+)= w g activation^T;
 * dactivation = w down_e^T g; through SwiGLU to dhidden; dgate_up_e (+)= dhidden x^T; dx = sum of gate_up_e^T dhidden.
 */
export function moeBackward(memory: Memory): Kernels["moeBackward"] {
  // biome-ignore format: the arguments in the groups of kernels.h
  return (
    xAt, gateUpAt, downAt, weightsAt, offsetsAt, rowSlotAt, slotRowAt, doutAt, hiddenAt, rowsAt, activationAt,
    dxAt, dweightsAt, dgateUpAt, ddownAt, accumulateGateUp, accumulateDown, tokens, experts, topK, width, inner,
  ) => {
    const x = memory.f32(xAt);
    const gateUp = memory.f32(gateUpAt);
    const down = memory.f32(downAt);
    const weights = memory.f32(weightsAt);
    const dout = memory.f32(doutAt);
    const hidden = memory.f32(hiddenAt);
    const rows = memory.f32(rowsAt);
    const activation = memory.f32(activationAt);
    const dweights = memory.f32(dweightsAt);
    const plan = [...routedRows(memory.i32(offsetsAt), memory.i32(rowSlotAt), experts, topK)];
    dweights.fill(0, 0, tokens * topK);
    for (const { e, row, slot, token } of plan) {
      const gate = row * 2 * inner;
      let dweight = 0;
      for (let f = 0; f < inner; f++) {
        const dy = dot(down, e * width * inner + f, inner, dout, token * width, 1, width);
        const y = swiglu(hidden[gate + f]!, hidden[gate + inner + f]!);
        const { dgate, dup } = swigluGradient(hidden[gate + f]!, hidden[gate + inner + f]!, weights[slot]! * dy);
        dweight += y * dy;
        activation[row * inner + f] = y;
        hidden[gate + f] = dgate;
        hidden[gate + inner + f] = dup;
      }
      dweights[slot] = dweight;
      for (let d = 0; d < width; d++) {
        rows[row * width + d] = dot(gateUp, e * 2 * inner * width + d, width, hidden, gate, 1, 2 * inner);
      }
    }
    sumOfSlots(rows, null, memory.i32(slotRowAt), memory.f32(dxAt), { tokens, topK, width });

    const dgateUp = floatsOrNull(memory, dgateUpAt);
    const ddown = floatsOrNull(memory, ddownAt);
    for (let e = 0; e < experts; e++) {
      const run = plan.filter((routed) => routed.e === e);
      const dhidden = run.map(({ row }) => hidden.subarray(row * 2 * inner, (row + 1) * 2 * inner));
      const input = run.map(({ token }) => x.subarray(token * width, (token + 1) * width));
      const output = run.map(({ slot, token }) =>
        Float64Array.from(dout.subarray(token * width, (token + 1) * width), (g) => weights[slot]! * g),
      );
      const act = run.map(({ row }) => activation.subarray(row * inner, (row + 1) * inner));
      const targets = [
        { target: dgateUp, size: 2 * inner * width, accumulate: accumulateGateUp, left: dhidden, right: input },
        { target: ddown, size: width * inner, accumulate: accumulateDown, left: output, right: act },
      ];
      for (const { target, size, accumulate, left, right } of targets) {
        if (target === null) continue;
        const own = target.subarray(e * size, (e + 1) * size);
        if (!accumulate) own.fill(0);
        addOuterProducts(own, left, right);
      }
    }
  };
}

/** target[i, j] += sum over rows of left[row][i] * right[row][j]. */
function addOuterProducts(target: Floats, left: readonly Floats[], right: readonly Floats[]): void {
  const rows = left[0]?.length ?? 0;
  const cols = right[0]?.length ?? 0;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      let sum = 0;
      for (const [row, values] of left.entries()) sum += values[i]! * right[row]![j]!;
      target[i * cols + j] = target[i * cols + j]! + sum;
    }
  }
}
