/** Held-out loss of each source, and where the experts send its tokens. */
import { Graph } from "../autograd/graph.ts";
import { linearCrossEntropy } from "../autograd/ops/crossEntropy.ts";
import type { Backend } from "../backend/backend.ts";
import { bitsPerByte, type HeldOutText, heldOutWindows } from "../data/heldOut.ts";
import type { Decoder } from "../model/decoder.ts";
import { routerStats } from "../nn/routerLosses.ts";
import { Arena } from "../tensor/arena.ts";

/** Result on one source's held-out text. */
export interface SourceEvaluation {
  readonly source: string;
  /** Tokens scored. */
  readonly tokens: number;
  readonly natsPerToken: number;
  /** UTF-8 bytes of the scored text; where only some windows are scored, their share by tokens. */
  readonly textBytes: number;
  readonly bitsPerByte: number;
  /** [layer][expert] slots each expert received. */
  readonly expertCounts: readonly Float64Array[];
}

export interface EvaluateOptions {
  readonly sequenceLength: number;
  readonly eosTokenId: number;
  readonly documentMask: boolean;
  /** Tokens of each source to score, in windows spread evenly over the text; default: all. */
  readonly maxTokens?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A few thousand. */
const PASS_TOKENS = 4096;

/** Windows of one forward pass. */
export function passSequences(sequenceLength: number): number {
  return Math.max(1, Math.floor(PASS_TOKENS / sequenceLength));
}

/** Indices of `wanted` windows spread evenly over `count`. */
function spread(count: number, wanted: number): number[] {
  const taken = Math.min(count, Math.max(1, wanted));
  return Array.from({ length: taken }, (_, index) => Math.floor((index * count) / taken));
}

/**
 * Scores a source's held-out text in windows that each start from an empty context, so that every token is scored once.
 * Yields to the event loop between passes.
 */
export async function evaluateSource(
  backend: Backend,
  decoder: Decoder,
  text: HeldOutText,
  options: EvaluateOptions,
): Promise<SourceEvaluation> {
  const { sequenceLength: length, eosTokenId, documentMask, maxTokens = Number.POSITIVE_INFINITY } = options;
  const all = heldOutWindows(text.tokens, { sequenceLength: length, eosTokenId });
  const chosen = spread(all.windows, Math.ceil(Math.min(maxTokens, all.targets) / length));
  const counts: Float64Array[] = [];
  const perPass = passSequences(length);
  const arena = new Arena(backend);
  let [nats, tokens] = [0, 0];
  try {
    for (let first = 0; first < chosen.length; first += perPass) {
      options.signal?.throwIfAborted();
      const windows = chosen.slice(first, first + perPass);
      const gather = (values: Int32Array) =>
        Int32Array.from(windows.flatMap((window) => [...values.subarray(window * length, (window + 1) * length)]));
      arena.reset();
      const graph = new Graph(backend, arena, { record: false });
      const labels = gather(all.labels);
      const { hidden, routings } = decoder.forward(graph, gather(all.ids), {
        batch: windows.length,
        kvStart: documentMask ? gather(all.kvStart) : undefined,
      });
      // The places after the end of the text hold no token.
      const mask = graph.take([labels.length]);
      mask.data.set(labels.map((label) => (label >= 0 ? 1 : 0)));
      const losses = linearCrossEntropy(graph, hidden, decoder.outputWeight, graph.ids(labels), { scale: 0 });
      nats += losses.data.reduce((sum, loss) => sum + loss, 0);
      tokens += mask.data.reduce((sum, weight) => sum + weight, 0);
      for (const [layer, routing] of routings.entries()) {
        const { counts: added } = routerStats(graph, routing, mask);
        const sum = counts[layer];
        counts[layer] = sum === undefined ? added : sum.map((count, e) => count + (added[e] as number));
      }
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  } finally {
    arena.dispose();
  }
  const textBytes = (text.textBytes * tokens) / all.targets;
  return {
    source: text.source,
    tokens,
    natsPerToken: nats / tokens,
    textBytes,
    bitsPerByte: bitsPerByte(nats, textBytes),
    expertCounts: counts,
  };
}

/** Over all sources: every token and every byte counts once. */
export interface Evaluation {
  readonly sources: readonly SourceEvaluation[];
  readonly natsPerToken: number;
  readonly bitsPerByte: number;
}

/** Evaluates every source. @throws the signal's reason when it is aborted. */
export async function evaluate(
  backend: Backend,
  decoder: Decoder,
  texts: readonly HeldOutText[],
  options: EvaluateOptions,
): Promise<Evaluation> {
  const sources: SourceEvaluation[] = [];
  for (const text of texts) sources.push(await evaluateSource(backend, decoder, text, options));
  const nats = sources.reduce((sum, { natsPerToken, tokens }) => sum + natsPerToken * tokens, 0);
  const tokens = sources.reduce((sum, source) => sum + source.tokens, 0);
  const bytes = sources.reduce((sum, { textBytes }) => sum + textBytes, 0);
  return { sources, natsPerToken: nats / tokens, bitsPerByte: bitsPerByte(nats, bytes) };
}
