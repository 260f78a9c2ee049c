/** What an engine in a worker and its callers say to each other: plain data, large arrays moved and not copied. */
import type { ModelConfig } from "../config/model.ts";
import type { TraceRows } from "../formats/trace.ts";
import type { PackedError } from "../util/packedError.ts";
import type {
  EngineStats,
  GeneratedToken,
  Generation,
  GenerationRequest,
  ScoreOptions,
  TokenLogprobs,
  TraceOptions,
} from "./engine.ts";
import type { LocalEngine } from "./localEngine.ts";

/** Told while a model is opened. */
export interface OpenContext {
  notice(message: string): void;
  /** Plain data of the opener's choice. */
  progress(progress: unknown): void;
}

/** What a module exports as `openEngine` to be opened in a worker. */
export type OpenEngine<Options = never, Info = unknown> = (
  options: Options,
  context: OpenContext,
) => Promise<{ readonly engine: LocalEngine; readonly info: Info }>;

/** What the worker is started with. */
export interface WorkerInput {
  /** URL of the opener's module. */
  readonly module: string;
  readonly options: unknown;
}

export type ReadingKind = "logprobs" | "logits" | "embed";

export type ToWorker =
  | { readonly type: "generate"; readonly id: number; readonly request: Omit<GenerationRequest, "signal"> }
  | ({ readonly type: "read"; readonly id: number; readonly kind: ReadingKind; readonly ids: Int32Array } & Pick<
      ScoreOptions,
      "interventions"
    >)
  | ({ readonly type: "trace"; readonly id: number; readonly ids: Int32Array } & Pick<
      TraceOptions,
      "columns" | "interventions"
    >)
  | { readonly type: "stats"; readonly id: number }
  /** The caller wants no more of a request. */
  | { readonly type: "drop"; readonly id: number }
  | { readonly type: "close" };

/** Log-probabilities of many places in three arrays: objects by the ten thousand take long to receive. */
export interface PackedLogprobs {
  /** Best tokens named in each place. */
  readonly best: number;
  /** [N, 1 + best]: the token, then the best ones. */
  readonly ids: Int32Array;
  readonly logprobs: Float64Array;
}

export interface PackedGeneration extends Omit<Generation, "promptLogprobs"> {
  readonly packedLogprobs?: PackedLogprobs | undefined;
}

/** What has happened to one request. */
export type WorkerEvent = { readonly id: number } & (
  | { readonly token: GeneratedToken }
  | { readonly generation: PackedGeneration }
  | { readonly values: Float32Array }
  | { readonly rows: TraceRows }
  | { readonly stats: EngineStats }
  | { readonly error: PackedError }
);

export type FromWorker =
  | { readonly type: "opened"; readonly config: ModelConfig; readonly info: unknown }
  | { readonly type: "refused"; readonly error: PackedError }
  | { readonly type: "notice"; readonly message: string }
  | { readonly type: "progress"; readonly progress: unknown }
  /** All that a pass has brought. */
  | { readonly type: "events"; readonly events: readonly WorkerEvent[] };

export function packGeneration({ promptLogprobs, ...rest }: Generation): PackedGeneration {
  if (promptLogprobs === undefined) return rest;
  const best = promptLogprobs[0]?.top.length ?? 0;
  const places = promptLogprobs.flatMap(({ id, logprob, top }) => [{ id, logprob }, ...top]);
  const ids = Int32Array.from(places, ({ id }) => id);
  return { ...rest, packedLogprobs: { best, ids, logprobs: Float64Array.from(places, ({ logprob }) => logprob) } };
}

export function unpackGeneration({ packedLogprobs, ...rest }: PackedGeneration): Generation {
  if (packedLogprobs === undefined) return rest;
  const { best, ids, logprobs } = packedLogprobs;
  const at = (place: number) => ({ id: ids[place] as number, logprob: logprobs[place] as number });
  const promptLogprobs: TokenLogprobs[] = [];
  for (let place = 0; place < ids.length; place += 1 + best) {
    promptLogprobs.push({ ...at(place), top: Array.from({ length: best }, (_, rank) => at(place + 1 + rank)) });
  }
  return { ...rest, promptLogprobs };
}
