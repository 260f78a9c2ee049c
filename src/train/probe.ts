/** A fixed batch of held-out tokens whose experts are looked up again and again, to see how much routing still changes. */
import { Graph } from "../autograd/graph.ts";
import type { Backend } from "../backend/backend.ts";
import { type HeldOutText, heldOutWindows } from "../data/heldOut.ts";
import type { Decoder } from "../model/decoder.ts";
import { Arena } from "../tensor/arena.ts";

/** Longest window, fewest windows, and sources at most: 512 tokens of up to four sources, 2,048 of sixteen. */
const WINDOW_TOKENS = 128;
const LEAST_WINDOWS = 4;
const MOST_SOURCES = 16;

/** [layer][token * N + slot] experts in rising order within a token's N slots; below 0 in a slot that holds none. */
export type ExpertSets = readonly Int32Array[];

export interface ProbeOptions {
  readonly sequenceLength: number;
  readonly eosTokenId: number;
  readonly documentMask: boolean;
}

/** Windows of the first sources' held-out text, as many of each, spread evenly; W windows of S places. */
export class RoutingProbe {
  readonly #windows: number;
  readonly #ids: Int32Array;
  readonly #kvStart: Int32Array | undefined;
  /** Places that hold a token; the others fill the last window of a short text. */
  readonly #places: readonly number[];

  constructor(texts: readonly HeldOutText[], { sequenceLength, eosTokenId, documentMask }: ProbeOptions) {
    const length = Math.min(sequenceLength, WINDOW_TOKENS);
    const sources = texts.slice(0, MOST_SOURCES);
    const each = Math.ceil(LEAST_WINDOWS / Math.max(1, sources.length));
    const [ids, kvStart, labels]: number[][] = [[], [], []];
    for (const { tokens } of sources) {
      const all = heldOutWindows(tokens, { sequenceLength: length, eosTokenId });
      const taken = Math.min(all.windows, each);
      for (let index = 0; index < taken; index++) {
        const start = Math.floor((index * all.windows) / taken) * length;
        ids!.push(...all.ids.subarray(start, start + length));
        kvStart!.push(...all.kvStart.subarray(start, start + length));
        labels!.push(...all.labels.subarray(start, start + length));
      }
    }
    this.#windows = ids!.length / length;
    this.#ids = Int32Array.from(ids!);
    this.#kvStart = documentMask ? Int32Array.from(kvStart!) : undefined;
    this.#places = labels!.flatMap((label, place) => (label >= 0 ? [place] : []));
  }

  /** Tokens whose experts are compared. */
  get tokens(): number {
    return this.#places.length;
  }

  /** The experts that the model chooses now; empty for a dense model. */
  run(backend: Backend, decoder: Decoder): ExpertSets {
    const arena = new Arena(backend);
    try {
      const graph = new Graph(backend, arena, { record: false });
      const { routings } = decoder.forward(graph, this.#ids, { batch: this.#windows, kvStart: this.#kvStart });
      return routings.map(({ expertIds }) => {
        const [slots, all] = [expertIds.dim(1), expertIds.data];
        const sets = new Int32Array(this.tokens * slots);
        for (const [token, place] of this.#places.entries()) {
          sets.set(all.slice(place * slots, (place + 1) * slots).sort(), token * slots);
        }
        return sets;
      });
    } finally {
      arena.dispose();
    }
  }
}

/** How much one layer's sets differ. */
export interface Churn {
  /** Share of tokens whose set is not the same. */
  readonly tokens: number;
  /** Share of the experts in all sets that were not in the token's set before. */
  readonly slots: number;
}

/** Compares the sets of one layer with those before, `tokens` of each. */
export function churnOf(before: Int32Array, now: Int32Array, tokens: number): Churn {
  const slots = now.length / Math.max(1, tokens);
  let [changed, added, all] = [0, 0, 0];
  for (let token = 0; token < tokens; token++) {
    const [old, set] = [before, now].map((sets) =>
      sets.subarray(token * slots, (token + 1) * slots).filter((expert) => expert >= 0),
    ) as [Int32Array, Int32Array];
    const fresh = set.reduce((sum, expert) => sum + (old.includes(expert) ? 0 : 1), 0);
    added += fresh;
    all += set.length;
    if (fresh > 0 || set.length !== old.length) changed += 1;
  }
  return { tokens: changed / Math.max(1, tokens), slots: added / Math.max(1, all) };
}
