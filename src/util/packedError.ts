/** Errors on their way out of a worker thread: plain data, and the same class again on the other side. */
import * as errors from "../errors.ts";

export interface PackedError {
  readonly name: string;
  readonly message: string;
  readonly code?: string | undefined;
  readonly hint?: string | undefined;
  readonly stack?: string | undefined;
}

export function packError(error: unknown): PackedError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const { name, message, stack } = error;
  if (!(error instanceof errors.OlmoeError)) return { name, message, stack };
  return { name, message, code: error.code, hint: error.hint };
}

/** The error as its class makes it; one that is not deliberate is a defect, and keeps the worker's stack. */
export function unpackError({ name, message, code, hint, stack }: PackedError): Error {
  const details = hint === undefined ? {} : { hint };
  if (code === undefined) return new Error(`internal: in the worker: ${name}: ${message}`, { cause: stack });
  const named = Object.entries(errors).find(([key]) => key === name)?.[1];
  if (named === undefined || named === errors.OlmoeError) return new errors.OlmoeError(code, message, details);
  return new (named as typeof errors.ConfigError)(message, details);
}
