/** AdamW (arXiv 1711.05101): the decay is not part of the gradient. */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

export function adamw(memory: Memory): Kernels["adamw"] {
  return (paramAt, gradAt, mAt, vAt, count, ...settings) => {
    const param = memory.f32(paramAt);
    const grad = memory.f32(gradAt);
    const m = memory.f32(mAt);
    const v = memory.f32(vAt);
    const [lr, beta1, beta2, epsilon, weightDecay, bias1, bias2, gradScale] = settings.map(
      Math.fround,
    ) as typeof settings;
    for (let i = 0; i < count; i++) {
      const g = grad[i]! * gradScale;
      const mean = beta1 * m[i]! + (1 - beta1) * g;
      const square = beta2 * v[i]! + (1 - beta2) * g ** 2;
      const step = mean / bias1 / (Math.sqrt(square / bias2) + epsilon);
      param[i] = param[i]! - lr * (step + weightDecay * param[i]!);
      m[i] = mean;
      v[i] = square;
    }
  };
}
