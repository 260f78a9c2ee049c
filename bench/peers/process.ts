/** A peer runs in a process of its own and is driven step by step: one JSON line in, one JSON line out. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { UnsupportedError } from "../../src/errors.ts";

const STDERR_CHARACTERS = 4000;
const TIMEOUT_MS = 300_000;

export interface PeerCommand {
  /** For messages. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly signal?: AbortSignal;
}

export class PeerProcess implements Disposable {
  readonly #name: string;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Interface;
  #stderr = "";
  #ended: string | undefined;

  constructor({ name, command, args, signal }: PeerCommand) {
    this.#name = name;
    this.#child = spawn(command, args, signal ? { signal } : {});
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_CHARACTERS);
    });
    // "close" comes after both outputs are read, so that the last lines of stderr are in the message.
    this.#child.on("close", (code, killedBy) => this.#end(`ended with ${killedBy ?? `code ${code}`}`));
    this.#child.on("error", (error) => this.#end(error.message));
    this.#child.stdin.on("error", () => {});
  }

  /**
   * Sends one request and waits for its answer; requests must not overlap.
   * @throws UnsupportedError when the process ends, does not answer within five minutes, or answers something else.
   */
  async request<T>(message: object): Promise<T> {
    if (this.#ended !== undefined) throw this.#failure(this.#ended);
    const line = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => finish(`no answer in ${TIMEOUT_MS / 1000} s`), TIMEOUT_MS);
      const onLine = (text: string) => finish(undefined, text);
      const onEnd = () => finish(this.#ended ?? "ended");
      const finish = (fault: string | undefined, text = "") => {
        clearTimeout(timer);
        this.#lines.off("line", onLine);
        this.#child.off("close", onEnd);
        this.#child.off("error", onEnd);
        if (fault === undefined) resolve(text);
        else reject(this.#failure(fault));
      };
      this.#lines.once("line", onLine);
      this.#child.once("close", onEnd);
      this.#child.once("error", onEnd);
      this.#child.stdin.write(`${JSON.stringify(message)}\n`);
    });
    try {
      return JSON.parse(line) as T;
    } catch {
      throw this.#failure(`answered ${JSON.stringify(line.slice(0, 200))}, expected a line of JSON`);
    }
  }

  /** Ends the process. */
  [Symbol.dispose](): void {
    this.#child.kill();
  }

  #end(how: string): void {
    this.#ended ??= how;
  }

  #failure(fault: string): UnsupportedError {
    const stderr = this.#stderr.trim();
    return new UnsupportedError(`peer ${this.#name}: ${fault}${stderr === "" ? "" : `\n${stderr}`}`, {
      hint: "pass --no-peers to measure without it",
    });
  }
}

/**
 * Opens a peer where the machine offers it.
 * @param notice is told why it is missing.
 */
export async function optionalPeer(
  open: () => Promise<PeerProcess>,
  notice: (text: string) => void,
): Promise<PeerProcess | undefined> {
  try {
    return await open();
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    notice(`${error.message}\nHint: ${error.hint}`);
    return undefined;
  }
}
