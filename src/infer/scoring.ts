/** The work of reading a sequence: log-probabilities, logits, embeddings. */
import { ResourceError } from "../errors.ts";
import type { InterventionPlan } from "../nn/intervention.ts";
import { NO_IDS, notNumbers, type Row, type Work } from "./work.ts";

/** What is made of the rows of a sequence. */
export interface Reading {
  /** Tokens to feed. */
  readonly ids: Int32Array;
  readonly wants: Work["wants"];
  take(row: Row): void;
  result(): Float32Array;
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

/** Told of a reading: one of the two is called, once. */
export interface ReadingSink {
  end(result: Float32Array): void;
  fail(error: unknown): void;
}

export class ReadingWork implements Work {
  readonly sharesPages = false;
  readonly wantsRouting = false;
  readonly interventions: InterventionPlan | undefined;
  readonly ids: Int32Array;
  readonly wants: Work["wants"];
  readonly #reading: Reading;
  readonly #sink: ReadingSink;
  #read = 0;
  #done = false;

  constructor(reading: Reading, sink: ReadingSink, interventions?: InterventionPlan) {
    this.interventions = interventions;
    this.ids = reading.ids;
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
