/**
 * One forward pass laid open for comparison with other implementations: logits, hidden states, routing, losses and
 * gradients under the names that docs/parity.md lists, in transformers' definitions.
 */
import { Graph, type Variable } from "../autograd/graph.ts";
import { linearCrossEntropy } from "../autograd/ops/crossEntropy.ts";
import type { Backend } from "../backend/backend.ts";
import { ShapeError } from "../errors.ts";
import type { Decoder, Observer } from "../model/decoder.ts";
import { applyRouterLosses } from "../nn/routerLosses.ts";
import { Arena } from "../tensor/arena.ts";
import type { DType, Tensor } from "../tensor/tensor.ts";

export interface InspectInput {
  /** Sequences, B; ids, labels and mask have B * S elements, sequence after sequence. */
  readonly batch: number;
  readonly inputIds: Int32Array;
  /** Not shifted: position t predicts label t + 1; -100 for none. Losses are computed when it is there. */
  readonly labels?: Int32Array | undefined;
  /** 1 for tokens, 0 for padding on one side of a sequence. */
  readonly attentionMask?: Int32Array | undefined;
  readonly positionIds?: Int32Array | undefined;
  /** Add the gradient of the total loss with respect to every weight. */
  readonly gradients?: boolean;
}

/** A named result. */
export type InspectedTensor = { readonly name: string; readonly shape: readonly number[] } & (
  | { readonly dtype: "F32"; readonly data: Float32Array }
  | { readonly dtype: "I32"; readonly data: Int32Array }
);

/** First unpadded position of each sequence, for all its tokens; checks that padding is on one side. */
function firstVisible(mask: Int32Array, batch: number): Int32Array {
  const length = mask.length / batch;
  return mask.map((_, index) => {
    const row = mask.subarray(Math.floor(index / length) * length).subarray(0, length);
    const [first, last] = [row.indexOf(1), row.lastIndexOf(1)];
    if (first < 0 || row.some((value, place) => value !== (place >= first && place <= last ? 1 : 0))) {
      throw new ShapeError(`attention_mask: sequence ${Math.floor(index / length)} is not one run of ones`, {
        hint: "pad on one side only",
      });
    }
    return first;
  });
}

/** The target of each position: the next label of the same sequence. */
function shiftLabels(labels: Int32Array, batch: number): Int32Array {
  const length = labels.length / batch;
  return labels.map((_, index) => ((index + 1) % length === 0 ? -100 : (labels[index + 1] as number)));
}

function copyOf(name: string, tensor: Tensor<DType>, shape: readonly number[] = tensor.shape): InspectedTensor {
  const data = tensor.data;
  if (data instanceof Int32Array) return { name, shape, dtype: "I32", data: data.slice() };
  return { name, shape, dtype: "F32", data: Float32Array.from(data) };
}

/** Copies what passes by. */
function recorder(results: InspectedTensor[], batch: number): Observer {
  const rows = (name: string, tensor: Tensor) =>
    results.push(copyOf(name, tensor, [batch, tensor.dim(0) / batch, tensor.dim(1)]));
  return {
    hidden: (index, hidden) => rows(`hidden.${index}`, hidden),
    attentionOutput: (layer, output) => rows(`layers.${layer}.attention_output`, output),
    mlpOutput: (layer, output) => rows(`layers.${layer}.moe_output`, output),
    finalNorm: (hidden) => rows("hidden.final_norm", hidden),
    routing: (layer, { logits, expertIds, expertWeights }) => {
      results.push(copyOf(`layers.${layer}.router_logits`, logits));
      results.push(copyOf(`layers.${layer}.selected_experts`, expertIds));
      results.push(copyOf(`layers.${layer}.routing_weights`, expertWeights.value));
    },
  };
}

/**
 * Runs the model once and returns everything. The loss is transformers': the mean cross-entropy of the targets plus
 * `routerAuxLossCoef` times the pooled balance loss (0 times, where experts choose), both without padding. No slot is
 * dropped.
 * @throws ShapeError for inputs that do not fit together.
 */
export function inspectForward(backend: Backend, decoder: Decoder, input: InspectInput): InspectedTensor[] {
  const { batch, inputIds, labels, attentionMask, gradients = false } = input;
  if (gradients && labels === undefined) throw new ShapeError("forward: gradients need labels");
  const arena = new Arena(backend);
  try {
    const graph = new Graph(backend, arena, { record: gradients });
    const results: InspectedTensor[] = [];
    const tokenMask = attentionMask === undefined ? undefined : graph.take([attentionMask.length]);
    if (attentionMask !== undefined) tokenMask?.data.set(attentionMask);
    const { hidden, routings } = decoder.forward(graph, inputIds, {
      batch,
      positions: input.positionIds,
      kvStart: attentionMask === undefined ? undefined : firstVisible(attentionMask, batch),
      tokenMask,
      observe: recorder(results, batch),
    });
    const vocabulary = decoder.outputWeight.value.dim(0);
    const constant: Variable = graph.constant(hidden.value);
    const logits = decoder.logits(graph, constant).value;
    results.push(copyOf("logits", logits, [batch, inputIds.length / batch, vocabulary]));
    if (labels === undefined) return results;

    const targets = shiftLabels(labels, batch);
    const count = targets.reduce((sum, target) => sum + (target >= 0 ? 1 : 0), 0);
    const scale = 1 / Math.max(1, count);
    const losses = linearCrossEntropy(graph, hidden, decoder.outputWeight, graph.ids(targets), { scale });
    const ce = losses.data.reduce((sum, loss) => sum + loss, 0) * scale;
    // Experts that choose are in balance by themselves: that loss has no part in theirs.
    const coefficient = decoder.config.routing === "expert_choice" ? 0 : decoder.config.routerAuxLossCoef;
    const weights = { balance: coefficient, balanceScale: "huggingface", z: 0 } as const;
    const aux = applyRouterLosses(graph, routings, weights, 1, tokenMask).balance;
    const scalars = { ce, aux, total: ce + coefficient * aux };
    for (const [name, value] of Object.entries(scalars)) {
      results.push({ name: `loss.${name}`, shape: [1], dtype: "F32", data: Float32Array.of(value) });
    }
    if (gradients) {
      graph.backward();
      for (const { name, shape, data } of decoder.parameters.tensors(decoder.parameters.grads)) {
        results.push({ name: `grad.${name}`, shape, dtype: "F32", data: data.slice() });
      }
    }
    return results;
  } finally {
    arena.dispose();
  }
}
