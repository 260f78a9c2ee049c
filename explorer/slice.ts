/** A part of a trace as a trace. */
import { checkSelection, type Trace } from "../src/formats/trace.ts";

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
