/** A part of a trace as a trace. */
import { checkSelection, type Trace } from "../src/formats/trace.ts";
import { BlockCache } from "./blocks.ts";
import { type OpenTrace, Store } from "./state.ts";

export function sliceTrace({ header, sources, vocabulary, ...whole }: Trace, start: number, tokens: number): Trace {
  const trace: Trace = {
    header,
    sources,
    vocabulary,
    tokens,
    async *chunks({ signal, ...selection } = {}) {
      const { columns, start: from, end } = checkSelection(trace, selection);
      for await (const chunk of whole.chunks({ columns, start: start + from, end: start + end, signal })) {
        yield { ...chunk, start: chunk.start - start };
      }
    },
  };
  return trace;
}

/** For the map: without counts, which are of whole traces. */
export function sliceOpen(open: OpenTrace, start: number, tokens: number): OpenTrace {
  if (start === 0 && tokens === open.trace.tokens) return open;
  const trace = sliceTrace(open.trace, start, tokens);
  return { ...open, trace, blocks: new BlockCache(trace), summary: new Store({ done: true }) };
}
