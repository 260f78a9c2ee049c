/** What commands share: the process around them, option values, output. */
import type { Readable, Writable } from "node:stream";
import { DataError, UsageError } from "../errors.ts";

/** The process around a command. Tests pass their own. */
export interface Session {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  /** Results only, so that they can be piped. */
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  /** Progress, statistics and errors. */
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Aborted by Ctrl-C and SIGTERM. Whoever reads it must stop soon after: these no longer end the process at once. */
  readonly signal: AbortSignal;
  /** From now on Ctrl-C calls this instead of aborting the signal, each time. */
  onInterrupt(handler: () => void): void;
  /** Exit code of an interrupted process; undefined while nothing has interrupted it. */
  readonly interruptedCode: number | undefined;
}

/** Reads an option's or argument's value as a number. @throws UsageError saying what is expected. */
export function numberValue(
  name: string,
  expected: string,
  accepts: (value: number) => boolean,
): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (!accepts(value)) throw new UsageError(`${name}: "${text}", expected ${expected}`);
    return value;
  };
}

/** Reads a whole number from `least` on. */
export function wholeNumber(name: string, least: number): (text: string) => number {
  const accepts = (value: number) => Number.isSafeInteger(value) && value >= least;
  return numberValue(name, `a whole number from ${least} on`, accepts);
}

/** Reads whole numbers and ranges of them with commas between, such as 0,2,5-7. @throws UsageError saying what is expected. */
export function numberList(name: string): (text: string) => number[] {
  return (text) => {
    const parts = text.split(",").map((part) => {
      const [, first, last = first] = /^ *(\d+)(?:-(\d+))? *$/.exec(part) ?? [];
      const [from, to] = [Number(first), Number(last)];
      return to - from < 65536 ? Array.from({ length: to - from + 1 }, (_, index) => from + index) : [];
    });
    if (parts.every(({ length }) => length > 0)) return [...new Set(parts.flat())].sort((a, b) => a - b);
    throw new UsageError(`${name}: "${text}", expected numbers with commas, such as 0,2,5-7`);
  };
}

/** Writes a value for programs. */
export function writeJson({ stdout }: Session, value: unknown): void {
  stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** Text on standard input beyond this is no prompt. */
const MAX_INPUT_BYTES = 64 * 2 ** 20;

/**
 * All of standard input as text.
 * @throws UsageError with `hint` where it is a terminal; DataError for more than 64 MiB or bytes that are not UTF-8.
 */
export async function readInput({ stdin }: Session, missing: string, hint: string): Promise<string> {
  if (stdin.isTTY) throw new UsageError(missing, { hint });
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stdin) {
      const buffer = Buffer.from(chunk);
      chunks.push(buffer);
      bytes += buffer.length;
      if (bytes > MAX_INPUT_BYTES) break;
    }
  } catch (cause) {
    throw new DataError(`standard input: can not be read (${(cause as Error).message})`, { cause });
  }
  if (bytes > MAX_INPUT_BYTES) {
    throw new DataError(`standard input: more than ${MAX_INPUT_BYTES} bytes, expected a text`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    throw new DataError("standard input: not UTF-8, expected a text", { cause });
  }
}
