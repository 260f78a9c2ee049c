/** The route of one sequence of a trace, for a replay. */
import type { RecordedRoute } from "../config/intervention.ts";
import { NO_EXPERT, type Trace } from "./trace.ts";

/** The experts of one sequence of a trace, all positions from 0 on; undefined where it is not there. */
export async function routeOf(
  trace: Trace,
  sequence: number,
  recordedWeights: boolean,
  signal?: AbortSignal,
): Promise<RecordedRoute | undefined> {
  const { layers, slots } = trace.header;
  let [start, end, positions] = [Number.POSITIVE_INFINITY, 0, 0];
  for await (const { run, place } of runsOf(trace.chunks({ columns: [], signal }), sequence)) {
    start = Math.min(start, place);
    end = Math.max(end, place + run.tokens);
    positions = Math.max(positions, run.position + run.tokens);
  }
  if (end === 0) return undefined;
  const size = layers.length * positions * slots;
  const experts = new Int16Array(size).fill(NO_EXPERT);
  const weights = recordedWeights ? new Float32Array(size) : undefined;
  const columns = recordedWeights ? (["experts", "weights"] as const) : (["experts"] as const);
  for await (const { chunk, run, place } of runsOf(trace.chunks({ columns, start, end, signal }), sequence)) {
    const first = place - chunk.start;
    for (const layer of layers.keys()) {
      const from = (layer * chunk.tokens + first) * slots;
      const to = (layer * positions + run.position) * slots;
      experts.set(chunk.experts?.subarray(from, from + run.tokens * slots) ?? [], to);
      weights?.set(chunk.weights?.subarray(from, from + run.tokens * slots) ?? [], to);
    }
  }
  return { layers, positions, slots, experts, ...(weights === undefined ? {} : { weights }) };
}

/** The runs of a sequence, each with its chunk and its first token's place in the trace. */
async function* runsOf(chunks: ReturnType<Trace["chunks"]>, sequence: number) {
  for await (const chunk of chunks) {
    let place = chunk.start;
    for (const run of chunk.runs) {
      if (run.sequence === sequence) yield { chunk, run, place };
      place += run.tokens;
    }
  }
}
