/** SwiGLU (arXiv 2002.05202): y = silu(gate) * up, silu(x) = x * sigmoid(x). */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

export function swiglu(gate: number, up: number): number {
  return (gate / (1 + Math.exp(-gate))) * up;
}

/** Gradients of swiglu with respect to gate and up, times dy. */
export function swigluGradient(gate: number, up: number, dy: number): { dgate: number; dup: number } {
  const sigmoid = 1 / (1 + Math.exp(-gate));
  return { dgate: dy * up * sigmoid * (1 + gate * (1 - sigmoid)), dup: dy * gate * sigmoid };
}

export function swigluForward(memory: Memory): Kernels["swigluForward"] {
  return (gateUpAt, yAt, rows, inner) => {
    const gateUp = memory.f32(gateUpAt);
    const y = memory.f32(yAt);
    for (let row = 0; row < rows; row++) {
      for (let f = 0; f < inner; f++) {
        const gate = row * 2 * inner + f;
        y[row * inner + f] = swiglu(gateUp[gate]!, gateUp[gate + inner]!);
      }
    }
  };
}

export function swigluBackward(memory: Memory): Kernels["swigluBackward"] {
  return (gateUpAt, dyAt, dgateUpAt, rows, inner) => {
    const gateUp = memory.f32(gateUpAt);
    const dy = memory.f32(dyAt);
    const dgateUp = memory.f32(dgateUpAt);
    for (let row = 0; row < rows; row++) {
      for (let f = 0; f < inner; f++) {
        const gate = row * 2 * inner + f;
        const { dgate, dup } = swigluGradient(gateUp[gate]!, gateUp[gate + inner]!, dy[row * inner + f]!);
        dgateUp[gate] = dgate;
        dgateUp[gate + inner] = dup;
      }
    }
  };
}
