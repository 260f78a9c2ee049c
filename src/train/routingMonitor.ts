/** Collects where tokens went between two records, and how far the router has moved since the last checkpoint. */
import type { Backend } from "../backend/backend.ts";
import { moeLayers } from "../config/architecture.ts";
import type { Decoder } from "../model/decoder.ts";
import { churnOf, type ExpertSets, type RoutingProbe } from "./probe.ts";
import type { RoutingRecord } from "./records.ts";
import { layerHealth } from "./routingHealth.ts";
import type { StepResult } from "./step.ts";

/** All that the next record depends on, for a checkpoint; lists have one entry for each layer with experts. */
export interface RoutingState {
  /** Steps since the last record. */
  readonly steps: number;
  /** Tokens of those steps. */
  readonly tokens: number;
  /** [layer][expert] slots since then. */
  readonly counts: readonly Float64Array[];
  /** [layer] sum over tokens of the chosen experts' summed probability. */
  readonly chosen: Float64Array;
  /** The probe's experts at the last checkpoint. */
  readonly reference: ExpertSets;
}

const rounded = (value: number) => Number(value.toFixed(6));

/** Of a model with experts; a dense one has nothing to monitor, and `record` gives undefined. */
export class RoutingMonitor {
  readonly #backend: Backend;
  readonly #decoder: Decoder;
  readonly #probe: RoutingProbe;
  #steps = 0;
  #tokens = 0;
  #counts: readonly Float64Array[] = [];
  #chosen: Float64Array = new Float64Array();
  #reference: ExpertSets = [];

  constructor(backend: Backend, decoder: Decoder, probe: RoutingProbe) {
    this.#backend = backend;
    this.#decoder = decoder;
    this.#probe = probe;
  }

  /** Takes the model as it is now for the one that churn is counted from. */
  mark(): void {
    this.#reference = this.#sets();
  }

  /** Adds a step. */
  add({ tokens, expertCounts, chosenProbabilities }: StepResult): void {
    this.#steps += 1;
    this.#tokens += tokens;
    this.#counts = expertCounts.map((layer, index) => layer.map((count, e) => count + (this.#counts[index]?.[e] ?? 0)));
    this.#chosen = Float64Array.from(chosenProbabilities, (mean, layer) => mean * tokens + (this.#chosen[layer] ?? 0));
  }

  /** The record of the steps since the last one, which starts the next. */
  record(step: number, tokens: number): RoutingRecord | undefined {
    if (this.#counts.length === 0) return undefined;
    const health = this.#counts.map(layerHealth);
    const churn = this.#sets().map((sets, layer) => churnOf(this.#reference[layer] ?? sets, sets, this.#probe.tokens));
    const record: RoutingRecord = {
      type: "routing",
      step,
      tokens,
      steps: this.#steps,
      layers: moeLayers(this.#decoder.config),
      load_entropy: health.map(({ loadEntropy }) => rounded(loadEntropy)),
      largest_load_share: health.map(({ largestShare }) => rounded(largestShare)),
      dead_experts: health.map(({ deadExperts }) => deadExperts),
      chosen_probability: Array.from(this.#chosen, (sum) => rounded(sum / this.#tokens)),
      churn: churn.map(({ tokens: share }) => rounded(share)),
      slot_churn: churn.map(({ slots }) => rounded(slots)),
    };
    this.#clear();
    return record;
  }

  get state(): RoutingState {
    return {
      steps: this.#steps,
      tokens: this.#tokens,
      counts: this.#counts,
      chosen: this.#chosen,
      reference: this.#reference,
    };
  }

  /** Goes on from a checkpoint; one without a state, of an earlier version, counts from itself. */
  restore(state: RoutingState | undefined): void {
    this.#clear();
    if (state === undefined) this.mark();
    else {
      this.#steps = state.steps;
      this.#tokens = state.tokens;
      this.#counts = state.counts;
      this.#chosen = state.chosen;
      this.#reference = state.reference;
    }
  }

  #sets(): ExpertSets {
    if (this.#decoder.config.mlpType === "dense" || this.#probe.tokens === 0) return [];
    return this.#probe.run(this.#backend, this.#decoder);
  }

  #clear(): void {
    this.#steps = 0;
    this.#tokens = 0;
    this.#counts = [];
    this.#chosen = new Float64Array();
  }
}
