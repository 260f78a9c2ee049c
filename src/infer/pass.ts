/** One forward pass over the slices of many sequences, and the rows that come out of it. */
import { Graph } from "../autograd/graph.ts";
import type { Backend } from "../backend/backend.ts";
import type { Decoder, Observer } from "../model/decoder.ts";
import type { WeightSource } from "../model/weights.ts";
import { Arena } from "../tensor/arena.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { RouteStore } from "./routes.ts";
import type { Slice } from "./scheduler.ts";
import { namedError, notNumbers, type Row } from "./work.ts";

/** Logits held at a time. */
const CHUNK_ELEMENTS = 8 * 2 ** 20;

/** A row that somebody wants. */
interface WantedRow {
  readonly slice: Slice;
  /** Its token among those of the pass. */
  readonly token: number;
  readonly position: number;
}

export interface PassHooks {
  /** Called when weights have been read and before anything is made of the results. */
  readonly check?: (() => void) | undefined;
  /** Sees every pass from inside. */
  readonly observe?: Observer | undefined;
}

export class PassRunner {
  readonly #backend: Backend;
  readonly #decoder: Decoder<WeightSource>;
  readonly #arena: Arena;
  readonly #hooks: PassHooks;

  constructor(backend: Backend, decoder: Decoder<WeightSource>, hooks: PassHooks = {}) {
    this.#backend = backend;
    this.#decoder = decoder;
    this.#arena = new Arena(backend);
    this.#hooks = hooks;
  }

  /** Bytes that passes work in. */
  get reservedBytes(): number {
    return this.#arena.reservedBytes;
  }

  /** Runs the model over all slices and hands each sequence its rows. A sequence that can not use a row ends alone. */
  run(slices: readonly Slice[]): void {
    this.#arena.reset();
    const graph = new Graph(this.#backend, this.#arena, { record: false });
    const rows = wantedRows(slices);
    const recorder = routeRecorder(slices);
    const observe = recorder === undefined ? this.#hooks.observe : both(recorder, this.#hooks.observe);
    const ids = Int32Array.from(slices.flatMap((slice) => [...slice.ids]));
    const sequences = slices.map(({ ids: { length }, cache }) => ({ tokens: length, cache }));
    const intervened = slices.some(({ sequence: { work } }) => work.interventions !== undefined);
    const interventions = intervened ? slices.map(({ sequence: { work } }) => work.interventions) : undefined;
    const hidden = this.#decoder.forward(graph, ids, { sequences, observe, interventions }).hidden.value;
    this.#hooks.check?.();
    endBroken(slices, hidden);
    const wanting = (what: string) => rows.filter(({ slice }) => slice.sequence.work.wants === what);
    this.#handOut(graph, hidden, wanting("hidden"), false);
    this.#handOut(graph, hidden, wanting("logits"), true);
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#arena.dispose();
  }

  /** Rows go in groups, so that tokens x vocabulary never exists at once. */
  #handOut(graph: Graph, hidden: Tensor, rows: readonly WantedRow[], withLogits: boolean): void {
    const { hiddenSize: width, vocabSize } = this.#decoder.config;
    const most = Math.max(1, Math.floor(CHUNK_ELEMENTS / vocabSize));
    for (let start = 0; start < rows.length; start += most) {
      const group = rows.slice(start, start + most);
      const gathered = graph.take([group.length, width]);
      const [from, to] = [hidden.data, gathered.data];
      group.forEach(({ token }, row) => {
        to.set(from.subarray(token * width, (token + 1) * width), row * width);
      });
      const logits = withLogits ? this.#decoder.logits(graph, graph.constant(gathered)).value : undefined;
      this.#hooks.check?.();
      const results = { hidden: gathered, logits, known: logits ? knownLogprobs(graph, group, logits) : [] };
      group.forEach((wanted, row) => {
        give(wanted, rowOf(graph, wanted, row, results));
      });
      graph.release(gathered);
      if (logits !== undefined) graph.release(logits);
    }
  }
}

/** The rows of a pass that its sequences want, in order. */
function wantedRows(slices: readonly Slice[]): WantedRow[] {
  const rows: WantedRow[] = [];
  let first = 0;
  for (const slice of slices) {
    const { from, ids, sequence } = slice;
    for (let position = Math.max(from, sequence.work.firstRow); position < from + ids.length; position++) {
      rows.push({ slice, token: first + position - from, position });
    }
    first += ids.length;
  }
  return rows;
}

/**
 * Ends sequences whose last state is not of numbers. It has seen all tokens of its slice, so that a fault of any of them
 * shows in it: before a page with the fault is given to others.
 */
function endBroken(slices: readonly Slice[], hidden: Tensor): void {
  const [states, width] = [hidden.data, hidden.dim(1)];
  let end = 0;
  for (const { sequence, from, ids } of slices) {
    end += ids.length;
    if (!states.subarray((end - 1) * width, end * width).some(Number.isNaN)) continue;
    sequence.broken = true;
    const place = `request ${sequence.number}, positions ${from}..${from + ids.length - 1}`;
    sequence.work.fail(notNumbers(`${place}: the hidden state is NaN, expected numbers`));
  }
}

/** Hands a row over; what goes wrong is the end of that sequence only. */
function give({ slice: { sequence }, position }: WantedRow, row: Row): void {
  if (sequence.work.done) return;
  try {
    sequence.work.take(row);
  } catch (error) {
    sequence.broken = true;
    sequence.work.fail(namedError(error, sequence.number, position));
  }
}

/** -log p of an id in each row of logits [N, V]; 0 where the id is below 0. */
function crossEntropies(graph: Graph, logits: Tensor, ids: readonly number[]): Float32Array {
  const [labels, losses] = [graph.ids(ids), graph.take([ids.length])];
  graph.kernels.crossEntropy(logits.pointer, labels.pointer, losses.pointer, ids.length, logits.dim(1), 0);
  const values = losses.data.slice();
  graph.release(labels);
  graph.release(losses);
  return values;
}

interface KnownLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** By row, what is known to be asked for: one call of the kernel for the group takes a fraction of one for each row. */
function knownLogprobs(
  graph: Graph,
  group: readonly WantedRow[],
  logits: Tensor,
): readonly (KnownLogprob | undefined)[] {
  const ids = group.map(({ slice, position }) => slice.sequence.work.scored(position) ?? -1);
  if (ids.every((id) => id < 0)) return [];
  const losses = crossEntropies(graph, logits, ids);
  return ids.map((id, row) => (id < 0 ? undefined : { id, logprob: -(losses[row] as number) }));
}

interface GroupResults {
  /** [N, D]. */
  readonly hidden: Tensor;
  /** [N, V]. */
  readonly logits: Tensor | undefined;
  readonly known: readonly (KnownLogprob | undefined)[];
}

function rowOf(graph: Graph, { slice, position }: WantedRow, row: number, results: GroupResults): Row {
  const { hidden, logits, known } = results;
  const rowIn = (tensor: Tensor) => tensor.slice(row * tensor.dim(1), [1, tensor.dim(1)]);
  const needed = () => {
    if (logits === undefined) throw new Error("internal: logits of a row that did not want them");
    return rowIn(logits);
  };
  return {
    position,
    id: slice.ids[position - slice.from] as number,
    get hidden() {
      return rowIn(hidden).data;
    },
    get logits() {
      return needed().data;
    },
    logprob(id) {
      const already = known[row];
      return already?.id === id ? already.logprob : -(crossEntropies(graph, needed(), [id])[0] as number);
    },
  };
}

/** Keeps the routing of the sequences that want it; undefined where none does. */
function routeRecorder(slices: readonly Slice[]): Observer | undefined {
  const wanted: { readonly routes: RouteStore; readonly slice: Slice; readonly first: number }[] = [];
  let first = 0;
  for (const slice of slices) {
    const { routes } = slice.sequence.work;
    if (routes !== undefined) wanted.push({ routes, slice, first });
    first += slice.ids.length;
  }
  if (wanted.length === 0) return undefined;
  // Layers come in order; those without experts have no routing.
  let layer = 0;
  return {
    routing: (_, routing) => {
      for (const { routes, slice, first } of wanted) routes.take(layer, slice.from, slice.ids.length, routing, first);
      layer += 1;
    },
  };
}

/** An observer that shows a pass to two. */
function both(a: Observer, b: Observer | undefined): Observer {
  if (b === undefined) return a;
  return {
    hidden: (index, hidden) => {
      a.hidden?.(index, hidden);
      b.hidden?.(index, hidden);
    },
    attentionOutput: (layer, output) => {
      a.attentionOutput?.(layer, output);
      b.attentionOutput?.(layer, output);
    },
    mlpOutput: (layer, output) => {
      a.mlpOutput?.(layer, output);
      b.mlpOutput?.(layer, output);
    },
    routing: (layer, routing) => {
      a.routing?.(layer, routing);
      b.routing?.(layer, routing);
    },
    finalNorm: (hidden) => {
      a.finalNorm?.(hidden);
      b.finalNorm?.(hidden);
    },
  };
}
