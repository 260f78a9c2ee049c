/** The work of reading a sequence: log-probabilities, logits, embeddings, routing. */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import type { ModelConfig } from "../config/model.ts";
import { ResourceError } from "../errors.ts";
import { TRACE_COLUMNS, type TraceColumn, type TraceRows } from "../formats/trace.ts";
import type { InterventionPlan } from "../nn/intervention.ts";
import { ROUTER_COLUMNS, RouteStore, routeShape } from "./routes.ts";
import { NO_IDS, notNumbers, type Row, type Work } from "./work.ts";

/** What is made of the rows of a sequence. */
export interface Reading<Result = Float32Array> {
  /** Tokens to feed. */
  readonly ids: Int32Array;
  readonly wants: Work["wants"];
  /** Where their routing is to be kept. */
  readonly routes?: RouteStore;
  /** As `Work.scored`. */
  readonly scored?: (position: number) => number | undefined;
  take(row: Row): void;
  result(): Result;
}

function room(elements: number, what: string): Float32Array<ArrayBuffer> {
  try {
    return new Float32Array(elements);
  } catch (cause) {
    throw new ResourceError(`memory: ${elements * 4} bytes of ${what} are not to be had`, {
      hint: "pass fewer tokens",
      cause,
    });
  }
}

/** A number, or the error of a model that computes none. */
function checked(value: number, what: string): number {
  if (Number.isNaN(value)) throw notNumbers(`${what} is NaN, expected a number`);
  return value;
}

/** [N - 1]: log p(ids[t + 1] | ids[0..t]). @param ids at least one. */
export function logprobsReading(ids: Int32Array): Reading {
  const values = room(ids.length - 1, "log-probabilities");
  return {
    ids: ids.subarray(0, -1),
    wants: "logits",
    scored: (position) => ids[position + 1],
    take: (row) => {
      const { position } = row;
      values[position] = checked(row.logprob(ids[position + 1] as number), "the log-probability");
    },
    result: () => values,
  };
}

/** [N, V]. */
export function logitsReading(ids: Int32Array, vocabulary: number): Reading {
  const values = room(ids.length * vocabulary, "logits");
  return {
    ids,
    wants: "logits",
    take: ({ logits, position }) => {
      for (const logit of logits) checked(logit, "a logit");
      values.set(logits, position * vocabulary);
    },
    result: () => values,
  };
}

/** [D]: the mean of the rows, added up in f64. @param ids at least one. */
export function embeddingReading(ids: Int32Array, width: number): Reading {
  const sums = new Float64Array(width);
  return {
    ids,
    wants: "hidden",
    take: ({ hidden }) => {
      hidden.forEach((value, channel) => {
        sums[channel] = (sums[channel] as number) + checked(value, "the hidden state");
      });
    },
    result: () => Float32Array.from(sums, (sum) => sum / ids.length),
  };
}

/** What a trace has of a sequence. @param ids at least one; @param slots of each token where they are not the model's. @throws ConfigError for a column that there is not. */
export function traceReading(
  ids: Int32Array,
  config: ModelConfig,
  columns: readonly TraceColumn[] = [],
  slots?: number,
): Reading<TraceRows> {
  const wanted = parseConfig(z.array(z.enum(TRACE_COLUMNS)), columns, "trace: columns");
  const has = (column: TraceColumn) => wanted.includes(column);
  const routes = new RouteStore(routeShape(config, ROUTER_COLUMNS.filter(has), slots), 0, ids.length);
  const logprobs = has("logprobs") ? room(ids.length, "log-probabilities").fill(Number.NaN) : undefined;
  const predicted = has("predicted") ? new Int32Array(ids.length) : undefined;
  return {
    ids,
    wants: logprobs || predicted ? "logits" : "hidden",
    routes,
    scored: (position) => (logprobs === undefined ? undefined : ids[position + 1]),
    take: (row) => {
      const { position } = row;
      const next = ids[position + 1];
      if (logprobs && next !== undefined) logprobs[position] = checked(row.logprob(next), "the log-probability");
      if (predicted) predicted[position] = mostProbable(row.logits);
    },
    result: () => {
      const { position: _, ...rows } = routes.tokens(0, ids.length);
      return { ids, ...rows, ...(logprobs && { logprobs }), ...(predicted && { predicted }) };
    },
  };
}

/** The id of the largest logit, the lowest where there are several. */
function mostProbable(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) {
    if ((logits[id] as number) > (logits[best] as number)) best = id;
  }
  checked(logits[best] as number, "a logit");
  return best;
}

/** Told of a reading: one of the two is called, once. */
export interface ReadingSink<Result> {
  end(result: Result): void;
  fail(error: unknown): void;
}

export class ReadingWork<Result> implements Work {
  readonly sharesPages = false;
  readonly interventions: InterventionPlan | undefined;
  readonly routes: RouteStore | undefined;
  readonly ids: Int32Array;
  readonly wants: Work["wants"];
  readonly #reading: Reading<Result>;
  readonly #sink: ReadingSink<Result>;
  #read = 0;
  #done = false;

  constructor(reading: Reading<Result>, sink: ReadingSink<Result>, interventions?: InterventionPlan) {
    this.interventions = interventions;
    this.ids = reading.ids;
    this.routes = reading.routes;
    this.wants = reading.wants;
    this.#reading = reading;
    this.#sink = sink;
    this.#endIfRead();
  }

  get mostTokens(): number {
    return this.ids.length;
  }

  get firstRow(): number {
    return this.#read;
  }

  get done(): boolean {
    return this.#done;
  }

  guesses(): Int32Array {
    return NO_IDS;
  }

  scored(position: number): number | undefined {
    return this.#reading.scored?.(position);
  }

  reused(): void {}

  take(row: Row): void {
    if (this.#done || row.position !== this.#read) return;
    this.#reading.take(row);
    this.#read += 1;
    this.#endIfRead();
  }

  fail(error: unknown): void {
    if (this.#done) return;
    this.#done = true;
    this.#sink.fail(error);
  }

  #endIfRead(): void {
    if (this.#read < this.ids.length) return;
    this.#done = true;
    this.#sink.end(this.#reading.result());
  }
}
