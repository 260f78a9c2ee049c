/** How likely a model finds given text. */
import { Graph } from "../autograd/graph.ts";
import { linearCrossEntropy } from "../autograd/ops/crossEntropy.ts";
import type { Backend } from "../backend/backend.ts";
import type { Decoder } from "../model/decoder.ts";
import type { WeightSource } from "../model/weights.ts";
import { Arena } from "../tensor/arena.ts";

/**
 * Natural logarithms of the probabilities that the model gives to each token after those before it.
 * @param ids one sequence of N tokens.
 * @returns [N - 1]: log p(ids[t + 1] | ids[0..t]); empty for fewer than two tokens.
 * @throws ShapeError for ids outside the vocabulary or more tokens than the context.
 */
export function tokenLogProbs(backend: Backend, decoder: Decoder<WeightSource>, ids: ArrayLike<number>): Float32Array {
  if (ids.length < 2) return new Float32Array(0);
  const arena = new Arena(backend);
  try {
    const graph = new Graph(backend, arena, { record: false });
    const sequence = Int32Array.from(ids);
    const { hidden } = decoder.forward(graph, sequence.subarray(0, -1), { batch: 1 });
    const targets = graph.ids(sequence.subarray(1));
    return linearCrossEntropy(graph, hidden, decoder.outputWeight, targets, { scale: 0 }).data.map((loss) => -loss);
  } finally {
    arena.dispose();
  }
}
