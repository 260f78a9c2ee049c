/** What the scheduler knows of a request: tokens to feed to the model, and who takes the rows that come out. */
import { OlmoeError } from "../errors.ts";
import type { InterventionPlan } from "../nn/intervention.ts";
import type { RouteStore } from "./routes.ts";

/** What a pass computed at one position of a sequence. */
export interface Row {
  readonly position: number;
  /** The token that was fed there. */
  readonly id: number;
  /** [V]. Valid until the next kernel call: a getter gives it anew. Only where the work wants logits. */
  readonly logits: Float32Array;
  /** [D], after the last norm; as above. */
  readonly hidden: Float32Array;
  /** log p(id) after this position, in f32, from the kernel that scores whole sequences. */
  logprob(id: number): number;
}

export interface Work {
  /** Tokens that the model has to have read; grows while text is generated. */
  readonly ids: Int32Array;
  /** Rows are wanted from this position on: always one before the end of `ids`. */
  readonly firstRow: number;
  readonly wants: "logits" | "hidden";
  /** Where the routing of its tokens is kept; undefined where nobody wants it. */
  readonly routes: RouteStore | undefined;
  /** Whether its pages go to the prefix cache, and may come from there. */
  readonly sharesPages: boolean;
  /** What changes the routing of its sequence. */
  readonly interventions: InterventionPlan | undefined;
  /** Guesses of the tokens after `ids` that this pass may check. */
  guesses(most: number): Int32Array;
  /** The id whose log-probability after a position is asked for, where that is known before the pass. */
  scored(position: number): number | undefined;
  /** Takes a row, in order of positions. A row whose token was a wrong guess has no meaning and is passed over. */
  take(row: Row): void;
  /** Told of tokens that need not be read because the prefix cache has their pages. */
  reused(tokens: number): void;
  /** There is nothing left to do. */
  readonly done: boolean;
  /** Ends it early. */
  fail(error: unknown): void;
}

export const NO_IDS: Int32Array = new Int32Array(0);

/** The error of a model that computes no numbers. */
export function notNumbers(message: string): OlmoeError {
  return new OlmoeError("E_LOGITS", message, {
    hint: "the model's weights are damaged or its training diverged: use an earlier checkpoint",
  });
}

/** Such an error with its place in front, instead of the function that found it; other errors as they are. */
export function namedError(error: unknown, request: number, position: number): unknown {
  if (!(error instanceof OlmoeError) || error.code !== "E_LOGITS") return error;
  return notNumbers(error.message.replace(/^(sampling: )?/, `request ${request}, position ${position}: `));
}
