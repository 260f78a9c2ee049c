/** How evenly a router uses its experts, from the slots each one received. */

export interface LayerHealth {
  /** Entropy of the load over its maximum: 1 is perfect balance, 0 one expert for everything. */
  readonly loadEntropy: number;
  /** Share of the slots that the busiest expert received. */
  readonly largestShare: number;
  /** Experts that received nothing. */
  readonly deadExperts: number;
}

const sumOf = (counts: Float64Array) => counts.reduce((sum, count) => sum + count, 0);

/** @param counts [E] slots each expert received. */
export function layerHealth(counts: Float64Array): LayerHealth {
  const total = sumOf(counts);
  const shares = counts.map((count) => (total === 0 ? 0 : count / total));
  const entropy = shares.reduce((sum, share) => (share > 0 ? sum - share * Math.log(share) : sum), 0);
  return {
    loadEntropy: counts.length > 1 ? entropy / Math.log(counts.length) : 1,
    largestShare: shares.reduce((most, share) => Math.max(most, share), 0),
    deadExperts: shares.reduce((dead, share) => dead + (share === 0 ? 1 : 0), 0),
  };
}

/** An expert that serves this share of all tokens has taken over its layer. */
const COLLAPSE_SHARE = 0.9;
/** A window is judged once an even share is this many slots an expert: before, silence may be chance. */
const LEAST_SHARE_SLOTS = 100;
const ADVICE = "a larger train.loss.balance spreads the load";

/** The counts of all layers together, as of one. */
function pooled([first, ...others]: readonly Float64Array[]): Float64Array[] {
  if (first === undefined) return [];
  return [first.map((count, e) => others.reduce((sum, layer) => sum + (layer[e] ?? 0), count))];
}

/**
 * Watches loads over windows of steps and describes trouble when it appears: experts that received nothing all window
 * long, or one that nearly every token is sent to.
 */
export class RoutingWatch {
  readonly #topK: number;
  readonly #layers: readonly number[] | "shared" | undefined;
  readonly #reported = new Set<string>();
  #window: Float64Array[] = [];

  /**
   * @param topK experts of each token.
   * @param layers those that have experts, "shared" where all of them share one set, which is judged as one; default: all.
   */
  constructor(topK: number, layers?: readonly number[] | "shared") {
    this.#topK = topK;
    this.#layers = layers;
  }

  /** Adds one step's [layer][expert] counts. */
  add(counts: readonly Float64Array[]): void {
    const judged = this.#layers === "shared" ? pooled(counts) : counts;
    this.#window = judged.map((layer, index) => layer.map((count, e) => count + (this.#window[index]?.[e] ?? 0)));
  }

  /** Ends the window, or goes on with one that is too short. @returns one sentence for each new fault. */
  close(): string[] {
    const [first] = this.#window;
    if (first === undefined || sumOf(first) / first.length < LEAST_SHARE_SLOTS) return [];
    // A layer where every expert serves every token has nothing to balance.
    const faults = this.#window.flatMap((counts, index) =>
      counts.length > this.#topK ? this.#faults(counts, this.#nameOf(index)) : [],
    );
    this.#window = [];
    return faults.flatMap(({ key, message }) => {
      if (this.#reported.has(key)) return [];
      this.#reported.add(key);
      return [`${message}; ${ADVICE}`];
    });
  }

  #nameOf(index: number): string {
    return this.#layers === "shared" ? "all layers" : `layer ${this.#layers?.[index] ?? index}`;
  }

  #faults(counts: Float64Array, place: string): { key: string; message: string }[] {
    const { deadExperts, largestShare } = layerHealth(counts);
    const faults = [];
    if (deadExperts > 0) {
      const message = `${place}: ${deadExperts} of ${counts.length} experts received no token`;
      faults.push({ key: `dead/${place}`, message });
    }
    const served = largestShare * this.#topK;
    if (served > COLLAPSE_SHARE) {
      const expert = counts.indexOf(counts.reduce((most, count) => Math.max(most, count)));
      const message = `${place}: expert ${expert} serves ${(100 * served).toFixed(0)} % of the tokens`;
      faults.push({ key: `collapse/${place}`, message });
    }
    return faults;
  }
}
