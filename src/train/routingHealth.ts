/** How evenly a router uses its experts, from the slots each one received. */

export interface LayerHealth {
  /** Entropy of the load over its maximum: 1 is perfect balance, 0 one expert for everything. */
  readonly loadEntropy: number;
  /** Share of the slots that the busiest expert received. */
  readonly largestShare: number;
  /** Experts that received nothing. */
  readonly deadExperts: number;
}

/** @param counts [E] slots each expert received. */
export function layerHealth(counts: Float64Array): LayerHealth {
  const total = counts.reduce((sum, count) => sum + count, 0);
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

/**
 * Watches loads over windows of steps and describes trouble when it appears: experts that received nothing all window
 * long, or one that nearly every token is sent to.
 */
export class RoutingWatch {
  readonly #topK: number;
  readonly #reported = new Set<string>();
  #window: Float64Array[] = [];

  constructor(topK: number) {
    this.#topK = topK;
  }

  /** Adds one step's [layer][expert] counts. */
  add(counts: readonly Float64Array[]): void {
    this.#window = counts.map((layer, index) => layer.map((count, e) => count + (this.#window[index]?.[e] ?? 0)));
  }

  /** Ends the window. @returns one sentence for each new fault. */
  close(): string[] {
    const messages: string[] = [];
    for (const [layer, counts] of this.#window.entries()) {
      const { deadExperts, largestShare } = layerHealth(counts);
      // A dense layer, or one where every expert serves every token, has nothing to balance.
      if (counts.length <= this.#topK) continue;
      if (deadExperts > 0) {
        this.#report(
          messages,
          `dead/${layer}/${deadExperts}`,
          `layer ${layer}: ${deadExperts} of ${counts.length} experts received no token`,
        );
      }
      const served = largestShare * this.#topK;
      if (served > COLLAPSE_SHARE) {
        const tokens = (100 * Math.min(1, served)).toFixed(0);
        this.#report(
          messages,
          `collapse/${layer}`,
          `layer ${layer}: expert ${counts.indexOf(counts.reduce((most, count) => Math.max(most, count), 0))} serves ${tokens} % of the tokens`,
        );
      }
    }
    this.#window = [];
    return messages;
  }

  #report(messages: string[], key: string, message: string): void {
    if (this.#reported.has(key)) return;
    this.#reported.add(key);
    messages.push(`${message}; a larger train.loss.balance spreads the load`);
  }
}
