/** What a task is given: the plan, where its files are, and whom to tell. */
import type { OutputFile } from "../lines.io.ts";
import type { Phase, Plan } from "./plan.ts";

/** How far a task has come since it last said so. */
export interface TaskProgress {
  readonly phase: Phase;
  /** Name of the source; absent where a task is about all of them. */
  readonly source?: string | undefined;
  /** UTF-8 bytes of text. */
  readonly bytes: number;
  readonly documents: number;
}

export interface TaskContext {
  readonly plan: Plan;
  /** The folder of the data. */
  readonly directory: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TaskProgress) => void) | undefined;
}

/** What a task has made. */
export interface TaskOutput<Value> {
  readonly files: readonly OutputFile[];
  readonly value: Value;
}

/** Documents between two reports of progress. */
const REPORT_DOCUMENTS = 256;
const REPORT_BYTES = 2 ** 20;

/** Collects progress and tells of it now and then; stops the task where it is aborted. */
export class Meter {
  readonly #context: TaskContext;
  readonly #phase: Phase;
  readonly #source: string | undefined;
  #bytes = 0;
  #documents = 0;

  constructor(context: TaskContext, phase: Phase, source?: string) {
    this.#context = context;
    this.#phase = phase;
    this.#source = source;
  }

  /** Adds documents. @throws the signal's reason. */
  add(bytes: number, documents = 1): void {
    this.#bytes += bytes;
    this.#documents += documents;
    if (this.#documents >= REPORT_DOCUMENTS || this.#bytes >= REPORT_BYTES) this.flush();
  }

  flush(): void {
    this.#context.signal?.throwIfAborted();
    const [bytes, documents] = [this.#bytes, this.#documents];
    this.#bytes = 0;
    this.#documents = 0;
    this.#context.onProgress?.({ phase: this.#phase, source: this.#source, bytes, documents });
  }
}
