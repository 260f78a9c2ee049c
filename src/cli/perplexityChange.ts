/** What quantising a model does to the perplexity of a text. */
import type { Perplexity, WindowProgress } from "../infer/perplexity.ts";
import { formatCount, table } from "../report/text.ts";
import type { Session } from "./common.ts";
import { type ModelFlags, withModel } from "./modelOptions.ts";
import { ProgressLine } from "./progressLine.ts";
import { readTextFile } from "./score.ts";

export interface PerplexityChange {
  readonly before: Perplexity;
  readonly after: Perplexity;
}

/**
 * Reads the text at once, so that a fault of it shows before a model is quantised.
 * @returns what measures the input and the output.
 */
export async function perplexityChange(
  file: string,
  flags: ModelFlags,
  session: Session,
): Promise<(input: string, output: string) => Promise<PerplexityChange>> {
  const text = await readTextFile(file, "quantize", session);
  return async (input, output) => ({
    before: await perplexityOf(input, text, flags, session),
    after: await perplexityOf(output, text, flags, session),
  });
}

/** In windows half the model's context apart. */
async function perplexityOf(path: string, text: string, flags: ModelFlags, session: Session): Promise<Perplexity> {
  const line = new ProgressLine(session);
  const { signal } = session;
  const onProgress = ({ tokens, of }: WindowProgress) =>
    line.show(tokens / of, `${formatCount(tokens)} tokens by ${path}`);
  try {
    return await withModel(path, flags, session, (model) => model.perplexity(text, { signal, onProgress }));
  } finally {
    line.stop();
  }
}

/** Lines for people. */
export function describeChange({ before, after }: PerplexityChange): string {
  const change = (from: number, to: number) => `${from.toFixed(4)} before, ${to.toFixed(4)} now`;
  return table([
    ["perplexity per token", change(before.perToken, after.perToken)],
    ["bits per byte", change(before.bitsPerByte, after.bitsPerByte)],
  ]);
}
