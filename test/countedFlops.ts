/** Floating-point operations as the kernels' arguments tell them, to compare formulas with. */
import { Graph } from "../src/autograd/graph.ts";
import { linearCrossEntropy } from "../src/autograd/ops/crossEntropy.ts";
import { type KernelName, kernelCost } from "../src/backend/cost.ts";
import { createDryBackend } from "../src/backend/dry/dry.ts";
import { KERNEL_NAMES } from "../src/backend/kernels.ts";
import type { ModelConfig } from "../src/config/model.ts";
import { expertChoiceCapacity } from "../src/config/routing.ts";
import { Decoder } from "../src/model/decoder.ts";
import { Parameters } from "../src/model/parameters.ts";
import { Arena } from "../src/tensor/arena.ts";

/** FLOPs of the kernel calls of one training step over `batch` sequences. */
export function countedFlops(config: ModelConfig, batch: number, length: number): number {
  let flops = 0;
  // Where experts choose, each takes as many tokens of a sequence; the kernels' arguments do not show it. How many sequences
  // there are to choose from is not the config's to say, and is left to be as if none were over.
  const { routing, expertChoiceScope, numExperts, numExpertsPerTok } = config;
  const ofSequence =
    expertChoiceScope === "batch" ? numExpertsPerTok * length : numExperts * expertChoiceCapacity(config, length);
  const rows = routing === "expert_choice" ? batch * ofSequence : undefined;
  const counting = (name: KernelName) => [
    name,
    (...args: number[]) => {
      flops += kernelCost(name, args, rows).flops;
    },
  ];
  const backend = createDryBackend(Object.fromEntries(KERNEL_NAMES.map(counting)));
  const decoder = new Decoder(backend, new Parameters(backend, config, { trainable: true }));
  const graph = new Graph(backend, new Arena(backend), { record: true });
  const ids = new Int32Array(batch * length);
  const { hidden } = decoder.forward(graph, ids, { batch });
  linearCrossEntropy(graph, hidden, decoder.outputWeight, graph.ids(ids), { scale: 1 });
  graph.backward();
  return flops;
}
