/** Watches a run's health: norms of gradients and weights, and where the router sends its tokens. */
import type { Backend } from "../backend/backend.ts";
import { moeLayers } from "../config/architecture.ts";
import type { Decoder } from "../model/decoder.ts";
import { NormMeter } from "./norms.ts";
import type { RoutingProbe } from "./probe.ts";
import type { NormsRecord, RoutingRecord } from "./records.ts";
import { RoutingWatch } from "./routingHealth.ts";
import { RoutingMonitor } from "./routingMonitor.ts";
import type { StepResult } from "./step.ts";

export class Watcher {
  readonly routing: RoutingMonitor;
  readonly #decoder: Decoder;
  readonly #norms: NormMeter;
  readonly #watch: RoutingWatch | undefined;
  #measured: Pick<NormsRecord, "gradient" | "parameter" | "gradient_by_layer" | "parameter_by_layer"> | undefined;

  /** @param decoder over trainable parameters. */
  constructor(backend: Backend, decoder: Decoder, probe: RoutingProbe) {
    this.routing = new RoutingMonitor(backend, decoder, probe);
    this.#decoder = decoder;
    this.#norms = new NormMeter(backend, decoder.parameters);
    const { config } = decoder;
    // Experts that choose are loaded evenly, as where there are none.
    if (config.routing === "token_choice") {
      const shared = config.layerSharedMoe !== "none";
      this.#watch = new RoutingWatch(config.numExpertsPerTok, shared ? "shared" : moeLayers(config));
    }
  }

  /** Measures the norms of a step whose gradients are complete and not yet used up. */
  measureNorms(): void {
    const { grads, values } = this.#decoder.parameters;
    if (grads === undefined) return;
    const [gradient, parameter] = [this.#norms.measure(grads), this.#norms.measure(values)];
    this.#measured = {
      gradient: gradient.groups,
      parameter: parameter.groups,
      gradient_by_layer: gradient.layers,
      parameter_by_layer: parameter.layers,
    };
  }

  /** Adds a step. */
  add(result: StepResult): void {
    this.routing.add(result);
    this.#watch?.add(result.expertCounts);
  }

  /** The records of a step after which they are due. */
  records(step: number, tokens: number): (RoutingRecord | NormsRecord)[] {
    const routing = this.routing.record(step, tokens);
    const norms: NormsRecord[] =
      this.#measured === undefined ? [] : [{ type: "norms", step, tokens, ...this.#measured }];
    this.#measured = undefined;
    return [...(routing === undefined ? [] : [routing]), ...norms];
  }

  /** Sentences about experts that have starved or taken over since the last call. */
  warnings(): string[] {
    return this.#watch?.close() ?? [];
  }
}
