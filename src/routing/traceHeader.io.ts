/** What a trace of an opened model says of it. */
import { moeLayers } from "../config/architecture.ts";
import { modelDigest, tokenizerDigest } from "../formats/modelDigest.io.ts";
import { TRACE_COLUMNS, type TraceColumn, type TraceHeader } from "../formats/trace.ts";
import type { LanguageModel } from "../infer/model.ts";
import { shownPath } from "../util/shownPath.io.ts";

export interface TraceHeaderOptions extends Pick<TraceHeader, "origin" | "interventions"> {
  /** Besides ids, experts and weights. */
  readonly columns?: readonly TraceColumn[] | undefined;
  /** Slots of a token; default: the model's experts for each. */
  readonly slots?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** @throws as `modelDigest`, which reads the model's files. */
export async function traceHeader(
  { info, tokenizer }: Pick<LanguageModel, "info" | "tokenizer">,
  { columns = [], slots, signal, ...rest }: TraceHeaderOptions,
): Promise<TraceHeader> {
  const { config, path } = info;
  // A checkpoint of a run says in its name where it stands.
  const [, step, trainedTokens] = /(?:^|[\\/])step(\d+)-tokens(\d+)[\\/]?$/.exec(path) ?? [];
  return {
    model: { name: shownPath(path), digest: await modelDigest(path, signal), vocabSize: config.vocabSize },
    tokenizer: { digest: tokenizerDigest(tokenizer.toJson()), vocabSize: tokenizer.vocabSize },
    numExperts: config.numExperts,
    topK: config.numExpertsPerTok,
    slots: slots ?? config.numExpertsPerTok,
    layers: moeLayers(config),
    columns: TRACE_COLUMNS.filter((name) => ["ids", "experts", "weights", ...columns].includes(name)),
    ...(step === undefined ? {} : { step: Number(step), trainedTokens: Number(trainedTokens) }),
    ...rest,
  };
}
