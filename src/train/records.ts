/**
 * Records of metrics.jsonl beside those of steps and evaluations: docs/metrics.md says what each number is. Keys are in
 * snake_case as in the file.
 */
import type { ParameterGroup } from "./norms.ts";
import type { Spike } from "./spikes.ts";

/** Every record has these. */
export interface RecordPlace {
  /** Steps done. */
  readonly step: number;
  /** Tokens trained on. */
  readonly tokens: number;
  /** Seconds since 1970 when it was written; absent in files of version 0.1.0. */
  readonly time?: number;
}

/** First line of a run: what it is and what the command line changed in its recipe. */
export interface RunRecord extends RecordPlace {
  readonly type: "run";
  readonly name: string;
  /** Of the package. */
  readonly version: string;
  /** `key.path=value` each, in the order they were applied. */
  readonly overrides: readonly string[];
}

/** Where the tokens went since the last record; lists have one number for each layer with experts. */
export interface RoutingRecord extends RecordPlace {
  readonly type: "routing";
  /** Steps it is about. */
  readonly steps: number;
  /** Which layers of the decoder have experts. */
  readonly layers: readonly number[];
  readonly load_entropy: readonly number[];
  readonly largest_load_share: readonly number[];
  readonly dead_experts: readonly number[];
  readonly chosen_probability: readonly number[];
  /** Share of the probe's tokens whose set of experts is another one than at the last checkpoint. */
  readonly churn: readonly number[];
  /** Share of the probe's experts that are new since the last checkpoint: 1 - the paper's saturation (equation 5). */
  readonly slot_churn: readonly number[];
}

type GroupNorms = Readonly<Partial<Record<ParameterGroup, number>>>;

/** Norms of the gradient before clipping and of the weights it was computed with. */
export interface NormsRecord extends RecordPlace {
  readonly type: "norms";
  readonly gradient: GroupNorms;
  readonly parameter: GroupNorms;
  readonly gradient_by_layer: readonly number[];
  readonly parameter_by_layer: readonly number[];
}

/** A loss spike that training went on after. */
export interface SpikeRecord extends RecordPlace, Spike {
  readonly type: "spike";
}

/** A return to a checkpoint: `step` and `tokens` are the checkpoint's. */
export interface RewindRecord extends RecordPlace {
  readonly type: "rewind";
  /** Step that went wrong, and how. */
  readonly spike_step: number;
  readonly reason: string;
  /** How many returns of this run this one makes. */
  readonly rewinds: number;
  /** Losses of the steps that are undone, whose batches are left out; without the last where it was not finite. */
  readonly undone_losses: readonly number[];
}

export type MonitorRecord = RunRecord | RoutingRecord | NormsRecord | SpikeRecord | RewindRecord;
