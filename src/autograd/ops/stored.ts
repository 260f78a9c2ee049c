/**
 * Operations over weights as model files hold them. They are for passes without a tape: no gradient flows to a file.
 * Letters: T tokens, D width, N outputs, E experts, F expert width.
 */

import type { Pointer } from "../../backend/kernels.ts";
import { ShapeError, UnsupportedError } from "../../errors.ts";
import { STORAGE_TYPES, type StoredWeight } from "../../tensor/stored.ts";
import { formatShape, type Tensor } from "../../tensor/tensor.ts";
import type { Graph, Variable } from "../graph.ts";
import { planExperts } from "./moePlan.ts";

/** A weight as operations take it: an f32 tensor, or the bytes of a file that kernels decode on the way. */
export type Weight = Variable | StoredWeight;

/** Which of the two a weight is. */
export function isStored(weight: Weight): weight is StoredWeight {
  return "addresses" in weight;
}

/** The shape of a weight of either kind. */
export function weightShape(weight: Weight): readonly number[] {
  return isStored(weight) ? weight.shape : weight.value.shape;
}

/** What kernels are told of a stored weight. @throws UnsupportedError for a graph that records. */
function described(graph: Graph, { type, activations }: StoredWeight) {
  if (graph.recording) {
    throw new UnsupportedError(`gradients: a weight of type ${type} is read from its file, it can not be trained`, {
      hint: "load the model's weights into memory to train it",
    });
  }
  return { type: STORAGE_TYPES[type].id, activations: activations === "q8" ? 1 : 0 } as const;
}

/** y = x W^T at the addresses of x [T, D] and y [T, N], rows without gaps. */
export function multiplyStored(graph: Graph, weight: StoredWeight, x: Pointer, y: Pointer, tokens: number): void {
  const { type, activations } = described(graph, weight);
  const { rows, columns, addresses } = weight;
  const outputs = addresses.size * rows;
  const { pointer, size: parts } = addresses;
  graph.kernels.storedLinear(type, pointer, parts, rows, columns, x, columns, y, outputs, tokens, activations);
}

/** `linear` with a stored weight. @param x [T, D]; @returns [T, N]. */
export function storedLinear(graph: Graph, x: Variable, weight: StoredWeight): Variable {
  const tokens = x.value.dim(0);
  const y = graph.take([tokens, weight.addresses.size * weight.rows]);
  multiplyStored(graph, weight, x.value.pointer, y.pointer, tokens);
  return graph.node(y, [x], [], () => {});
}

/** `embedding` with a stored table; ids are checked. @returns [T, D]. */
export function storedEmbedding(graph: Graph, table: StoredWeight, ids: Tensor<"i32">): Variable {
  const { type } = described(graph, table);
  const out = graph.take([ids.size, table.columns]);
  graph.kernels.storedEmbedding(type, table.addresses.pointer, ids.pointer, out.pointer, ids.size, table.columns);
  return graph.node(out, [], [], () => {});
}

/** What the experts need of a routing. */
export interface RoutedSlots {
  /** [T, N] experts that serve the tokens, -1 for none, and what multiplies their outputs. */
  readonly expertIds: Tensor<"i32">;
  readonly expertWeights: Variable;
  /** Slots that hold an expert. */
  readonly rows: number;
}

/**
 * `experts` with stored weights.
 * @param gateUp 2E parts, gate before up of each expert; @param down E parts.
 * @throws ShapeError where only one of the two is stored, or they treat activations differently.
 */
export function storedExperts(graph: Graph, x: Variable, routing: RoutedSlots, gateUp: Weight, down: Weight): Variable {
  if (!isStored(gateUp) || !isStored(down) || gateUp.activations !== down.activations) {
    const kinds = [gateUp, down].map((weight) => (isStored(weight) ? `${weight.type}, ${weight.activations}` : "f32"));
    throw new ShapeError(`experts: gate_up is stored as ${kinds[0]} and down as ${kinds[1]}, expected both alike`);
  }
  const { type, activations } = described(graph, gateUp);
  const { kernels } = graph;
  const { expertIds, expertWeights, rows } = routing;
  const [tokens, width, slots] = [x.value.dim(0), x.value.dim(1), expertIds.dim(1)];
  const [numExperts, inner] = [down.addresses.size, down.columns];
  if (gateUp.columns !== width || down.rows !== width || gateUp.rows !== inner) {
    throw new ShapeError(
      `experts: x is ${formatShape(x.value.shape)}, gate_up ${formatShape(gateUp.shape)}, down ${formatShape(down.shape)}`,
    );
  }
  const { offsets, rowSlot, slotRow } = planExperts(graph, expertIds, numExperts, rows);
  const hidden = graph.take([rows, 2 * inner]);
  const products = graph.take([rows, width]);
  const out = graph.take(x.value.shape);
  kernels.storedExperts(
    type,
    gateUp.addresses.pointer,
    STORAGE_TYPES[down.type].id,
    down.addresses.pointer,
    x.value.pointer,
    expertWeights.value.pointer,
    offsets.pointer,
    rowSlot.pointer,
    slotRow.pointer,
    hidden.pointer,
    products.pointer,
    out.pointer,
    tokens,
    numExperts,
    slots,
    width,
    inner,
    activations,
  );
  return graph.node(out, [], [products, hidden, offsets, rowSlot, slotRow], () => {});
}
