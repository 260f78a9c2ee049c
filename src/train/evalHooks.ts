/**
 * What is measured in the middle of training. A hook gets the model as it is and returns named numbers; held-out loss is one
 * hook, downstream tasks are others.
 */
import type { Backend } from "../backend/backend.ts";
import type { HeldOutText } from "../data/heldOut.ts";
import { ConfigError } from "../errors.ts";
import type { Decoder } from "../model/decoder.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type Evaluation, evaluate } from "./evaluate.ts";

/** The run as a hook sees it. The weights must not be changed. */
export interface EvalContext {
  readonly backend: Backend;
  readonly decoder: Decoder;
  readonly tokenizer: Tokenizer;
  readonly heldOut: readonly HeldOutText[];
  /** Steps done, and tokens trained on. */
  readonly step: number;
  readonly tokens: number;
  /** Length of a training sequence, in tokens. */
  readonly sequenceLength: number;
  readonly documentMask: boolean;
  /** Held-out tokens of each source that an evaluation in between is to look at; undefined at the end: all. */
  readonly maxTokens: number | undefined;
  /** When aborted, throw its reason soon. */
  readonly signal: AbortSignal | undefined;
}

/** Something to measure at each evaluation. */
export interface EvalHook {
  /** First part of its results' names: lower-case letters, digits, - and _. */
  readonly name: string;
  /**
   * Measures. The same weights must give the same numbers, so that a resumed run writes what an uninterrupted one does.
   * @returns numbers by name, such as { acc_norm: 0.31 }; they are logged as HOOK/NAME.
   */
  run(context: EvalContext): Promise<Readonly<Record<string, number>>>;
}

/** Perplexity of each source's held-out text, exp(nats per token), and of all of it ("all"). */
export class HeldOutPerplexity implements EvalHook {
  readonly name = "perplexity";
  #evaluation: Evaluation | undefined;

  /** The newest evaluation with all it measured. */
  get evaluation(): Evaluation {
    if (this.#evaluation === undefined) throw new Error("internal: nothing is evaluated yet");
    return this.#evaluation;
  }

  async run(context: EvalContext): Promise<Record<string, number>> {
    const { backend, decoder, heldOut, tokenizer, ...options } = context;
    this.#evaluation = await evaluate(backend, decoder, heldOut, { ...options, eosTokenId: tokenizer.eosTokenId });
    const { sources, natsPerToken } = this.#evaluation;
    const bySource = sources.map(({ source, natsPerToken: nats }) => [source, Math.exp(nats)]);
    return { ...Object.fromEntries(bySource), all: Math.exp(natsPerToken) };
  }
}

/** @throws ConfigError for a hook whose name can not be logged or is another's. */
export function checkHooks(hooks: readonly EvalHook[]): void {
  for (const [index, { name }] of hooks.entries()) {
    const fault = !/^[a-z0-9][a-z0-9_-]*$/.test(name)
      ? "must be lower-case letters, digits, - and _"
      : hooks.findIndex((hook) => hook.name === name) < index
        ? "is the name of another hook"
        : undefined;
    if (fault !== undefined) throw new ConfigError(`evaluation hook "${name}": ${fault}`);
  }
}

/**
 * Runs hooks one after the other.
 * @returns their results as HOOK/NAME, and a sentence for each result that is no finite number, which is left out: one
 *   measurement is no reason to end a run.
 */
export async function runHooks(
  hooks: readonly EvalHook[],
  context: EvalContext,
): Promise<{ readonly results: Record<string, number>; readonly warnings: string[] }> {
  const results: Record<string, number> = {};
  const warnings: string[] = [];
  for (const hook of hooks) {
    context.signal?.throwIfAborted();
    for (const [name, value] of Object.entries(await hook.run(context))) {
      if (Number.isFinite(value)) results[`${hook.name}/${name}`] = value;
      else warnings.push(`step ${context.step}: evaluation ${hook.name}/${name} is ${value} and left out`);
    }
  }
  return { results, warnings };
}
